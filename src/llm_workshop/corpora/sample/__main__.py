"""Command line: ``python -m llm_workshop.corpora.sample --megabytes 1 --kinds story --show 20``."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from llm_workshop.corpora.document import write_documents
from llm_workshop.errors import install_one_line_errors

from .generator import SPLITS, generate, kinds_registry


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m llm_workshop.corpora.sample", description=__doc__)
    parser.add_argument("--megabytes", type=float, default=1.0, help="how much text to make (1 MB = 1e6 bytes of UTF-8)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", default="train", help=" or ".join(SPLITS))
    parser.add_argument("--kinds", help=f"comma-separated: {', '.join(kinds_registry())}")
    parser.add_argument("--noise", type=float, default=0.0, help="share of documents with an injected fault, 0 to 1")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print the first N documents")
    parser.add_argument("--start", type=int, default=0, help="index of the first document")
    parser.add_argument("--output", help="write JSON lines here")
    return parser


class _Statistics:
    """Counts what passes through: bytes, distinct 어절, documents and bytes per kind."""

    def __init__(self):
        self.bytes, self.words, self.kinds, self.kind_bytes = 0, set(), Counter(), Counter()
        self.first_megabyte_words = None

    def watch(self, documents):
        for document in documents:
            size = len(document.text.encode("utf-8"))
            self.bytes += size
            self.kinds[document.kind] += 1
            self.kind_bytes[document.kind] += size
            self.words.update(document.text.split())
            if self.first_megabyte_words is None and self.bytes >= 1_000_000:
                self.first_megabyte_words = len(self.words)
            yield document

    def lines(self, seconds: float):
        yield f"{self.bytes / 1e6:.2f} MB in {seconds:.1f} s ({self.bytes / 1e6 / seconds:.2f} MB/s with counting)"
        words = self.first_megabyte_words
        yield f"distinct 어절: {len(self.words):,}" + (f" ({words:,} in the first MB)" if words else "")
        for kind, count in self.kinds.most_common():
            yield f"  {kind:14s} {count:8,} documents {self.kind_bytes[kind] / self.bytes:6.1%} of the bytes"


def main(arguments: list[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    install_one_line_errors()
    documents = generate(options.megabytes, options.seed, options.split, options.kinds, options.noise, start=options.start)
    statistics = _Statistics()
    stream, begin = statistics.watch(documents), time.perf_counter()
    if options.show:
        for number, document in enumerate(stream, 1):
            print(f"--- {document.id} [{document.kind}] truth={document.truth}" + (f" noise={document.noise}" if document.noise else ""))
            print(document.text, end="\n\n")
            if number >= options.show:
                return
    elif options.output:
        write_documents(options.output, stream)
    else:
        for _ in stream:
            pass
    for line in statistics.lines(time.perf_counter() - begin):
        print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
