"""Training a tokenizer: from texts to a finished :class:`ByteLevelBPE`."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .patterns import PreTokenizer, require_text
from .special_tokens import SpecialTokens, check_names
from .trainer import TIE_BREAKS, LearnedMerge, Progress, count_pieces, learn_merges


@dataclass(frozen=True)
class TrainingReport:
    """What a training run saw and did."""

    requested_vocab_size: int
    vocab_size: int
    n_texts: int
    n_unique_pieces: int
    n_merges: int
    seconds: float

    @property
    def stopped_early(self) -> bool:
        """The corpus had too few repeated pairs for the vocabulary asked for."""
        return self.vocab_size < self.requested_vocab_size


class LearnedVocabulary(NamedTuple):
    tokens: list[bytes]
    merges: list[LearnedMerge]
    special_tokens: SpecialTokens
    report: TrainingReport


def learn_vocabulary(
    texts: Iterable[str],
    vocab_size: int,
    special_tokens: Sequence[str],
    pre_tokenizer: PreTokenizer,
    *,
    tie_break: str,
    min_frequency: int,
    progress: Progress | None,
) -> LearnedVocabulary:
    """Count the pieces of all texts and learn merges; see :meth:`ByteLevelBPE.train` for the arguments."""
    started = time.perf_counter()
    check_names(special_tokens)
    names = list(special_tokens)
    least = 256 + len(names)
    if vocab_size < least:
        raise ValueError(
            f"vocab_size {vocab_size} is too small: 256 bytes and {len(names)} special tokens need at least {least}"
        )
    if tie_break not in TIE_BREAKS:
        raise ValueError(f"tie_break {tie_break!r} is unknown: use one of {', '.join(TIE_BREAKS)}")
    if isinstance(texts, str):
        raise ValueError("texts must be an iterable of str, not one str: pass [text]")

    cutter = SpecialTokens.numbered(names, 256)
    n_texts = 0

    def pieces_of_texts() -> Iterator[list[str]]:
        nonlocal n_texts
        for text in texts:
            n_texts += 1
            for part, is_special in cutter.split(require_text(text)):
                if not is_special:
                    yield from pre_tokenizer.split_chunks(part)

    counts = count_pieces(pieces_of_texts())
    if not counts:
        raise ValueError(f"the corpus is empty ({n_texts} texts, no characters): give at least one text")
    merges, tokens = learn_merges(
        counts, vocab_size - least, tie_break=tie_break, min_frequency=min_frequency, progress=progress
    )
    report = TrainingReport(
        requested_vocab_size=vocab_size,
        vocab_size=len(tokens) + len(names),
        n_texts=n_texts,
        n_unique_pieces=len(counts),
        n_merges=len(merges),
        seconds=time.perf_counter() - started,
    )
    if report.stopped_early:
        warnings.warn(
            f"the corpus is too small for vocab_size {vocab_size}: no pair occurs {max(1, min_frequency)} times any "
            f"more, so the vocabulary has {report.vocab_size} tokens; give more text or ask for fewer",
            stacklevel=3,
        )
    return LearnedVocabulary(tokens, merges, SpecialTokens.numbered(names, len(tokens)), report)
