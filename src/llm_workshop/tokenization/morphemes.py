"""Morphemes as Kiwi (Lee 2022) finds them: where a text could be cut by grammar, and a tokenizer that is cut there first.

An analysis costs a hundred times as much as a tokenizer, and a comparison asks for the same lines again and again, so each
different line is analysed once and the result is kept as long as the process lives.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

_BATCH = 512  # lines that Kiwi analyses together, on all cores


@functools.cache
def _kiwi():
    from kiwipiepy import Kiwi

    return Kiwi()


@functools.cache
def _remembered() -> dict[str, tuple[int, ...]]:
    """Line -> its morphemes' starts, of every line analysed so far."""
    return {}


def _batches(lines: Iterable[str]) -> Iterator[list[str]]:
    lines = iter(lines)
    while batch := list(islice(lines, _BATCH)):
        yield batch


def analyse(lines: Iterable[str], progress: Callable[[float, float | None], None] | None = None) -> None:
    """Analyse the different lines that were not analysed before, and remember where their morphemes start.

    Args:
        progress: called with (lines done, lines to do).
    """
    known = _remembered()
    new = [line for line in dict.fromkeys(lines) if line not in known]
    for number, batch in enumerate(_batches(new)):
        if progress:
            progress(number * _BATCH, len(new))
        known.update(zip(batch, _starts(batch)))


def _starts(lines: Sequence[str]) -> Iterator[tuple[int, ...]]:
    """Kiwi's analysis itself, nothing remembered."""
    for tokens in _kiwi().tokenize(lines):
        end, starts = 0, []
        for token in tokens:
            if token.start >= end and token.start > 0:
                starts.append(token.start)
            end = max(end, token.start + token.len)
        yield tuple(starts)


def morpheme_starts(lines: Iterable[str], remember: bool = True) -> Iterator[tuple[int, ...]]:
    """For every line the character positions at which a morpheme begins, ascending, without 0.

    Where two morphemes share a syllable ("갔" = 가 + 았) no cut between characters parts them, so only the beginning of
    the first one counts.

    Args:
        remember: False analyses every line anew, as a service must: to time it.
    """
    for batch in _batches(lines):
        if remember:
            analyse(batch)
            yield from map(_remembered().__getitem__, batch)
        else:
            yield from _starts(batch)


def cut_at_morphemes(lines: Sequence[str], remember: bool = True) -> Iterator[list[str]]:
    """Every line as its morphemes, none of whose characters is lost; a single space goes with what follows it."""
    for line, starts in zip(lines, morpheme_starts(lines, remember)):
        cuts = [start - 1 if line[start - 1] == " " else start for start in starts]
        cuts = [cut for cut in dict.fromkeys(cuts) if cut > 0]
        yield [line[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(line)])]


def morphemes_of(line: str) -> list[str]:
    """The same for one line."""
    return next(cut_at_morphemes([line]))
