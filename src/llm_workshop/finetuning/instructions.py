"""Instructions with answers by name: the sample's, the book's, the Korean set made of labelled data, files of one's own.

    sample     conversations, sentiment of reviews, entailment and reading, from the sample generator (always there)
    book       the book's 1,100 English instructions (``english/instruction-data.json*`` under DATA_DIR)
    sft_ko     39,616 Korean instructions of 14 tasks (``derived_sft_ko/*.jsonl*`` under DATA_DIR)
    a path     .json or .jsonl with ``instruction``, ``input``, ``output``, or with ``messages``
"""

from __future__ import annotations

import difflib
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_workshop.corpora.loaders import data_folders, find_files, is_path, read_rows
from llm_workshop.corpora.sample.generator import generate
from llm_workshop.finetuning.tasks import body_of
from scratch_llm.finetuning.templates import Example

FILES = {
    "book": (("english/instruction-data.json*",), ()),
    "sft_ko": (("derived_sft_ko/train.jsonl*",), ("derived_sft_ko/valid.jsonl*",)),
}
SETS = ("sample", *FILES)
SAMPLE_MEGABYTES = 2.0
SAMPLE_SHARES = {"chat": 0.4, "review": 0.25, "sentence_pair": 0.15, "reading": 0.2}
"""Kinds of documents of the sample, by the share of its size: in the corpus there are twenty chats to a review."""
HELD_OUT = 10
"""One in so many rows is held out where a set has no validation file."""

_SENTIMENTS = {"negative": "부정", "mixed": "복합", "positive": "긍정"}
_RELATIONS = {"entailment": "함의", "neutral": "중립", "contradiction": "모순"}
_ASK_SENTIMENT = "다음 글쓴이의 평가를 긍정, 부정, 복합 가운데 하나로 답하세요."
_ASK_RELATION = "전제와 가설의 관계를 함의, 중립, 모순 가운데 하나로 답하세요."
_ASK_READING = "글을 읽고 질문에 짧게 답하세요."


@dataclass(frozen=True)
class Instructions:
    """What there is to learn from, and what is asked afterwards; no question of one is in the other."""

    train: tuple[Example, ...]
    valid: tuple[Example, ...]
    names: tuple[str, ...]
    files: tuple[Path, ...] = ()
    repeated: int = 0
    """Training examples left out because their question is asked afterwards."""

    @property
    def tasks(self) -> list[str]:
        return sorted({example.task for example in self.valid})


def load_instructions(names: Iterable[str], *, tasks: Iterable[str] | None = None, max_examples: int | None = None,
                      megabytes: float | None = None, per_task: int | None = None, seed: int = 0) -> Instructions:
    """Join the sets of those names.

    Args:
        tasks: only these; None: all that there are.
        max_examples: at most so many training examples in all, chosen at random.
        megabytes: size of the sample that conversations and tasks are taken from.
        per_task: at most so many held-out examples of each task.

    Raises:
        ValueError: an unknown name or task (the nearest is suggested), rows of another form, or nothing at all.
        FileNotFoundError: the set's files are not there.
    """
    train, valid, files = [], [], []
    for name in (names := tuple(names)):
        if name == "sample":
            size = megabytes or SAMPLE_MEGABYTES
            train += _sample(size, "train", seed)
            valid += _sample(max(0.2, size / 10), "valid", seed)
            continue
        parts = _files_of(name)
        files += [path for part in parts for path in part]
        given = [[example for path in part for example in _from_file(path, name)] for part in parts]
        if not parts[1]:
            given = [[e for i, e in enumerate(given[0]) if i % HELD_OUT], given[0][::HELD_OUT]]
        train += given[0]
        valid += given[1]
    if tasks is not None:
        wanted = _known(tasks, train)
        train, valid = ([example for example in part if example.task in wanted] for part in (train, valid))
    asked = {_question(example) for example in valid}
    kept = [example for example in train if _question(example) not in asked]
    if not kept or not valid:
        raise ValueError(f"instruct.data={','.join(names)} has {len(kept)} examples to learn from and {len(valid)} to ask: give more rows")
    shuffle = random.Random(f"{seed}/instructions")
    shuffle.shuffle(kept)
    shuffle.shuffle(valid)
    if per_task is not None:
        valid = [example for task in sorted({e.task for e in valid}) for example in [e for e in valid if e.task == task][:per_task]]
    return Instructions(tuple(kept[:max_examples]), tuple(valid), names, tuple(files), len(train) - len(kept))


