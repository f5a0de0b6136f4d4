"""Byte-level BPE against Hugging Face Tokenizers (Rust) and against a naive loop, all in one run.

    python benchmarks/bpe.py [--quick]

13 MB of Korean film reviews (NSMC, if the real data lies at hand; else the embedded sample), 8,192 tokens, GPT-2's
pre-tokenization and NFC on both sides.  Both sides take turns; the figure is the best of the rounds.  Encoding
starts with an empty cache every time, and reads documents one by one, as tokenising a corpus does.  The naive loop is
``SimpleBPE``, which recounts every pair for every merge; it is measured on a slice with fewer merges.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from scratch_llm.tokenizers import PATTERNS, ByteLevelBPE, SimpleBPE

VOCAB_SIZE = 8192
PATTERN = "gpt2"
MEGABYTES, QUICK_MEGABYTES = 13.0, 1.0
NAIVE_MEGABYTES, NAIVE_VOCAB_SIZE = 0.2, 512


def benchmark_texts(megabytes: float) -> tuple[list[str], str]:
    """Documents of the asked size, and what they are."""
    repository = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("WORKSHOP_SHARED_DATA", repository.parent / "shared" / "data"))
    reviews = folder / "nsmc" / "reviews_other.jsonl.xz"
    if reviews.is_file():
        return take(read_reviews(reviews), megabytes), "NSMC"
    from llm_workshop.corpora.sample import generate

    return take((document.text for document in generate(megabytes, seed=0)), megabytes), "embedded sample"


def read_reviews(path: Path) -> Iterator[str]:
    with lzma.open(path, "rt", encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)["document"]


def take(texts: Iterator[str], megabytes: float) -> list[str]:
    taken, size = [], 0
    for text in texts:
        taken.append(text)
        size += len(text.encode())
        if size >= megabytes * 1e6:
            break
    return taken


def megabytes_of(texts: list[str]) -> float:
    return sum(len(text.encode()) for text in texts) / 1e6


def train_peer(texts: list[str], vocab_size: int) -> Tokenizer:
    """Hugging Face's trainer with our pattern, normalisation and minimum frequency."""
    peer = Tokenizer(models.BPE())
    peer.normalizer = normalizers.NFC()
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    split = pre_tokenizers.Split(Regex(PATTERNS[PATTERN]), "isolated")
    peer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=2, initial_alphabet=byte_level.alphabet(), show_progress=False
    )
    peer.train_from_iterator(texts, trainer)
    return peer


def train_ours(texts: list[str], vocab_size: int) -> ByteLevelBPE:
    return ByteLevelBPE.train(texts, vocab_size, pattern=PATTERN, tie_break="least_ids")


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def best_of(rounds: int, **actions: Callable[[], object]) -> dict[str, float]:
    """Least seconds of each action; they take turns, so that a slow minute of the machine hits all alike."""
    best = dict.fromkeys(actions, float("inf"))
    for _ in range(rounds):
        for name, action in actions.items():
            best[name] = min(best[name], seconds(action))
    return best


def encode_with_peer(peer: Tokenizer, texts: list[str], threads: bool) -> int:
    """Hugging Face's fastest call (no offsets); its cache is emptied by a copy through JSON."""
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads else "false"
    fresh = Tokenizer.from_str(peer.to_str())
    return sum(len(encoding.ids) for encoding in fresh.encode_batch_fast(texts))


def encode_with_ours(tokenizer: ByteLevelBPE, texts: list[str]) -> int:
    tokenizer.clear_cache()
    return sum(map(len, tokenizer.encode_documents(texts, end_with=None)))


def row(
    name: str, ours: float, peer: float | None, unit: str, target, note: str, faster_is_less: bool
) -> dict:
    ratio = None if peer is None else (peer / ours if faster_is_less else ours / peer)
    return {
        "name": name,
        "ours": ours,
        "peer": peer,
        "unit": unit,
        "ratio": ratio,
        "target": target,
        "note": note,
    }


