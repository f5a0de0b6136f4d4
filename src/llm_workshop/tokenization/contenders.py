"""The tokenizers of week 3's comparison by name, each made from the same lines."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from llm_workshop.corpora.loaders import data_folders
from llm_workshop.tokenization.comparison import (
    Peer,
    our_peer,
    train_hugging_face_bpe,
    train_hugging_face_unigram,
    train_hugging_face_wordpiece,
    train_sentencepiece,
)
from llm_workshop.tokenization.morphemes import cut_at_morphemes, morphemes_of
from scratch_llm.tokenizers import DEFAULT_PATTERN, ByteLevelBPE, Unigram, WordPiece

Make = Callable[[Sequence[str], int], Peer]


@dataclass(frozen=True)
class Contender:
    """A way to make a tokenizer."""

    title: str
    make: Make
    """(lines, vocabulary size) -> tokenizer."""
    lossless: bool = True
    """Whether every text comes back from its tokens."""


def _bpe(lines: Sequence[str], size: int) -> Peer:
    return our_peer("우리 BPE", ByteLevelBPE.train(lines, size))


def _bytes(lines: Sequence[str], size: int) -> Peer:
    return our_peer("바이트", ByteLevelBPE.train(lines[:1], 256))


def _morpheme_bpe(lines: Sequence[str], size: int) -> Peer:
    return _morpheme_peer(_train_in_morphemes(lines, size))


def _train_in_morphemes(lines: Sequence[str], size: int) -> ByteLevelBPE:
    """BPE inside Kiwi's morphemes: each morpheme is a text of its own, over whose ends no merge goes."""
    return ByteLevelBPE.train((part for parts in cut_at_morphemes(lines) for part in parts), size)


def _morpheme_peer(bpe: ByteLevelBPE) -> Peer:
    def pieces(text: str) -> list[bytes]:
        return [piece for part in morphemes_of(text) for piece in bpe.pieces(part, allow_special=False)]

    def count(texts: list[str]) -> int:
        bpe.clear_cache()
        return sum(len(bpe.encode(part, allow_special=False)) for parts in cut_at_morphemes(texts, remember=False) for part in parts)

    return Peer("형태소 + BPE", bpe.vocab_size, pieces, count)


CONTENDERS = {
    "bytes": Contender("바이트", _bytes),
    "bpe": Contender("우리 BPE", _bpe),
    "wordpiece": Contender("우리 WordPiece", lambda lines, size: our_peer("우리 WordPiece", WordPiece.train(lines, size)), lossless=False),
    "unigram": Contender("우리 Unigram", lambda lines, size: our_peer("우리 Unigram", Unigram.train(lines, size))),
    "morpheme-bpe": Contender("형태소 + BPE", _morpheme_bpe),
    "hf-bpe": Contender("HF BPE", lambda lines, size: train_hugging_face_bpe(lines, size, DEFAULT_PATTERN)),
    "hf-wordpiece": Contender("HF WordPiece", train_hugging_face_wordpiece, lossless=False),
    "hf-unigram": Contender("HF Unigram", train_hugging_face_unigram, lossless=False),
    "sp-bpe": Contender("SentencePiece BPE", lambda lines, size: train_sentencepiece(lines, size, "bpe", "SentencePiece BPE")),
    "sp-unigram": Contender("SentencePiece Unigram", lambda lines, size: train_sentencepiece(lines, size, "unigram", "SentencePiece Unigram")),
}


def sweep(name: str, lines: Sequence[str], sizes: Iterable[int]) -> Iterator[Peer]:
    """The contender at every size, ascending, as far as the text gives so many tokens and the method takes so few.

    BPE is trained once: its smaller vocabularies are beginnings of the largest.
    """
    sizes = sorted(sizes)
    if name in ("bpe", "morpheme-bpe"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a text too small for the largest size: seen below
            largest = ByteLevelBPE.train(lines, sizes[-1]) if name == "bpe" else _train_in_morphemes(lines, sizes[-1])
        peer_of = _morpheme_peer if name == "morpheme-bpe" else lambda bpe: our_peer(CONTENDERS[name].title, bpe)
        yield from (peer_of(largest.shrink(size)) for size in sizes if size <= largest.vocab_size)
        return
    for size in sizes:
        with contextlib.suppress(ValueError):  # so few tokens do not hold the letters
            peer = CONTENDERS[name].make(lines, size)
            if peer.vocab_size < 0.95 * size:
                return
            yield peer


def check_contenders(names: Sequence[str], setting: str) -> None:
    """ValueError for a name twice, or one that is not in the table."""
    if len(set(names)) < len(names):
        raise ValueError(f"{setting} is '{','.join(names)}': name each tokenizer once")
    for name in names:
        if name not in CONTENDERS:
            raise ValueError(f"unknown tokenizer '{name}' in {setting}: use {', '.join(CONTENDERS)}")


def gpt2_tokenizer() -> ByteLevelBPE | None:
    """GPT-2's tokenizer, where its two files lie in ``gpt2_bpe/`` of a data folder; else ``None``."""
    for folder in data_folders():
        files = folder / "gpt2_bpe" / "encoder.json", folder / "gpt2_bpe" / "vocab.bpe"
        if all(file.is_file() for file in files):
            return ByteLevelBPE.from_gpt2_files(*files)
    return None
