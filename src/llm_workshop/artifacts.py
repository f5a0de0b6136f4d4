"""The chain of artifacts on disk: each stage is a folder that appears whole, with a manifest.

A stage is current when its manifest was made from the same settings and from the same inputs; then
nothing is built again.  Nothing is ever changed in place.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from llm_workshop.settings import Settings, settings_digest
from llm_workshop.workspace import workspace
from scratch_llm.io import atomic_directory, atomic_write, sha256_of

STAGES = ("corpus", "tokenizer", "tokens", "base-model")
#: What a person runs to get each stage; every error that misses one says so.
MAKE_TARGETS = {
    "raw": "make week2-collect",
    "clean": "make week2-clean",
    "curated": "make week2-dedup",
    "corpus": "make corpus",
    "tokenizer": "make week3-tokenizer",
    "tokens": "make tokens",
    "base-model": "make week5-pretrain",
    "automodel": "make week5-automodel",
    "nemo-run": "make week5-automodel",
    "chat-model": "make week6-instruct",
    "classifier": "make week6-finetune",
}
_VERSIONED = ("torch", "numpy", "transformers", "tokenizers", "llm-from-scratch-workshop")


def is_forced(force: bool | None = None) -> bool:
    """Whether to do again what is there: as ``force`` says; None: where FORCE=1 is set."""
    return os.environ.get("FORCE") == "1" if force is None else force


@dataclass
class StageWriter:
    """A stage while it is being written: put files into ``folder`` and figures into ``metrics``."""

    folder: Path
    metrics: dict[str, Any] = field(default_factory=dict)


class Artifacts:
    """The folder ``artifacts/<run>/`` of one combination of SCALE and DATA."""

    def __init__(self, settings: Settings, root: str | Path | None = None):
        self.settings = settings
        base = Path(root or os.environ.get("ARTIFACTS_DIR") or workspace() / "artifacts")
        self.root = base / settings.run_name

    @property
    def served(self) -> str:
        """The stage whose model the page, the server and the terminal ask: ``chat.model``."""
        return self.settings.chat.model

    def path(self, stage: str) -> Path:
        return self.root / stage

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    def work(self, stage: str, used: Any, inputs: Sequence[str] = ()) -> Path:
        """Where unfinished long work of a stage is kept; other settings or inputs get another folder."""
        return self.root / ".work" / f"{stage}-{self._identity(used, inputs)[:12]}"

    def clear_work(self, stage: str) -> None:
        """Delete unfinished work of a stage, under whatever settings it was done."""
        for folder in self.root.glob(f".work/{stage}-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def read_manifest(self, stage: str) -> dict[str, Any]:
        """The manifest of a finished stage; ``ValueError`` names the target that builds a missing one."""
        path = self.path(stage) / "manifest.json"
        if not path.is_file():
            raise ValueError(
                f"no {stage} at {self.path(stage)}: run '{self._command(stage)}' first"
            )
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise ValueError(f"{path} is damaged: run '{self._command(stage)} FORCE=1' to build it again") from None

    def require(self, stage: str) -> Path:
        """The folder of a finished stage whose files are all there with their recorded sizes."""
        manifest = self.read_manifest(stage)
        folder = self.path(stage)
        for name, facts in manifest.get("files", {}).items():
            file = folder / name
            if not file.is_file() or file.stat().st_size != facts["bytes"]:
                state = "damaged" if file.is_file() else "missing"
                raise ValueError(f"{file} is {state}: run '{self._command(stage)} FORCE=1' to build it again")
        return folder

    def is_current(self, stage: str, used: Any, inputs: Sequence[str] = (), force: bool | None = None) -> bool:
        """True if the stage is complete and was made from these settings and the present inputs.

        ``force`` (None: whether FORCE=1 is set) makes it False whatever is there.
        """
        if is_forced(force):
            return False
        try:
            self.require(stage)
            return self.read_manifest(stage)["identity"] == self._identity(used, inputs)
        except (ValueError, KeyError):
            return False

    def skip_if_current(
        self, stage: str, used: Any, inputs: Sequence[str] = (), force: bool | None = None
    ) -> bool:
        """Like ``is_current``, and says so; the manifest's time is renewed so that Make agrees."""
        if not self.is_current(stage, used, inputs, force):
            return False
        os.utime(self.path(stage) / "manifest.json")
        print(f"{stage}: up to date at {self.path(stage)} (FORCE=1 builds it again)", flush=True)
        return True

    @contextlib.contextmanager
    def write_stage(self, stage: str, used: Any, inputs: Sequence[str] = ()) -> Iterator[StageWriter]:
        """Write a stage into a temporary folder that replaces the old one only when all went well."""
        identity, started = self._identity(used, inputs), time.perf_counter()
        with atomic_directory(self.path(stage)) as folder:
            writer = StageWriter(folder)
            yield writer
            manifest = {
                "stage": stage,
                "identity": identity,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "commit": git_commit(),
                "scale": self.settings.scale,
                "data": list(self.settings.data),
                "seed": self.settings.seed,
                "settings": json.loads(json.dumps(used, default=lambda v: v.model_dump(mode="json"))),
                "inputs": {name: self.content_digest(name) for name in inputs},
                "files": _describe_files(folder),
                "versions": _versions(),
                "device": device_name(),
                "metrics": writer.metrics,
                "seconds": round(time.perf_counter() - started, 3),
            }
            with atomic_write(folder / "manifest.json") as stream:
                json.dump(manifest, stream, ensure_ascii=False, indent=2)
        print(f"{stage}: written to {self.path(stage)} in {manifest['seconds']:.1f} s", flush=True)

    def content_digest(self, stage: str) -> str:
        """Digest over the files of a stage (not over when or where it was made)."""
        files = self.read_manifest(stage)["files"]
        return settings_digest({name: facts["sha256"] for name, facts in files.items()})

    def _identity(self, used: Any, inputs: Sequence[str]) -> str:
        return settings_digest([used, {name: self.content_digest(name) for name in inputs}])

    def _command(self, stage: str) -> str:
        return make_command(self.settings, MAKE_TARGETS.get(stage, "make demo"))


def make_command(settings: Settings, target: str, args: str = "") -> str:
    """What a person types to run ``target`` for the same run: SCALE, DATA and SEED where they are not the defaults.

    ``target`` is a word (``week3-tokenizer``) or begins with ``make``; ``args`` are settings for ARGS.
    """
    words = [target if target.startswith("make ") else f"make {target}"]
    if settings.scale != "laptop":
        words.append(f"SCALE={settings.scale}")
    if settings.data != ("sample",):
        words.append(f"DATA={shlex.quote(','.join(settings.data))}")
    if settings.seed:
        words.append(f"SEED={settings.seed}")
    if args:
        words.append(f'ARGS="{args}"')
    return " ".join(words)


def git_commit() -> str | None:
    """Short hash of the checkout, with ``-dirty`` if it has changes; None outside a checkout."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        here = Path(__file__).resolve().parent
        result = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None if result.returncode == 0 else None


def device_name() -> str:
    """The GPU's name, or the processor's."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()}, {torch.get_num_threads()} threads"
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def _describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): {"bytes": p.stat().st_size, "sha256": sha256_of(p)} for p in files}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _VERSIONED:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