def run(quick: bool = False) -> list[dict]:
    """Rows with name, ours, peer, unit, ratio (above 1: ours is better), target and note."""
    texts, source = benchmark_texts(QUICK_MEGABYTES if quick else MEGABYTES)
    rounds = 1 if quick else 3
    vocab_size = 2048 if quick else VOCAB_SIZE
    size = megabytes_of(texts)
    what = f"{source}, {size:.1f} MB, {vocab_size:,} tokens"
    rows = []

    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    training = best_of(
        rounds, ours=lambda: train_ours(texts, vocab_size), peer=lambda: train_peer(texts, vocab_size)
    )
    note = f"{what}; HF Tokenizers on all cores, ours on one"
    rows.append(row("BPE training", training["ours"], training["peer"], "s", 0.33, note, True))

    ours, peer = train_ours(texts, vocab_size), train_peer(texts, vocab_size)
    if encode_with_ours(ours, texts) != encode_with_peer(peer, texts, threads=False):
        raise RuntimeError("the two tokenizers do not agree on the number of tokens: the comparison is void")
    encoding = best_of(
        rounds,
        ours=lambda: encode_with_ours(ours, texts),
        warm=lambda: sum(map(len, ours.encode_documents(texts, end_with=None))),
        one=lambda: encode_with_peer(peer, texts, threads=False),
        many=lambda: encode_with_peer(peer, texts, threads=True),
    )
    speed = {name: size / least for name, least in encoding.items()}
    rows.append(row("BPE encoding, one core", speed["ours"], speed["one"], "MB/s", "1 MB/s",
                    f"{what}; cold cache; HF encode_batch_fast on one core", False))  # fmt: skip
    rows.append(row("BPE encoding, one core against all", speed["ours"], speed["many"], "MB/s", None,
                    "the same, HF on all cores", False))  # fmt: skip
    rows.append(row("BPE encoding, warm cache", speed["warm"], speed["one"], "MB/s", None,
                    "the same documents again; HF as above", False))  # fmt: skip
    return rows + naive_rows(texts, ours)


def naive_rows(texts: list[str], tokenizer: ByteLevelBPE) -> list[dict]:
    """The clear version on a slice; the extrapolation to the whole job is stated in the note."""
    part = take(iter(texts), NAIVE_MEGABYTES)
    size = megabytes_of(part)
    naive_time = seconds(lambda: SimpleBPE.train(part, NAIVE_VOCAB_SIZE, pattern=PATTERN))
    fast_time = seconds(lambda: ByteLevelBPE.train(part, NAIVE_VOCAB_SIZE, pattern=PATTERN))
    # Every merge goes over all unique pieces, so the time grows with (unique pieces) x (merges).
    unique = [
        len({piece for text in some for piece in tokenizer.pre_tokenizer.split(text)})
        for some in (part, texts)
    ]
    n_merges = [NAIVE_VOCAB_SIZE - 256, tokenizer.vocab_size - 256]
    hours = naive_time * (unique[1] / unique[0]) * (n_merges[1] / n_merges[0]) / 3600
    note = (
        f"{size:.1f} MB, {NAIVE_VOCAB_SIZE} tokens; by unique pieces x merges the naive loop would need about "
        f"{hours:.1f} h for {megabytes_of(texts):.1f} MB and {tokenizer.vocab_size:,} tokens (extrapolated)"
    )
    rows = [row("BPE training against a naive loop", fast_time, naive_time, "s", None, note, True)]

    merges = [(tokenizer.token_of(left), tokenizer.token_of(right)) for left, right, _ in tokenizer.merges]
    naive = SimpleBPE(merges, pattern=PATTERN)
    naive_time = seconds(lambda: [naive.encode(text) for text in part])
    fast_time = seconds(lambda: encode_with_ours(tokenizer, part))
    note = f"{size:.1f} MB, {tokenizer.vocab_size:,} tokens, cold cache"
    rows.append(
        row(
            "BPE encoding against a naive loop",
            size / fast_time,
            size / naive_time,
            "MB/s",
            None,
            note,
            False,
        )
    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="1 MB and one round: a check, not a measurement")
    from run import table

    print(table(run(parser.parse_args().quick)))


if __name__ == "__main__":
    main()
