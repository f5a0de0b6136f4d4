"""Rules that keep or drop a whole text, by shares that are cheap to count.

The shape is that of the Gopher rules (Rae et al. 2021, appendix A1); what they ask of English words is asked of Korean
syllables, particles and endings here. Thresholds are the fields; each drop names its figure, so that a data card can
show where a threshold bites.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from llm_workshop.curation.characters import (
    DIGIT,
    HANGUL,
    JAMO,
    MARK,
    PUNCTUATION,
    RARE_HANGUL,
    SPACE,
    SURROGATE,
    SYMBOL,
    class_table,
    codes_of,
    counts,
    letters,
)
from llm_workshop.curation.spacing import spacing_of, unknown_share
from llm_workshop.curation.step import Drop, Step

_FENCED = re.compile(r"^[ \t]*```.*?(?:^[ \t]*```[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)


def prose(text: str) -> str:
    """A text without its fenced blocks of code, which follow rules of their own."""
    return _FENCED.sub("", text) if "```" in text else text


_NAMES = re.compile(r"``?[^`\n]{1,200}`{1,2}|https?://\S+|(?<![A-Za-z0-9])[A-Za-z0-9]++(?:(?:\.|::|/|_)[A-Za-z0-9]++)++")
_MOST = 0.5  # share of Hangul among the letters that are left


def korean_about_names(text: str, syllables: int = 200) -> bool:
    """Whether a text has so many Hangul syllables, and mostly Hangul once code, addresses and dotted names are out."""
    found = counts(_NAMES.sub(" ", prose(text)))
    hangul = found[HANGUL] + found[RARE_HANGUL]
    return hangul >= syllables and hangul >= _MOST * letters(found)


class Length(Step):
    """Too short to teach anything, or so long that it is no document but a dump."""

    name: ClassVar[str] = "length"
    title: ClassVar[str] = "길이"

    minimum: int = Field(20, ge=0, description="characters")
    maximum: int = Field(1_000_000, ge=1, description="characters")

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        if len(text) < self.minimum:
            return Drop("too_short", f"{len(text)} < {self.minimum}")
        if len(text) > self.maximum:
            return Drop("too_long", f"{len(text)} > {self.maximum}")
        return text


class HangulRatio(Step):
    """The share of Hangul among the letters outside of code: lists of names and other languages have little."""

    name: ClassVar[str] = "hangul_ratio"
    title: ClassVar[str] = "한글 비율"

    minimum: float = Field(0.3, ge=0, le=1)

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        found = counts(prose(text))
        hangul, total = found[HANGUL] + found[RARE_HANGUL], letters(found)
        if (hangul < self.minimum * total or not hangul) and not (self.minimum <= _MOST and korean_about_names(text)):
            return Drop("little_hangul", f"{hangul / total if total else 0:.2f} < {self.minimum}")
        return text


_RULE = re.compile(r"([^\w\s])\1{3,}")
_TABLE_RULE = re.compile(r"^[ \t|:+-]{4,}$", re.MULTILINE)
_SENTENCE = re.compile(r"[다요]\.?[\"'”’)]*\s*$|[다요]\.\s")
_SAYS, _FIGURES = 10, 0.5  # Hangul syllables of a sentence, and the share of digits that it may have


class Symbols(Step):
    """The shares of symbols (other than the marks of sentences, of which comments are full) and of digits in what is written.

    Code, the rules of tables and underlines (====) are layout and do not count. A sentence may be full of figures: 2010년
    기준으로 인구는 33,505명이다.
    """

    name: ClassVar[str] = "symbols"
    title: ClassVar[str] = "기호·숫자 비율"

    symbols: float = Field(0.35, ge=0, le=1, description="the most symbols and punctuation")
    digits: float = Field(0.4, ge=0, le=1, description="the most digits")

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        text, whole = _TABLE_RULE.sub("", _RULE.sub("", prose(text))), text
        found = counts(text)
        written = len(text) - found[SPACE] or 1
        symbols = (found[SYMBOL] + found[PUNCTUATION] + found[SURROGATE] // 2) / written
        if symbols > self.symbols:
            return Drop("symbols", f"{symbols:.2f} > {self.symbols}")
        if found[DIGIT] > self.digits * written and not (
            found[HANGUL] >= _SAYS and found[DIGIT] <= _FIGURES * written and _SENTENCE.search(text)
        ):
            return Drop("digits", f"{found[DIGIT] / written:.2f} > {self.digits}")
        return whole


_SLANG = re.compile("(?<![ㄱ-ㅣ])(?:ㅎ?ㄷㄷ|(?:ㅂㅇ)+|ㄱㅅ|ㅊㅊ)(?![ㄱ-ㅣ])")  # 덜덜, 바이, 감사, 추천


class Gibberish(Step):
    """Keys hit at random and syllables that Korean does not have: ㅁㄴㅇㄹ, 퓱렏쀓."""

    name: ClassVar[str] = "gibberish"
    title: ClassVar[str] = "의미 없는 글자"

    jamo: float = Field(0.4, ge=0, le=1, description="the most jamo standing alone, of all Hangul")
    unknown: float = Field(0.1, ge=0, le=1, description="the most syllables that Korean hardly uses")

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        found = counts(text)
        syllables = found[HANGUL] + found[RARE_HANGUL]
        if found[JAMO] > self.jamo * (syllables + found[JAMO]):
            jamo = found[JAMO] - sum(map(text.count, "ㅋㅎㅠㅜㅡ")) - sum(map(len, _SLANG.findall(text)))  # laughter and tears are meant
            if jamo > self.jamo * (syllables + jamo) or not syllables:
                return Drop("jamo", f"{found[JAMO] / (syllables + found[JAMO]):.2f} > {self.jamo}")
        # syllables outside of KS X 1001 are rare in Korean and 79 % of random ones: look closer only where there are some
        if found[RARE_HANGUL] > 2 and found[RARE_HANGUL] > 0.03 * syllables:
            share = unknown_share(text)
            if share > self.unknown:
                return Drop("syllables", f"{share:.2f} > {self.unknown}")
        return text


_HANGUL = re.compile("[가-힣]")
_SYLLABLES, _LINE = 10, 20  # Hangul syllables and characters of a line that says something


class RepeatedLines(Step):
    """Lines and paragraphs that come again and again within one text.

    The Gopher rule allows 30 % of all lines. Manuals repeat headings, labels (형식, 기본값), rows of tables and code as
    they must; so only lines of prose are counted, and half of them may repeat.
    """

    name: ClassVar[str] = "repeated_lines"
    title: ClassVar[str] = "되풀이된 줄"

    maximum: float = Field(0.5, ge=0, le=1, description="share of lines that repeat an earlier one, by number or characters")
    minimum_lines: int = Field(6, ge=2, description="texts with fewer lines of Korean prose are left alone")

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        if text.count("\n") < 3:
            return text
        lines = [line for line in map(str.strip, prose(text).split("\n")) if self._says_something(line)]
        different = set(lines)
        if len(different) == len(lines) or len(lines) < self.minimum_lines:
            return text
        by_number = 1 - len(different) / len(lines)
        by_characters = 1 - sum(map(len, different)) / sum(map(len, lines))
        if max(by_number, by_characters) > self.maximum:
            return Drop("lines", f"{max(by_number, by_characters):.2f} > {self.maximum}")
        return text

    @staticmethod
    def _says_something(line: str) -> bool:
        return len(line) >= _LINE and line[0] not in "#|" and len(_HANGUL.findall(line)) >= _SYLLABLES


class RepeatedNgrams(Step):
    """One phrase over and over: the share of the text in the commonest two, three and four words, and in any five."""

    name: ClassVar[str] = "repeated_ngrams"
    title: ClassVar[str] = "되풀이된 어절"

    top: tuple[float, float, float] = Field((0.3, 0.26, 0.24), description="the most in one 2-, 3-, 4-gram, by characters")
    any_five: float = Field(0.45, ge=0, le=1, description="the most in repeated 5-grams, by characters")
    minimum_words: int = Field(60, ge=1, description="in shorter texts only one word over and over counts")

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        words = prose(text).split()
        n, different = len(words), len(set(words))
        # words that repeat an earlier one bound every share of repeated n-grams from above
        if n - different < 0.2 * n:
            return text
        if n >= 8 and different <= 0.2 * n and different <= 4:
            return Drop("one_phrase", f"{different} of {n} words")
        if n < self.minimum_words:
            return text
        if n - len(set(pairwise(words))) < 0.2 * n:  # five words again are four pairs again; nothing repeats that much
            return text
        total = sum(map(len, words))
        for size, limit in zip((2, 3, 4), self.top):
            [(gram, times)] = Counter(zip(*(words[i:] for i in range(size)))).most_common(1)
            share = times * sum(map(len, gram)) / total if times > 2 else 0.0
            if share > limit:
                return Drop(f"top_{size}_gram", f"{min(share, 1.0):.2f} > {limit}")
        seen, covered = set(), bytearray(n)
        for i, gram in enumerate(zip(*(words[k:] for k in range(5)))):
            if gram in seen:
                covered[i : i + 5] = b"\1" * 5
            seen.add(gram)
        share = sum(len(w) for w, c in zip(words, covered) if c) / total
        return Drop("repeated_5_grams", f"{share:.2f} > {self.any_five}") if share > self.any_five else text


_ENDINGS = "은는이가을를에의로고다요서도면지와과며만니죠네까음임함게"


@cache
def _ending_tables() -> tuple[np.ndarray, np.ndarray]:
    """Which code units end a particle or an ending, and which may stand after a word."""
    endings = np.zeros(0x10000, dtype=bool)
    endings[[ord(c) for c in _ENDINGS]] = True
    return endings, np.isin(class_table(), (SPACE, MARK, PUNCTUATION, SYMBOL))


class Particles(Step):
    """Running Korean has particles and endings on most words; lists of key words, menus and price tables have few."""

    name: ClassVar[str] = "particles"
    title: ClassVar[str] = "조사·어미"

    minimum: float = Field(0.08, ge=0, le=1, description="the least share of words that end in a particle or ending")
    minimum_words: int = Field(20, ge=1, description="shorter texts are left alone")

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        words = text.count(" ") + text.count("\n") + 1
        if words < self.minimum_words:
            return text
        # words of other scripts (code, names) are not asked
        found = counts(text)
        words = words * found[HANGUL] / (letters(found) or 1)
        endings, after = _ending_tables()
        codes = codes_of(text)
        endings = int((endings.take(codes[:-1]) & after.take(codes[1:])).sum()) + bool(endings[codes[-1]])
        if endings < self.minimum * words:
            return Drop("no_particles", f"{endings / words:.2f} < {self.minimum}")
        return text


_SPACE_BEFORE_MARK = re.compile(r"[가-힣] [.,?!:](?![.,?!:)])")
_NO_SPACE_AFTER = re.compile(r"[가-힣][.,?!:][가-힣]")
_RUN = re.compile(r"[가-힣]{7,}")  # words of seven syllables are rare: 교육위원회는, 프로그래머는
_SURE, _OFTEN = 0.3, 100  # nats a gap that need no sign of punctuation; gaps to which one sign is often


class SpacingFault(Step):
    """Spaces lost, after every syllable, or scattered at random: the words cannot be found again with certainty.

    A likelihood ratio raises the suspicion: spaces lost and added at random, against spaces as Korean puts them
    (:mod:`llm_workshop.curation.spacing`), with the signs that punctuation gives. Foreign names, loanwords and lists of
    names raise it too, and it grows with length. So it has to show in the words as well: Hangul in long runs where
    spaces were lost, spaces inside words where they were scattered.
    """

    name: ClassVar[str] = "spacing"
    title: ClassVar[str] = "무너진 띄어쓰기"

    threshold: float = Field(3.2, gt=0, description="nats of evidence from which a text is dropped")
    a_gap: float = Field(0.03, ge=0, description="and nats a gap, so that long texts may have some faults")
    minimum_gaps: int = Field(10, ge=2, description="shorter texts are left alone")
    runs: float = Field(0.5, gt=0, le=1, description="share of Hangul in runs of seven syllables or more that shows lost spaces")
    strays: float = Field(0.15, ge=0, le=1, description="share of spaces inside words that shows scattered ones")
    each: float = Field(0.05, ge=0, description="nats a gap that scattered spaces have at least where punctuation agrees")

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        found = spacing_of(text)
        if found.gaps < self.minimum_gaps:
            return text
        evidence = found.scattered
        if evidence < -4 - 0.1 * found.gaps:  # far from it, whatever punctuation says: nearly every text
            return text
        evidence += 3.0 * len(_SPACE_BEFORE_MARK.findall(text)) + 1.5 * len(_NO_SPACE_AFTER.findall(text))
        if evidence <= max(self.threshold, self.a_gap * found.gaps):
            return text
        if found.spaces > 0.6 * found.gaps:
            return Drop("every_syllable", f"{found.spaces}/{found.gaps}")
        if found.spaces < 0.1 * found.expected:
            return Drop("none", f"{found.spaces}, expected {found.expected:.0f}")
        hangul = counts(text)
        runs = sum(map(len, _RUN.findall(text))) / (hangul[HANGUL] + hangul[RARE_HANGUL])
        if runs >= self.runs:
            return Drop("run_together", f"{runs:.2f} >= {self.runs}")
        signs = sum(len(sign.findall(text)) for sign in (_SPACE_BEFORE_MARK, _NO_SPACE_AFTER))
        often = _OFTEN * signs >= found.gaps
        strays = found.strays >= max(1 if often else 2, self.strays * found.spaces)
        if strays and evidence >= (self.each if often else _SURE) * found.gaps:
            return Drop("scattered", f"{evidence:.1f} > {self.threshold}")
        return text


STEPS = (Length, HangulRatio, Symbols, Gibberish, RepeatedLines, RepeatedNgrams, Particles, SpacingFault)
