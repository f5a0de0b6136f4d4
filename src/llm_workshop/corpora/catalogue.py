"""The corpora that ``DATA=`` knows by name: where their files are, their licence, how a row becomes text.

Only facts live here; ``loaders.py`` does the reading.  To add a corpus, add an entry (CONTRIBUTING.md).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field


@dataclass(frozen=True)
class HubSource:
    """A data set on the Hugging Face hub; ``revision`` picks the parquet copy of script-based sets."""

    repository: str
    config: str | None = None
    split: str = "train"
    valid_split: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class Corpus:
    """One corpus of running text.

    ``train_files`` and ``valid_files`` are glob patterns under DATA_DIR; where there are no
    ``valid_files``, every 50th document (chosen by a hash of its id) is held out.
    ``text_fields`` names the columns that are joined by a blank line; a row lacking all of them is an error.
    """

    name: str
    title: str
    licence: str
    homepage: str
    train_files: tuple[str, ...]
    text_fields: tuple[str, ...] = ("text",)
    valid_files: tuple[str, ...] = ()
    id_field: str | None = None
    truth_fields: tuple[str, ...] = ()
    hub: HubSource | None = None
    notes: str = ""
    kind: str = field(default="text")


_PARQUET = "refs/convert/parquet"

CATALOGUE: dict[str, Corpus] = {
    corpus.name: corpus
    for corpus in (
        Corpus(
            "nsmc",
            "Naver Sentiment Movie Corpus: short, informal film reviews",
            "CC0-1.0",
            "github.com/e9t/nsmc",
            train_files=("nsmc/reviews_other.jsonl*", "nsmc/ratings_train.txt*"),
            text_fields=("document",),
            id_field="id",
            truth_fields=("rating", "label"),
            hub=HubSource("e9t/nsmc", revision=_PARQUET),
            kind="review",
        ),
        Corpus(
            "petitions",
            "Citizen petitions to the Blue House, 2017-2019: long, argumentative prose",
            "CC0-1.0",
            "github.com/lovit/petitions_archive",
            train_files=("pretrain_ko/petitions_train.jsonl*",),
            valid_files=("pretrain_ko/petitions_valid.jsonl*",),
            text_fields=("title", "text", "content"),
            id_field="id",
            truth_fields=("category",),
            hub=HubSource("heegyu/korean-petitions"),
        ),
        Corpus(
            "msdocs",
            "Microsoft's Korean documentation: technical, largely machine-translated",
            "CC-BY-4.0",
            "github.com/MicrosoftDocs",
            train_files=("pretrain_ko/msdocs_train.jsonl*",),
            valid_files=("pretrain_ko/msdocs_valid.jsonl*",),
            id_field="id",
            notes="spacing errors and code blocks: good for filter labs, poor as a model of style",
        ),
        Corpus(
            "ossdocs",
            "Human-translated documentation of React, Vue, Rust, PyTorch, d2l and the Hugging Face course",
            "per document: CC-BY-4.0, CC-BY-SA-4.0, Apache-2.0, MIT, BSD-3-Clause",
            "github.com/PyTorchKorea/tutorials-kr",
            train_files=("pretrain_ko/ossdocs_train.jsonl*",),
            valid_files=("pretrain_ko/ossdocs_valid.jsonl*",),
            id_field="id",
            truth_fields=("license",),
        ),
        Corpus(
            "ud",
            "Sentences of the Korean Universal Dependencies treebanks (GSD, Kaist, PUD): edited prose",
            "CC-BY-SA-4.0",
            "universaldependencies.org",
            train_files=("pretrain_ko/ud_sentences.jsonl*",),
            hub=HubSource("universal-dependencies/universal_dependencies", "ko_gsd", "train", "dev", _PARQUET),
        ),
        Corpus(
            "constitution",
            "The Constitution of the Republic of Korea",
            "public domain (statute)",
            "law.go.kr",
            train_files=("pretrain_ko/constitution_kr.txt*",),
        ),
        Corpus(
            "literature",
            "Korean short stories of 1915-1939",
            "public domain",
            "gongu.copyright.or.kr",
            train_files=("literature_ko/pd_short_stories.jsonl*",),
            truth_fields=("title", "author"),
        ),
        Corpus(
            "unsu",
            "Hyun Jin-geon, 운수 좋은 날 (1924)",
            "public domain",
            "ko.wikisource.org",
            train_files=("literature_ko/unsu-joeun-nal.txt*",),
        ),
        Corpus(
            "kowiki",
            "Korean Wikipedia of 2023-11",
            "CC-BY-SA-4.0",
            "ko.wikipedia.org",
            train_files=("kowiki/*.jsonl*", "kowiki/*.parquet"),
            text_fields=("text",),
            id_field="id",
            hub=HubSource("wikimedia/wikipedia", "20231101.ko"),
        ),
    )
}


def find_corpus(name: str) -> Corpus:
    """The entry of that name; ``ValueError`` suggests the nearest one."""
    if name in CATALOGUE:
        return CATALOGUE[name]
    names = ["sample", *CATALOGUE]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    raise ValueError(f"unknown DATA '{name}'{hint}: use {', '.join(names)}, or the path of a text or JSON-lines file")