def _known(tasks: Iterable[str], examples: Iterable[Example]) -> set[str]:
    """The tasks as a set; ValueError for one that no example has."""
    there = sorted({example.task for example in examples})
    for task in tasks:
        if task not in there:
            close = difflib.get_close_matches(task, there, n=1, cutoff=0.5)
            raise ValueError(f"no task '{task}' in the data{f' (did you mean {close[0]!r}?)' if close else ''}: it has {', '.join(there)}")
    return set(tasks)


def _question(example: Example) -> tuple[str, ...]:
    return tuple(message["content"] for message in example.prompt if message["role"] == "user")


# -- files ------------------------------------------------------------------------------------------------------------


def _files_of(name: str) -> tuple[list[Path], list[Path]]:
    if is_path(name):
        if not Path(name).is_file():
            raise FileNotFoundError(f"no file {name}: check the path of the instructions")
        return [Path(name)], []
    if name not in FILES:
        close = difflib.get_close_matches(name, SETS, n=1, cutoff=0.5)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        raise ValueError(f"unknown instructions '{name}'{hint}: use {', '.join(SETS)}, or the path of a .json or .jsonl file")
    train, valid = (find_files(patterns) for patterns in FILES[name])
    if not train:
        searched = ", ".join(str(folder / FILES[name][0][0]) for folder in data_folders())
        raise FileNotFoundError(f"instruct.data={name}: no files at {searched}; set DATA_DIR to the folder that has them, or "
                                "take instruct.data=sample, which is always there")
    return train, valid


def _from_file(path: Path, name: str) -> Iterator[Example]:
    for number, row in enumerate(read_rows(path), 1):
        try:
            yield example_of(row, default_task=Path(name).stem if is_path(name) else name)
        except ValueError as problem:
            raise ValueError(f"{path}, row {number}: {problem}") from None


def example_of(row: dict[str, Any], default_task: str = "") -> Example:
    """An example from a row of Alpaca's form, or with ``messages``; ValueError for anything else."""
    if "messages" not in row:
        return Example.from_row({"task": default_task} | row)
    messages = row["messages"]
    if not isinstance(messages, list) or not all(isinstance(m, dict) and {"role", "content"} <= set(m) for m in messages):
        raise ValueError('messages must be a list of {"role": "...", "content": "..."}')
    return Example(tuple(messages), task=str(row.get("task", default_task)), id=str(row.get("id", "")))


# -- the sample -------------------------------------------------------------------------------------------------------


def _sample(megabytes: float, split: str, seed: int) -> Iterator[Example]:
    """Conversations as they are; of three other kinds of documents a question whose answer is known."""
    documents = (d for kind, share in SAMPLE_SHARES.items() for d in generate(megabytes * share, seed=seed, split=split, kinds=(kind,)))
    for document in documents:
        truth = document.truth
        if document.kind == "chat":
            yield Example(document.messages, task="대화", id=document.id)
        elif document.kind == "review":
            yield _task("감성", _ASK_SENTIMENT, body_of(document.text), _SENTIMENTS[truth["sentiment"]], document.id)
        elif document.kind == "sentence_pair":
            pair = f"전제: {truth['premise']}\n가설: {truth['hypothesis']}"
            yield _task("관계", _ASK_RELATION, pair, _RELATIONS[truth["label"]], document.id)
        elif truth["qa"]:
            asked = truth["qa"][0]
            yield _task("독해", _ASK_READING, f"{truth['passage']}\n질문: {asked['question']}", asked["answer"], document.id)


def _task(task: str, instruction: str, text: str, answer: str, identifier: str) -> Example:
    return Example.from_row({"instruction": instruction, "input": text, "output": answer, "task": task, "id": identifier})
