"""The texts of evaluation sets, for contamination: which fields of a row are text, and where the files lie."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from llm_workshop.corpora.loaders import data_folders, find_files, read_rows

#: Our own held-out documents: they are in the shards, not in a file.
VALID = "valid"
EVALUATION_SETS: dict[str, tuple[str, ...]] = {
    "klue": ("klue/*dev*.jsonl*",),
    "kobest": ("kobest/*_dev.jsonl*", "kobest/*_test.jsonl*"),
    "nsmc": ("nsmc/test*.tsv*", "nsmc/ratings_test.txt*"),
}
#: Fields that say something about a row, not what it asks.
_NO_TEXT = ("guid", "id", "source", "license", "attribution", "annotated", "label", "gold_label", "author", "task", "url")


class Item(NamedTuple):
    """One question of an evaluation set; ``name`` is "set/file:row"."""

    name: str
    fields: tuple[str, ...]


def evaluation_items(name: str) -> Iterator[Item]:
    """The items of a set by its name, or of a file of rows by its path; every field that holds words is text.

    Raises ValueError for an unknown name, FileNotFoundError where the set's files are not at hand.
    """
    if name in EVALUATION_SETS:
        files = find_files(EVALUATION_SETS[name])
        if not files:
            searched = ", ".join(str(folder / EVALUATION_SETS[name][0]) for folder in data_folders())
            raise FileNotFoundError(f"evaluation set '{name}': no files at {searched}; set DATA_DIR, or take it out of dedup.contamination.sets")
    elif Path(name).is_file():
        files = [Path(name)]
    else:
        known = ", ".join((VALID, *EVALUATION_SETS))
        raise ValueError(f"unknown evaluation set '{name}': use {known}, or the path of a .jsonl, .tsv, .csv or .parquet file")
    for path in files:
        for number, row in enumerate(read_rows(path), 1):
            fields = (str(value) for key, value in row.items() if isinstance(value, str) and key not in _NO_TEXT)
            yield Item(f"{name if name in EVALUATION_SETS else path.stem}/{path.name.split('.')[0]}:{number}", tuple(fields))
