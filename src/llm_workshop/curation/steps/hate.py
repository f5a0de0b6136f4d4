"""Profanity and hate speech: tagged, so that a person may decide; dropped only where a recipe says so.

A list of words is fast and blunt. It takes 시발점 ("starting point") for an insult if nobody thinks of it, and it never
sees hate without a swear word in it: of BEEP!'s comments (news about entertainers) it finds 11 % of the hate and 1 % of
the offence, though 97 % of what it finds is either. A classifier trained on those comments is as good as other linear
models there (macro F1 0.58), yet at home only there: in 5,000 film reviews (NSMC) it marked 49, and of the eleven that
were read all were harmless stories of love and killing. Dropping all such text also drops those who write *about* hatred, and the dialect of groups that are
often insulted (Dodge et al. 2021); hence tags by default.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr

from llm_workshop.curation.step import Drop, Step

_GAP = r"[0-9~^.*!ㅣ]{0,2}"  # what people put between the syllables to slip through: 씨1발, 시~발
_ALONE = r"(?![ㄱ-ㅎㅏ-ㅣ])"  # initials count only as a run of their own: not ㅅㅂ inside ㄹㅁㅅㅂㅇ
_YOUNG = r"(?! ?(?:고양이|강아지|돼지|오리|줄|손|발))"  # 새끼 is also the young of an animal
# Each alternative begins with a letter, not a set: then ``re`` looks for the first letters only.
_PROFANITY = (
    rf"시{_GAP}발(?![점역행차하한기될되전지표령송굴부열견매]|라바)", rf"씨{_GAP}[발팔빨바]", "쓰발", "씹새", "씹할", rf"ㅅ{_GAP}ㅂ{_ALONE}", rf"ㅆ{_GAP}ㅂ{_ALONE}",
    "ㅆㅣ발", "개새끼", "개색[끼히]", "개쉐", "개자식", "개소리", rf"ㄱㅅㄲ{_ALONE}", rf"병{_GAP}신(?!년|일주|각|이라는 해)", "븅신", "빙신", rf"ㅂㅅ{_ALONE}", "지랄", "쥐랄", rf"ㅈㄹ{_ALONE}",
    "존나", "졸라(?!서|야|도|매|맸|대)", "좆", "좃같", "조온나", "미친[놈년새]", "미친 [놈년새]", "또라이", "엠창", "니애미", "느금마", "니미럴", "닥쳐(?![봐서야온올왔])", "썅", "쌍놈", "쌍년", "호로새끼", "호로자식",
    "씹새끼", rf"이 ?새끼{_YOUNG}", rf"저 ?새끼{_YOUNG}", rf"그 ?새끼{_YOUNG}", "병신새끼", "놈의 ?새끼", "쓰레기 ?새끼", "새끼야",
    "쓰레기같은 [놈년]", "아가리(?!브)", "꼴통", "걸레년",
)  # fmt: skip
_GROUPS = (
    "한남충", "한남(?![동대])", "김치녀", "된장녀", "맘충", "틀딱", "급식충", "진지충", "꼴페미", "페미년", "메갈년", "쿵쾅이", "보슬아치", "전라디언", "홍어족", "홍어새끼", "절라도", "라도놈", "쪽바리",
    "쪽빠리", "짱깨", "짱께", "똥남아", "깜둥이", "흑형", "게이새끼", "똥꼬충", "애자새끼", "장애새끼", "병신년들", "조선족놈", "짱골라", "외노자", "빨갱이", "좌빨", "수꼴", "토착왜구",
)  # fmt: skip


def _compiled(words: tuple[str, ...]) -> re.Pattern:
    return re.compile("|".join(words))


_FOUND = {"profanity": _compiled(_PROFANITY), "group": _compiled(_GROUPS)}
# After these letters the same ones belong to another word: 다시 발생, 들이닥쳐, 목을 졸라, 우스개소리
_ORDINARY_AFTER = {
    "시": re.compile(r"[가-힣]$"), "닥": re.compile(r"[가-힣]$"), "졸": re.compile(r"(?:목|허리띠)[을를]? ?$"), "개": re.compile(r"스$"),
    "병": re.compile(r"[가-힣]$"), "존": re.compile(r"[가-힣]$"),
}  # fmt: skip


def profanity_in(text: str) -> Counter:
    """How many swear words ("profanity") and words against groups of people ("group") a text has."""
    counts: Counter = Counter()
    for kind, pattern in _FOUND.items():
        for match in pattern.finditer(text):
            ordinary = _ORDINARY_AFTER.get(match[0][0])
            if ordinary is None or not ordinary.search(text, max(0, match.start() - 6), match.start()):
                counts[kind] += 1
    return counts


class Hate(Step):
    """Leaves ``tags["hate"]``: counts of words, or with a trained model the label and its probability."""

    name: ClassVar[str] = "hate"
    title: ClassVar[str] = "욕설·혐오 표시"

    model: str = "patterns"  # patterns; trained: the model from BEEP! in artifacts/filters; or a path
    characters: int = Field(600, ge=20)
    drop: tuple[Literal["profanity", "group", "offensive", "hate"], ...] = ()  # what is dropped; empty: only tagged
    threshold: float = Field(0.6, gt=0, le=1)  # with a trained model: probability from which a label counts
    words: int = Field(1, ge=1)  # with patterns: so many words are a reason to drop
    _classifier: Any = PrivateAttr(None)

    def start(self) -> None:
        if self.model != "patterns" and self._classifier is None:
            from llm_workshop.curation.models.store import obtain

            self._classifier = obtain("hate", "" if self.model == "trained" else self.model)

    def __call__(self, text: str, tags: dict[str, Any]) -> str | Drop:
        if self.model == "patterns":
            counts = profanity_in(text)
            if not counts:
                return text
            tags["hate"] = dict(counts)
            reason = next((kind for kind in self.drop if counts[kind] >= self.words), None)
            return Drop(reason, f"{counts[reason]} words") if reason else text
        probabilities = self._classifier.probabilities(text)
        label = max(probabilities, key=probabilities.__getitem__)
        if label == "none" or probabilities[label] < self.threshold:
            return text
        tags["hate"] = {"label": label, "p": round(probabilities[label], 3)}
        return Drop(label, f"p = {probabilities[label]:.3f}") if label in self.drop else text


STEPS = (Hate,)
