"""Tasks of text classification by name: the sample's reviews, real sets where their files are, and files of one's own.

    reviews            the sample's reviews: positive, negative or mixed (always there)
    reviews-category   of what the review is: film, book, restaurant ... (always there)
    nsmc, sms, ...     files of ``DATA_DIR`` (see ``SETS``)
    a path             .jsonl, .csv or .tsv with the columns ``text`` and ``label``
"""

from __future__ import annotations

import difflib
import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from llm_workshop.corpora.loaders import data_folders, find_files, is_path, read_lines, read_rows
from llm_workshop.corpora.sample.generator import generate

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Examples:
    """Texts and the class of each, a number below ``len(task.class_names)``."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Task:
    """What there is to learn.  No text of one split is in another."""

    name: str
    title: str
    class_names: tuple[str, ...]
    train: Examples
    valid: Examples
    test: Examples
    dropped: dict[str, int] = field(default_factory=dict)
    """Rows left out, by reason: "empty", "repeated" (in this or an earlier split), "contradictory" (one text, two classes)."""

    @property
    def n_classes(self) -> int:
        return len(self.class_names)

    def split(self, name: str) -> Examples:
        return getattr(self, name)


Row = tuple[str, str]
"""A text and the name of its class."""


@dataclass(frozen=True)
class LabelledSet:
    """Where a set's files are (patterns under DATA_DIR), which columns to read, and how classes are called.

    Where there is no test file a tenth of the rows is the test part; a twentieth (at most 5,000) is held out for validation.
    """

    title: str
    files: tuple[str, ...]
    test_files: tuple[str, ...] = ()
    text_fields: tuple[str, ...] = ("text",)
    label_field: str = "label"
    class_names: dict[str, str] = field(default_factory=dict)
    """Value in the file -> name; the order of classes is this one.  Empty: the values themselves, sorted."""
    heading: bool = True
    """False: lines of a class, a tab and a text, without names of columns."""


SETS: dict[str, LabelledSet] = {
    "nsmc": LabelledSet("네이버 영화 리뷰의 감성 (NSMC)", ("nsmc/train.tsv*", "nsmc/ratings_train.txt*"),
                        ("nsmc/test_a.tsv*", "nsmc/ratings_test.txt*"), ("document",), class_names={"0": "부정", "1": "긍정"}),
    "sms": LabelledSet("SMS 스팸 (영어)", ("english/SMSSpamCollection*",), class_names={"ham": "보통", "spam": "스팸"}, heading=False),
    "sentineg": LabelledSet("부정 표현이 든 상품평의 감성 (KoBEST SentiNeg)", ("kobest/sentineg_train.jsonl*",),
                            ("kobest/sentineg_dev.jsonl*",), ("sentence",), class_names={"0": "부정", "1": "긍정"}),
    "intent": LabelledSet("말의 의도 일곱 가지 (3i4K)", ("intent_3i4k/train.jsonl*",),
                          class_names={"0": "조각", "1": "평서", "2": "질문", "3": "명령", "4": "수사 의문", "5": "수사 명령", "6": "억양 의존"}),
    "petitions": LabelledSet("국민 청원의 분야", ("pretrain_ko/petitions_train.jsonl*",), ("pretrain_ko/petitions_valid.jsonl*",),
                             ("title", "text"), "category"),
}
SAMPLE_TASKS = ("reviews", "reviews-category")


def load_task(name: str, *, max_examples: int | None = None, seed: int = 0) -> Task:
    """The task of that name, or in the file of that path.

    Args:
        max_examples: at most so many training texts (and a quarter as many in validation and test each); the sample makes so
            many, 4,000 by default.
        seed: of the sample, and of which rows are taken and held out.

    Raises:
        ValueError: an unknown name (the nearest is suggested), a row without text or label fields or with an empty label, fewer than two classes,
            a class with no training text, or too few rows to hold some out.
        FileNotFoundError: the set's files are not there.
    """
    if max_examples is not None and max_examples < 8:
        raise ValueError(f"max_examples {max_examples} is too few to learn from: give 8 or more")
    if name in SAMPLE_TASKS:
        return _sample_task(name, max_examples or 4000, seed)
    if is_path(name):
        if not Path(name).is_file():
            raise FileNotFoundError(f"no file {name}: check the path of the labelled texts")
        return _file_task(name, LabelledSet(Path(name).name, ()), [Path(name)], [], max_examples, seed)
    if name not in SETS:
        known = (*SAMPLE_TASKS, *SETS)
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        raise ValueError(f"unknown task '{name}'{hint}: use {', '.join(known)}, or the path of a file with text and label")
    labelled = SETS[name]
    files = find_files(labelled.files)
    if not files:
        searched = ", ".join(str(folder / labelled.files[0]) for folder in data_folders())
        raise FileNotFoundError(f"task '{name}': no files at {searched}; set DATA_DIR to the folder that has them, or take "
                                "the task 'reviews', which is always there")
    return _file_task(name, labelled, files, find_files(labelled.test_files), max_examples, seed)


# -- the sample ----------------------------------------------------------------------------------------------------

_SENTIMENTS = {"negative": "부정", "mixed": "복합", "positive": "긍정"}
_CATEGORIES = {"book": "책", "film": "영화", "gadget": "물건", "lecture": "강의", "lodging": "숙소", "restaurant": "식당"}
# A review's heading and last line give the mark away: nothing would be left to learn.
_HEADING = re.compile(r"^(\[[^\]]*\] .*|제목: .*|[★☆]+ .*|.* \(\d+/10\)|.* · \d+점)$")
_MARK = re.compile(r"^(평점 \d+점|별점: \d+/10|\d+/10|10점 만점에 \d+점\.|점수: \d+점)$")


def body_of(review: str) -> str:
    """A review of the sample without the lines that tell its mark."""
    lines = [line for line in review.split("\n") if not _HEADING.match(line) and not _MARK.match(line)]
    return "\n".join(lines)


def _sample_task(name: str, n_train: int, seed: int) -> Task:
    if name == "reviews":
        title, field_name, names = "표본 말뭉치 리뷰의 감성", "sentiment", _SENTIMENTS
    else:
        title, field_name, names = "표본 말뭉치 리뷰가 다루는 것", "category", _CATEGORIES
    n_held_out = max(16, n_train // 4)
    sizes = {"train": n_train, "valid": 2 * n_held_out}
    rows: dict[str, list[Row]] = {}
    for split, size in sizes.items():
        # 1 kB a review is twice their size: enough of them, even with repetitions left out.
        documents = generate(size * 0.001, seed=seed, split=split, kinds="review")
        rows[split] = [(body_of(document.text), names[document.truth[field_name]]) for document, _ in zip(documents, range(size))]
    rows["test"] = rows["valid"][1::2]
    rows["valid"] = rows["valid"][::2]
    return _make_task(name, title, rows, tuple(names.values()))


# -- files ---------------------------------------------------------------------------------------------------------


def _file_task(name: str, labelled: LabelledSet, files: list[Path], test_files: list[Path], max_examples: int | None,
               seed: int) -> Task:
    rows = [row for path in files for row in _rows(path, labelled)]
    shuffle = random.Random(f"{seed}/{name}")
    shuffle.shuffle(rows)
    if test_files:
        test = [row for path in test_files for row in _rows(path, labelled)]
        shuffle.shuffle(test)
    else:
        cut = len(rows) // 10
        test, rows = rows[:cut], rows[cut:]
    cut = min(5000, len(rows) // 20 if len(rows) >= 200 else len(rows) // 5)
    parts = {"train": rows[cut:], "valid": rows[:cut], "test": test}
    if max_examples is not None:
        parts = {split: part[: max_examples if split == "train" else max(1, max_examples // 4)] for split, part in parts.items()}
    return _make_task(name, labelled.title, parts, tuple(labelled.class_names.values()) or None)


def _rows(path: Path, labelled: LabelledSet) -> Iterable[Row]:
    source = read_rows(path) if labelled.heading else _without_heading(path)
    for number, row in enumerate(source, 1):
        label = row.get(labelled.label_field)
        if labelled.label_field in row and (label is None or not str(label).strip()):
            raise ValueError(f"{path}, row {number}: the field {labelled.label_field} is empty: name the text's class, or leave the row out")
        if label is None or not any(row.get(name) is not None for name in labelled.text_fields):
            raise ValueError(f"{path}, row {number} has no {labelled.label_field} or no {' or '.join(labelled.text_fields)}; "
                             f"it has {', '.join(str(key) for key in row)}")
        label = str(label).strip()
        if labelled.class_names and label not in labelled.class_names:
            raise ValueError(f"{path}, row {number}: class {label!r} is not one of {', '.join(labelled.class_names)}")
        text = "\n".join(str(row[name]).strip() for name in labelled.text_fields if row.get(name))
        yield text, labelled.class_names.get(label, label)


def _without_heading(path: Path) -> Iterable[dict]:
    """Lines of a class, a tab and a text."""
    for number, line in enumerate(read_lines(path), 1):
        label, tab, text = line.partition("\t")
        if not tab:
            raise ValueError(f"{path}, line {number} has no tab: a class, a tab and a text are expected")
        yield {"label": label, "text": text}


# -- what all share ------------------------------------------------------------------------------------------------


def _make_task(name: str, title: str, rows: dict[str, list[Row]], class_names: tuple[str, ...] | None) -> Task:
    """Leave out what is empty, repeated or contradictory, and number the classes."""
    dropped: Counter[str] = Counter()
    classes: dict[str, set[str]] = {}
    for part in rows.values():
        for text, label in part:
            classes.setdefault(text, set()).add(label)
    seen: set[str] = set()
    kept: dict[str, list[Row]] = {}
    for split in reversed(SPLITS):  # a text that is in two splits stays in the later one: the test part is given
        kept[split] = []
        for text, label in rows[split]:
            reason = None
            if not text.strip():
                reason = "empty"
            elif split == "train" and len(classes[text]) > 1:
                reason = "contradictory"
            elif split != "test" and text in seen:
                reason = "repeated"
            if reason:
                dropped[reason] += 1
            else:
                seen.add(text)
                kept[split].append((text, label))
    if class_names is None:
        class_names = tuple(sorted({label for part in kept.values() for _, label in part}))
    _check(name, kept, class_names)
    number = {label: i for i, label in enumerate(class_names)}
    examples = {split: Examples(tuple(t for t, _ in part), tuple(number[label] for _, label in part)) for split, part in kept.items()}
    return Task(name, title, class_names, **examples, dropped=dict(dropped))


def _check(name: str, kept: dict[str, list[Row]], class_names: tuple[str, ...]) -> None:
    for split, part in kept.items():
        if not part:
            raise ValueError(f"task '{name}' has no texts in its {split} part: give more rows")
    if len(class_names) < 2:
        raise ValueError(f"task '{name}' has one class only, {class_names[0]!r}: there is nothing to tell apart")
    present = {label for _, label in kept["train"]}
    if missing := [label for label in class_names if label not in present]:
        raise ValueError(f"task '{name}' has no training text of class {missing[0]!r}: give more rows, or leave the class out")

