"""The workshop's environments: which are built, and which version of what each holds, without starting any of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from llm_workshop.machine import Machine
from llm_workshop.workspace import workspace


@dataclass(frozen=True)
class Environment:
    """One group of pins (``environments/<name>.txt``) and what it is for (Korean)."""

    name: str
    purpose: str
    command: str

    @property
    def folder(self) -> Path:
        """Where it is installed: core is the environment that runs this."""
        if self.name == "core":
            return Path(sys.prefix)
        given = os.environ.get(f"WORKSHOP_{self.name.upper()}_ENVIRONMENT")
        return Path(given) if given else workspace().resolve() / ".envs" / self.name

    @property
    def python(self) -> Path:
        return Path(sys.executable) if self.name == "core" else self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path | None:
        """Where its packages lie; None if it is not there."""
        if self.name == "core":
            return Path(metadata.distribution("numpy").locate_file(""))
        return next(iter(sorted(self.folder.glob("lib/python3*/site-packages"))), None)

    @property
    def state(self) -> str:
        """``ready``; ``unfinished`` where an installation broke off; ``foreign`` where its Python does not run here (made
        outside of this container, say); ``missing``."""
        if self.name == "core":
            return "ready"
        if self.site_packages is None:
            return "missing"
        if not (self.folder / ".installed").is_file():
            return "unfinished"
        return "ready" if self._runs() else "foreign"

    def _runs(self) -> bool:
        try:
            return subprocess.run([str(self.python), "-c", ""], capture_output=True, timeout=60).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            return False


ENVIRONMENTS = {
    environment.name: environment
    for environment in (
        Environment("core", "모든 실습", "make install"),
        Environment("triton", "8주차의 서버", "make env-triton"),
        Environment("curate", "2주차에서 견주는 도구", "make env-curate"),
        Environment("nemo", "1·5·6주차의 NVIDIA 도구", "make env-nemo"),
        Environment("nemorun", "5주차에서 학습을 보내는 도구", "make env-nemorun"),
    )
}
KOREAN_STATE = {"ready": "준비됨", "unfinished": "설치하다 멈춤", "foreign": "여기서는 돌지 않음", "missing": "아직 없음"}
SHOWN = (
    "torch", "numpy", "transformers", "tokenizers", "datasets", "pyarrow", "pydantic", "nemo-automodel", "nemo-toolkit", "megatron-core",
    "nemo-run", "nemo-curator", "datatrove", "nvidia-pytriton", "gradio",
)  # fmt: skip


def installed_version(environment: Environment, package: str) -> str | None:
    """Version of a distribution in that environment; None if it is not there."""
    folder = environment.site_packages
    if folder is None:
        return None
    found = next(iter(metadata.Distribution.discover(name=package, path=[str(folder)])), None)
    return found.version if found else None


def pinned_versions(environment: Environment) -> dict[str, str]:
    """Package (lower case, hyphens) -> version, from ``environments/<name>.txt``."""
    text = Machine().read(Machine.repository / "environments" / f"{environment.name}.txt") or ""
    return {name.lower().replace("_", "-"): version for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE)}


def environment_rows() -> list[dict[str, object]]:
    """Each environment: what for, whether it is there, its Python, how far it is from its pins, how to make it."""
    rows = []
    for environment in ENVIRONMENTS.values():
        pins, folder = pinned_versions(environment), environment.site_packages
        state = environment.state
        drifted = [p for p, pin in pins.items() if (have := installed_version(environment, p)) and have.partition("+")[0] != pin]
        drift = None if folder is None else "핀과 같음" if not drifted else f"{len(drifted)}개 다름: {', '.join(drifted[:3])}"
        rows.append({
            "환경": environment.name, "쓰임": environment.purpose, "상태": KOREAN_STATE[state],
            "Python": folder and folder.parent.name.removeprefix("python"), "핀": drift, "만드는 명령": environment.command,
        })  # fmt: skip
    return rows


def version_rows() -> list[dict[str, object]]:
    """The matrix: a row per package, a column per environment; None where it is not installed."""
    rows = [{"패키지": p} | {name: installed_version(e, p) for name, e in ENVIRONMENTS.items()} for p in SHOWN]
    return [row for row in rows if any(row[name] for name in ENVIRONMENTS)]
