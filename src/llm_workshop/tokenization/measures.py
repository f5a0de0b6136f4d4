"""What week 3 measures of a tokenizer beyond its compression."""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Callable, Iterable, Sequence

from llm_workshop.tokenization.comparison import UNKNOWN_PIECE, Peer
from llm_workshop.tokenization.morphemes import morpheme_starts

_HANGUL_WORD = re.compile(r"[가-힣]+")


def tokens_per_syllable(peer: Peer, lines: Iterable[str]) -> float:
    """Tokens per Hangul syllable, over the words that are all Hangul (signs, digits and letters would blur it)."""
    n_tokens = n_syllables = 0
    for line in lines:
        words = [word for word in line.split() if _HANGUL_WORD.fullmatch(word)]
        n_tokens += len(peer.pieces(" ".join(words))) if words else 0
        n_syllables += sum(map(len, words))
    return n_tokens / max(1, n_syllables)


def unknown_share(peer: Peer, lines: Iterable[str]) -> float:
    """Share of tokens that only say "unknown"."""
    n_tokens = n_unknown = 0
    for line in lines:
        pieces = peer.pieces(line)
        n_tokens += len(pieces)
        n_unknown += pieces.count(UNKNOWN_PIECE)
    return n_unknown / max(1, n_tokens)


def inner_borders(parts: Iterable[bytes]) -> set[int]:
    """Where the parts of a text meet, in bytes of the text without its white space.

    Without white space a tokenizer that throws it away can be compared with one that keeps it.
    """
    borders, place = set(), 0
    for part in parts:
        place += len(b"".join(part.split()))
        borders.add(place)
    return borders


def morpheme_agreement(peer: Peer, lines: Sequence[str], all_starts: Sequence[Sequence[int]] | None = None) -> dict[str, float]:
    """How far the borders of tokens inside words are those of morphemes (Kiwi's are the reference).

    Borders between words are left out: everybody has them.  A border inside a character is none of a morpheme.  Lines in
    which something is unknown are left out.

    Returns:
        precision: share of the tokens' borders that are borders of morphemes.
        recall: share of the morphemes' borders at which a token ends.
        f1: their harmonic mean.
    """
    n_tokens = n_morphemes = n_both = 0
    for line, starts in zip(lines, morpheme_starts(lines) if all_starts is None else all_starts):
        pieces = peer.pieces(line)
        if UNKNOWN_PIECE in pieces:
            continue
        between_words = inner_borders(line.encode().split()) | {0}
        morphemes = inner_borders(line[a:b].encode() for a, b in zip([0, *starts], [*starts, len(line)])) - between_words
        tokens = inner_borders(pieces) - between_words
        n_tokens, n_morphemes, n_both = n_tokens + len(tokens), n_morphemes + len(morphemes), n_both + len(tokens & morphemes)
    precision, recall = n_both / max(1, n_tokens), n_both / max(1, n_morphemes)
    return {"precision": precision, "recall": recall, "f1": 2 * precision * recall / max(precision + recall, 1e-9)}


def decomposed_factor(peer: Peer, lines: Sequence[str]) -> float:
    """How many times as many tokens the same text takes when it comes in NFD."""
    composed = sum(len(peer.pieces(unicodedata.normalize("NFC", line))) for line in lines)
    return sum(len(peer.pieces(unicodedata.normalize("NFD", line))) for line in lines) / max(1, composed)


def megabytes_per_second(count: Callable[[list[str]], int], lines: list[str], rounds: int = 3, enough: float = 2.0) -> float:
    """Encoding speed, the best of some rounds; no further round once they took ``enough`` seconds together."""
    size = sum(len(line.encode()) for line in lines) / 1e6
    times: list[float] = []
    while len(times) < rounds and sum(times) < enough:
        started = time.perf_counter()
        count(lines)
        times.append(time.perf_counter() - started)
    return size / min(times)
