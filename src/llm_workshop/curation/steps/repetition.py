"""Runs of one character and of white space, cut to a length that keeps what they say.

ㅋㅋㅋㅋㅋㅋㅋㅋ and ㅋㅋ mean the same, but each length is another token sequence. Two stay: one ㅋ is colder than
ㅋㅋ, and a corpus without any would have lost how people write.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from pydantic import Field

from llm_workshop.curation.characters import JAMO, counts, has_run
from llm_workshop.curation.step import Drop, Step

_JAMO_RUN = re.compile("([ㄱ-ㅎㅏ-ㅣ])\\1+")
_MARKS = "!?.,~…·♡♥;^"  # not ★, which counts: ★★★★☆
_CALLS = "하호헤히흐허후와우오아으어이크키케쿠앙잉엉"  # 하하하하, 아아아아
_RULES = "-=_*─━~"
# ~~~~ and ^^^^ at the start of a line underline a heading
_MARK_RUN = re.compile(f"((?<=[^\\s#~^])[~^]|[{re.escape(_MARKS.replace('~', '').replace('^', ''))}])\\1+")
_CALL_RUN = re.compile(f"([{_CALLS}])\\1{{3,}}")
_RULE_RUN = re.compile(f"([{re.escape(_RULES)}])\\1{{30,}}")
_SIGNS = tuple(c * 4 for c in _CALLS)


class Repetition(Step):
    """ㅋㅋㅋㅋ, ㅠㅠㅠ, !!!!!, 하하하하 and long rules are cut to a set length."""

    name: ClassVar[str] = "repetition"
    title: ClassVar[str] = "되풀이된 글자 줄이기"

    jamo: int = Field(2, ge=0, le=10, description="how many of ㅋㅋㅋㅋ stay; 0 takes runs out altogether")
    marks: int = Field(3, ge=1, le=10, description="how many of !!!!!! stay")
    syllables: int = Field(3, ge=1, le=3, description="how many of 하하하하 stay")

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        if counts(text)[JAMO] > 1:
            # with 0, a pair goes too; a single jamo (ㅅ 받침) is a word of its own and stays
            text = _JAMO_RUN.sub(lambda run: run.group(1) * min(self.jamo, len(run.group())), text)
        if not has_run(text, min(self.marks, 3) + 1):
            return text
        for mark in _MARKS:
            if mark * (self.marks + 1) in text:
                text = _MARK_RUN.sub(lambda run: run.group(1) * min(self.marks, len(run.group())), text)
                break
        for sign in _SIGNS:
            if sign in text:
                text = _CALL_RUN.sub(lambda run: run.group(1) * self.syllables, text)
                break
        for rule in _RULES:
            if rule * 31 in text:
                text = _RULE_RUN.sub(lambda run: run.group(1) * 30, text)
                break
        return text


_SPACES_INSIDE = re.compile(r"(?<=\S)[ \t]*(?:  |\t)[ \t]*")
_SPACES_AT_END = re.compile(r"(?<![ \t])[ \t]+$", re.MULTILINE)
_EMPTY_LINES = re.compile(r"\n{3,}")
_HANGUL = re.compile("[가-힣]")


class Whitespace(Step):
    """In lines of Korean, runs of spaces become one; more than one empty line becomes one; code and indentation stay."""

    name: ClassVar[str] = "whitespace"
    title: ClassVar[str] = "공백 정리"

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        if " \n" in text or "\t\n" in text:
            text = _SPACES_AT_END.sub("", text)
        if "  " in text or "\t" in text:
            text = self._inside(text)
        if "\n\n\n" in text:
            text = _EMPTY_LINES.sub("\n\n", text)
        return text.strip()

    @staticmethod
    def _inside(text: str) -> str:
        lines, code = text.split("\n"), False
        for number, line in enumerate(lines):
            code ^= line.lstrip().startswith("```")
            if not code and ("  " in line or "\t" in line) and _HANGUL.search(line):
                lines[number] = _SPACES_INSIDE.sub(" ", line)
        return "\n".join(lines)


STEPS = (Repetition, Whitespace)
