"""The chain from raw text to a model that answers, as the manifests of a run tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llm_workshop.artifacts import MAKE_TARGETS, Artifacts, make_command

#: stage -> (Korean name, what it stands on).  Stages that are not named here are shown under their own name.
STAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "raw": ("모은 글", ()),
    "clean": ("다듬은 글", ("raw",)),
    "curated": ("고른 글", ("clean",)),
    "corpus": ("말뭉치", ()),
    "tokenizer": ("토크나이저", ("corpus",)),
    "tokens": ("토큰 파일", ("corpus", "tokenizer")),
    "base-model": ("기반 모델", ("tokenizer", "tokens")),
    "nemo-run": ("NeMo Run으로", ("tokenizer", "tokens")),
    "automodel": ("AutoModel로", ("tokenizer", "tokens")),
    "classifier": ("분류기", ("base-model",)),
    "chat-model": ("대화 모델", ("base-model",)),
}
State = Literal["done", "stale", "damaged", "missing"]
KOREAN: dict[State, str] = {"done": "있음", "stale": "재료가 바뀜", "damaged": "손상됨", "missing": "아직 없음"}


@dataclass(frozen=True)
class Link:
    """One stage of a run.  Sizes are bytes, ``seconds`` the time its making took; None where it is not there."""

    stage: str
    title: str
    target: str
    inputs: tuple[str, ...]
    state: State
    n_bytes: int | None = None
    seconds: float | None = None
    digest: str | None = None
    created: str | None = None
    problem: str = ""
    """What is wrong with it, where it is damaged or stale."""


def read_chain(artifacts: Artifacts) -> list[Link]:
    """Every stage in the order of the course.  A damaged manifest is a finding, not an error."""
    names = [*STAGES, *(name for name in MAKE_TARGETS if name not in STAGES)]
    return [read_link(artifacts, name) for name in names]


def read_link(artifacts: Artifacts, stage: str) -> Link:
    """One stage: not there, there with all its files, damaged, or made from inputs that have changed since."""
    title, inputs = STAGES.get(stage, (stage, ()))
    about = {"stage": stage, "title": title, "target": make_command(artifacts.settings, MAKE_TARGETS[stage]), "inputs": inputs}
    if not (artifacts.path(stage) / "manifest.json").is_file():
        return Link(**about, state="missing")
    try:
        artifacts.require(stage)
        manifest = artifacts.read_manifest(stage)
        about["inputs"] = tuple(manifest["inputs"]) or inputs
        facts = {
            "n_bytes": sum(file["bytes"] for file in manifest["files"].values()),
            "seconds": float(manifest["seconds"]), "digest": artifacts.content_digest(stage), "created": manifest["created"],
        }  # fmt: skip
        changed = [name for name, digest in manifest["inputs"].items() if _digest(artifacts, name) != digest]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Link(**about, state="damaged", problem=str(error))
    if changed:
        return Link(**about, **facts, state="stale", problem=f"만들 때와 다른 재료: {', '.join(changed)}")
    return Link(**about, **facts, state="done")


def _digest(artifacts: Artifacts, stage: str) -> str | None:
    try:
        return artifacts.content_digest(stage)
    except (ValueError, KeyError):
        return None


def chain_rows(links: list[Link]) -> list[dict[str, object]]:
    """The links as a table."""
    return [
        {
            "단계": link.title, "이름": link.stage, "상태": KOREAN[link.state], "크기": human_bytes(link.n_bytes),
            "걸린 시간 (초)": link.seconds, "내용의 지문": link.digest and link.digest[:12], "만드는 명령": link.target,
        }
        for link in links
    ]  # fmt: skip


def human_bytes(n_bytes: float | None) -> str:
    """1234567 -> "1.2 MB" (decimal units, as disks are sold)."""
    if n_bytes is None:
        return "–"
    for unit in ("바이트", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "바이트" or n_bytes >= 100 else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.1f} TB"
