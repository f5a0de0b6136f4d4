"""How well personal data is found, kind by kind: on documents with known spans, and what is found in real files.

    python -m llm_workshop.curation.measure_personal --seed 101 --megabytes 2
    python -m llm_workshop.curation.measure_personal --files petitions.jsonl --examples 5
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from llm_workshop.corpora.document import Document
from llm_workshop.curation.personal_data import MASKS, Span, find_personal_data
from llm_workshop.errors import exit_code_of, install_one_line_errors


@dataclass
class KindScore:
    """Values of one kind: ``there``, ``hit`` (found with their exact span), ``found``; misses and false alarms in context."""

    there: int = 0
    hit: int = 0
    found: int = 0
    misses: list[str] = field(default_factory=list)
    false_alarms: list[str] = field(default_factory=list)

    @property
    def recall(self) -> float:
        return self.hit / self.there if self.there else float("nan")

    @property
    def precision(self) -> float:
        return self.hit / self.found if self.found else float("nan")


def in_context(text: str, start: int, end: int, width: int = 20) -> str:
    """The value in brackets, with what stands around it, on one line."""
    return f"{text[max(0, start - width) : start]}⟦{text[start:end]}⟧{text[end : end + width]}".replace("\n", "/")


def measure_personal(documents: Iterable[Document], examples: int = 5) -> dict[str, KindScore]:
    """Kind -> score. Documents with the label ``personal_data`` say where their values are; all others have none."""
    scores = {kind: KindScore() for kind in MASKS}
    for document in documents:
        items = document.noise[0].get("items", ()) if document.noise else ()
        there = {Span(i["kind"], i["start"], i["end"]) for i in items if i["kind"] in MASKS}
        found = set(find_personal_data(document.text))
        for span in there | found:
            score = scores[span.kind]
            score.there += span in there
            score.found += span in found
            score.hit += span in there and span in found
            shown = score.misses if span not in found else score.false_alarms
            if (span not in found or span not in there) and len(shown) < examples:
                shown.append(in_context(document.text, span.start, span.end))
    return scores


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m llm_workshop.curation.measure_personal", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=101, help="seed of the sample")
    parser.add_argument("--megabytes", type=float, default=1.0, help="size of the sample (MB)")
    parser.add_argument("--files", nargs="+", metavar="FILE", help="count what is found in these files, or corpora of the catalogue, instead")
    parser.add_argument("--limit", type=int, default=5000, help="documents read from each file")
    parser.add_argument("--examples", type=int, default=3, help="shown for each kind")
    options = parser.parse_args(arguments)
    install_one_line_errors()
    return exit_code_of(lambda: _on_files(options) if options.files else _on_the_sample(options))


def _on_the_sample(options: argparse.Namespace) -> int:
    from llm_workshop.corpora.sample import generate
    from llm_workshop.corpora.sample.noise import inject

    documents = inject(generate(options.megabytes, options.seed, "valid"), 0.4, options.seed, ("personal_data",))
    scores = measure_personal(documents, options.examples)
    print(f"{'kind':<16}{'values':>8}{'found':>8}{'recall':>9}{'precision':>11}")
    for kind, score in scores.items():
        print(f"{kind:<16}{score.there:>8}{score.found:>8}{score.recall:>9.4f}{score.precision:>11.4f}")
    for kind, score in scores.items():
        for line in score.misses:
            print(f"missed {kind}: {line}")
        for line in score.false_alarms:
            print(f"false alarm {kind}: {line}")
    return 0


def _on_files(options: argparse.Namespace) -> int:
    from itertools import islice

    from llm_workshop.corpora.loaders import load_documents

    for file in options.files:
        counts, shown, documents, characters = Counter(), defaultdict(list), 0, 0
        for document in islice(load_documents(file), options.limit):
            documents += 1
            characters += len(document.text)
            for kind, start, end in find_personal_data(document.text):
                counts[kind] += 1
                if len(shown[kind]) < options.examples:
                    shown[kind].append(in_context(document.text, start, end))
        print(f"{file}: {documents:,} documents, {characters:,} characters: {dict(counts) or 'nothing found'}")
        for kind, lines in shown.items():
            print("\n".join(f"  {kind}: {line}" for line in lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
