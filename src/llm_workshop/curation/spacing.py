"""Where Korean puts its spaces: a model of two numbers a syllable, small enough to be read.

    log-odds of a space between a and b = bias + after[a] + before[b]

"를" ends words and begins none: after["를"] is large, before["를"] small. "었" does neither. Text whose spaces were
lost or scattered is improbable under the model, whatever it is about.

The table in :mod:`llm_workshop.curation.spacing_table` was counted in the embedded sample and in citizens' petitions
(CC0) with ``python -m llm_workshop.curation.spacing FILE.jsonl ... --out FILE.py``; it holds numbers, no text.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from llm_workshop.curation.characters import codes_of
from llm_workshop.curation.spacing_table import AFTER, BEFORE, BIAS, SYLLABLES

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcde"  # 41 levels from -5 to 5
_STEP, _LOWEST = 0.25, -5.0
_SMOOTHING = 5.0  # gaps imagined at the average rate for each syllable
_SPACE = 0x20
_OTHER, _WIDTH = 100, 300  # level of what is no syllable; distance between the rows of 0, 1 and 2 spaces
# a text whose spaces fell at random: the share of true spaces that are left, and of other gaps that got one
_KEPT, _ADDED = 0.4, 0.15
_STRAY = 0.1  # chance of a space below which one stands inside a word
_FLOOR = 0.02  # no gap is more certain than this: names and new words are not in the table


@dataclass(frozen=True)
class Spacing:
    """What the gaps between the Hangul syllables of a text look like."""

    gaps: int  # pairs of syllables with at most one space between them
    spaces: int  # of those, pairs with a space
    expected: float  # spaces that the model would put
    strays: float  # spaces where the model puts fewer than one in ten
    scattered: float  # log-likelihood ratio, nats: spaces lost and added at random against spaces as Korean has them


@cache
def _table() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Levels after and before each code unit, which syllables are known, and what each pair of levels says.

    The two levels of a gap are added up and ``_WIDTH`` for each space; the sum is the row of the last table, with
    columns (is a gap, has a space, chance of one, has an improbable one, log-likelihood ratio). Rows of other characters are zero.
    """
    after, before = (np.full(0x10000, _OTHER, dtype=np.int16) for _ in range(2))
    known = np.zeros(0x10000, dtype=bool)
    after[0xAC00:0xD7A4] = before[0xAC00:0xD7A4] = _DIGITS.index("I")  # -0.5: syllables that are not in the table
    codes = [ord(c) for c in SYLLABLES]
    after[codes], before[codes] = ([_DIGITS.index(c) for c in levels] for levels in (AFTER, BEFORE))
    known[codes] = True
    odds = BIAS + 2 * _LOWEST + _STEP * np.arange(2 * len(_DIGITS) - 1)
    likely = 1 / (1 + np.exp(-odds))
    random = _KEPT * likely + _ADDED * (1 - likely)  # chance of a space if chance made them
    likely = np.clip(likely, _FLOOR, 1 - _FLOOR)
    rows, one = np.zeros((3 * _WIDTH, 5)), np.ones_like(odds)
    rows[: len(odds)] = np.stack((one, 0 * one, likely, 0 * one, np.log((1 - random) / (1 - likely))), axis=1)
    rows[_WIDTH : _WIDTH + len(odds)] = np.stack((one, one, likely, likely < _STRAY, np.log(random / likely)), axis=1)
    return after, before, known, rows


def end_score(syllable: str) -> float:
    """Log-odds, against the average syllable, that a word ends after this one; "었" has about -5."""
    return _LOWEST + _STEP * float(_table()[0][ord(syllable)])


def _gaps(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of syllables followed by a syllable, and of those followed by a space and a syllable."""
    hangul = (codes >= 0xAC00) & (codes <= 0xD7A3)
    together = np.flatnonzero(hangul[:-1] & hangul[1:])
    apart = np.flatnonzero(hangul[:-2] & hangul[2:] & (codes[1:-1] == _SPACE))
    return together, apart


@lru_cache(maxsize=4)
def spacing_of(text: str) -> Spacing:
    """How well the spaces of a text fit; of a long one, its first 20,000 characters."""
    after, before, _, rows = _table()
    codes = codes_of(text[:20_000])
    places = np.flatnonzero(codes != _SPACE)
    written = codes.take(places)
    spaces = np.minimum(places[1:] - places[:-1] - 1, 2)  # two spaces are no gap between words of one line
    row = after.take(written[:-1]) + before.take(written[1:]) + _WIDTH * spaces
    gaps, apart, expected, strays, ratio = rows.take(row, axis=0).sum(axis=0).tolist()
    return Spacing(round(gaps), round(apart), expected, strays, ratio)


def unknown_share(text: str) -> float:
    """Share of Hangul syllables that are not among the 1,200 that Korean is written with."""
    codes = codes_of(text[:20_000])
    codes = codes[(codes >= 0xAC00) & (codes <= 0xD7A3)]
    return 1.0 - float(_table()[2].take(codes).mean()) if len(codes) else 0.0


def learn(texts: Iterable[str], least: int = 20) -> tuple[float, dict[str, tuple[float, float]]]:
    """Bias and {syllable: (after, before)} from correctly spaced texts; syllables seen ``least`` times and more."""
    counts = np.zeros((2, 2, 0x10000))  # [side, with a space]
    for text in texts:
        codes = codes_of(text)
        if len(codes) < 3:
            continue
        together, apart = _gaps(codes)
        for spaced, left, right in ((0, together, together + 1), (1, apart, apart + 2)):
            np.add.at(counts[0, spaced], codes[left], 1)
            np.add.at(counts[1, spaced], codes[right], 1)
    total = counts[0].sum(axis=1)
    if not total.all():
        raise ValueError("the texts have no two Korean words with a space between them: nothing to learn spacing from")
    bias = float(np.log(total[1] / total[0]))
    smooth = counts + (_SMOOTHING * total / total.sum())[None, :, None]
    odds = np.clip(np.log(smooth[:, 1] / smooth[:, 0]) - bias, -5, 5)
    seen = np.flatnonzero(counts.sum(axis=(0, 1)) >= least)
    return bias, {chr(code): (float(odds[0, code]), float(odds[1, code])) for code in seen.tolist()}


def main(arguments: list[str] | None = None) -> int:
    """Learn the table from JSON lines with a key "text" (and from the embedded sample) and write it as a module."""
    from llm_workshop.corpora.loaders import read_rows
    from llm_workshop.corpora.sample import generator

    parser = argparse.ArgumentParser(prog="python -m llm_workshop.curation.spacing", description=main.__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--megabytes", type=float, default=4.0, help="of the embedded sample")
    options = parser.parse_args(arguments)
    texts = [row["text"] for file in options.files for row in read_rows(file)]
    texts += [document.text for document in generator.generate(options.megabytes, seed=101)]
    bias, table = learn(texts)
    level = [[_DIGITS[round((pair[side] - _LOWEST) / _STEP)] for pair in table.values()] for side in (0, 1)]
    lines = ['"""Log-odds of a space after and before each syllable; made by llm_workshop.curation.spacing."""', "", f"BIAS = {bias:.4f}"]
    for name, characters in (("SYLLABLES", list(table)), ("AFTER", level[0]), ("BEFORE", level[1])):
        width = 50 if name == "SYLLABLES" else 100
        rows = ["".join(characters[i : i + width]) for i in range(0, len(characters), width)]
        lines += [f"{name} = (", *(f'    "{row}"' for row in rows), ")"]
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{options.out}: {len(table)} syllables from {len(texts)} texts")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
