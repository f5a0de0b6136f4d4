"""Train a model that a curation rule asks: ``python -m llm_workshop.curation.models spam``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from llm_workshop.curation.models.store import COMMAND, KINDS, default_path
from llm_workshop.errors import exit_code_of, install_one_line_errors


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.add_argument("name", choices=KINDS, help="spam (advertisements and gibberish), korean (n-grams), hate (needs BEEP!)")
    parser.add_argument("--out", metavar="FILE", help="default: artifacts/filters/, where the rules look")
    parser.add_argument("--texts", metavar="FILE", nargs="+", help="korean: learn from these files instead of the sample")
    parser.add_argument("--megabytes", type=float, default=5.0, help="korean with --texts: at most this much (MB)")
    options = parser.parse_args(arguments)
    install_one_line_errors()
    return exit_code_of(lambda: _train(options))


def _train(options: argparse.Namespace) -> int:
    started = time.perf_counter()
    if options.texts:
        if options.name != "korean":
            raise ValueError(f"--texts is for the model 'korean': '{options.name}' learns from labelled texts")
        model = _korean_from(options.texts, options.megabytes)
    else:
        model = KINDS[options.name].train()
    path = Path(options.out) if options.out else default_path(options.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path)
    facts = ", ".join(f"{key} {value}" for key, value in model.facts.items())
    print(f"{options.name}: {path} ({path.stat().st_size / 1e6:.1f} MB, {time.perf_counter() - started:.1f} s; {facts})")
    return 0


def _korean_from(files: Sequence[str], megabytes: float):
    from llm_workshop.corpora.loaders import load_documents
    from scratch_llm.ngram import CharacterNGramModel

    texts, size = [], 0
    for file in files:
        for document in load_documents(file):
            if size >= megabytes * 1e6:
                break
            texts.append(document.text)
            size += len(document.text.encode("utf-8", "surrogatepass"))
    if not texts:
        raise ValueError(f"no text in {', '.join(files)}: nothing to learn from")
    model = CharacterNGramModel(order=3)
    model.fit(texts)
    model.facts = {"trained_on": "files", "documents": len(texts), "megabytes": round(size / 1e6, 2)}
    return model


if __name__ == "__main__":
    sys.exit(main())
