"""Where the models of rules are: ``artifacts/filters/``, or the folder that CURATION_MODELS names. Those that need only the sample are trained when first asked for."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from llm_workshop.curation.models import training
from llm_workshop.curation.models.classifier import HashedTextClassifier
from llm_workshop.workspace import workspace
from scratch_llm.ngram import CharacterNGramModel

COMMAND = "python -m llm_workshop.curation.models"


class Kind(NamedTuple):
    """A sort of model: ``version`` grows when its training changes, so that an old file is not taken for it."""

    version: int
    train: Callable[[], Any]
    load: Callable[[Path], Any]
    at_first_use: bool  # True: needs seconds and the sample only


KINDS: dict[str, Kind] = {
    "spam": Kind(2, training.train_spam, HashedTextClassifier.load, True),
    "korean": Kind(1, training.train_korean, CharacterNGramModel.load, True),
    "hate": Kind(2, training.train_hate, HashedTextClassifier.load, False),
}


def default_path(name: str) -> Path:
    """The file of a model that no setting names."""
    base = Path(os.environ.get("ARTIFACTS_DIR") or workspace() / "artifacts")
    folder = Path(os.environ.get("CURATION_MODELS") or base / "filters")
    return folder / f"{name}-{KINDS[name].version}.safetensors"


def obtain(name: str, path: str = "") -> Any:
    """The model of a file, or the default one, trained first where that is a matter of seconds.

    Raises ValueError that says how to train it where it is not there, or where the file is something else.
    """
    file, kind = Path(path) if path else default_path(name), KINDS[name]
    if not file.is_file():
        if path or not kind.at_first_use:
            raise ValueError(f"no model '{name}' at {file}: train it with '{COMMAND} {name}{f' --out {path}' if path else ''}'")
        train_default(name)
    return kind.load(file)


def train_default(name: str, force: bool = False) -> Path:
    """Train into the default place; of several processes that want it, one trains and the others wait."""
    file = default_path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    with _lock(file.with_name(f".{name}.lock")):
        if force or not file.is_file():
            print(f"규칙이 쓰는 모델 '{name}'을(를) 처음 한 번 배웁니다 (몇 초): {file}", flush=True)
            KINDS[name].train().save(file)
    return file


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    with open(path, "w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
