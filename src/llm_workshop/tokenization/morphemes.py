"""Morphemes as Kiwi (Lee 2022) finds them: where a text could be cut by grammar, and a tokenizer that is cut there first."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence

_BATCH = 512  # lines that Kiwi analyses together, on all cores


@functools.cache
def _kiwi():
    from kiwipiepy import Kiwi

    return Kiwi()


def morpheme_starts(lines: Iterable[str]) -> Iterator[list[int]]:
    """For every line the character positions at which a morpheme begins, ascending, without 0.

    Where two morphemes share a syllable ("갔" = 가 + 았) no cut between characters parts them, so only the beginning of
    the first one counts.
    """
    kiwi = _kiwi()
    batch: list[str] = []

    def analysed(some: Sequence[str]) -> Iterator[list[int]]:
        for tokens in kiwi.tokenize(some):
            end, starts = 0, []
            for token in tokens:
                if token.start >= end and token.start > 0:
                    starts.append(token.start)
                end = max(end, token.start + token.len)
            yield starts

    for line in lines:
        batch.append(line)
        if len(batch) == _BATCH:
            yield from analysed(batch)
            batch = []
    if batch:
        yield from analysed(batch)


def cut_at_morphemes(lines: Sequence[str]) -> Iterator[list[str]]:
    """Every line as its morphemes, none of whose characters is lost; a single space goes with what follows it."""
    for line, starts in zip(lines, morpheme_starts(lines)):
        cuts = [start - 1 if line[start - 1] == " " else start for start in starts]
        cuts = [cut for cut in dict.fromkeys(cuts) if cut > 0]
        yield [line[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(line)])]


@functools.lru_cache(maxsize=1 << 15)
def morphemes_of(line: str) -> tuple[str, ...]:
    """The same for one line, remembered: a comparison asks for the same lines again and again."""
    return tuple(next(cut_at_morphemes([line])))
