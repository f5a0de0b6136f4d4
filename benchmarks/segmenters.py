"""WordPiece and Unigram against Hugging Face Tokenizers (Rust) and SentencePiece (C++), all in one run.

    python benchmarks/segmenters.py [--quick]

The texts of ``bpe.py``, 8,192 tokens.  Encoding: Hugging Face opens the ``tokenizer.json`` that ours saved, so both have
the same vocabulary and must give the same number of tokens; one core, caches empty, documents one by one.  Training:
each library's own trainer on the same texts (they do not learn quite the same pieces; Hugging Face's joins by frequency).
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
from pathlib import Path

from bpe import (
    QUICK_MEGABYTES,
    benchmark_texts,
    best_of,
    encode_with_ours,
    encode_with_peer,
    megabytes_of,
    row,
)
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from scratch_llm.tokenizers import Unigram, WordPiece
from scratch_llm.tokenizers.wordpiece import WORDS

VOCAB_SIZE, QUICK_VOCAB_SIZE = 8192, 2048
MEGABYTES = 4.0
ALPHABET = 1500


def train_their_wordpiece(texts: list[str], vocab_size: int) -> Tokenizer:
    peer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    peer.normalizer = normalizers.NFC()
    peer.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), "removed", invert=True)
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, min_frequency=2, special_tokens=["[UNK]"], limit_alphabet=ALPHABET, show_progress=False
    )
    peer.train_from_iterator(texts, trainer)
    return peer


def train_their_unigram(texts: list[str], vocab_size: int) -> bytes:
    import sentencepiece

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=written, vocab_size=vocab_size, model_type="unigram", byte_fallback=True,
        hard_vocab_limit=False, normalization_rule_name="identity", add_dummy_prefix=False, num_threads=os.cpu_count() or 1,
        max_sentence_length=1 << 20, minloglevel=2,
    )  # fmt: skip
    return written.getvalue()


def same_in_hugging_face(tokenizer: WordPiece | Unigram) -> Tokenizer:
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(folder)
        return Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))


def run(quick: bool = False) -> list[dict]:
    """Rows with name, ours, peer, unit, ratio (above 1: ours is better), target and note."""
    texts, source = benchmark_texts(QUICK_MEGABYTES / 2 if quick else MEGABYTES)
    texts = [line for text in texts for line in text.splitlines() if line.strip()]
    vocab_size, rounds = (QUICK_VOCAB_SIZE, 1) if quick else (VOCAB_SIZE, 3)
    size = megabytes_of(texts)
    what = f"{source}, {size:.1f} MB, {vocab_size:,} tokens"
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    made: dict[str, WordPiece | Unigram] = {}

    def train(name: str) -> None:
        made[name] = (
            WordPiece.train(texts, vocab_size, score="frequency", alphabet_size=ALPHABET) if name == "WordPiece" else Unigram.train(texts, vocab_size)
        )

    seconds = best_of(
        1, wordpiece=lambda: train("WordPiece"), their_wordpiece=lambda: train_their_wordpiece(texts, vocab_size),
        unigram=lambda: train("Unigram"), their_unigram=lambda: train_their_unigram(texts, vocab_size),
    )  # fmt: skip
    rows = [
        row("WordPiece training", seconds["wordpiece"], seconds["their_wordpiece"], "s", None, f"{what}; by frequency; HF on all cores", True),
        row("Unigram training", seconds["unigram"], seconds["their_unigram"], "s", None, f"{what}; SentencePiece on all cores", True),
    ]
    for name, ours in made.items():
        peer = same_in_hugging_face(ours)
        if encode_with_ours(ours, texts) != encode_with_peer(peer, texts, threads=False):
            raise RuntimeError(f"the two {name} tokenizers do not agree on the number of tokens: the comparison is void")
        encoding = best_of(rounds, ours=lambda ours=ours: encode_with_ours(ours, texts), one=lambda peer=peer: encode_with_peer(peer, texts, threads=False))
        rows.append(row(f"{name} encoding, one core", size / encoding["ours"], size / encoding["one"], "MB/s", None,
                        f"{what}; cold cache; HF encode_batch_fast with the same file", False))  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="0.5 MB and one round: a check, not a measurement")
    from run import table

    print(table(run(parser.parse_args().quick)))


if __name__ == "__main__":
    main()
