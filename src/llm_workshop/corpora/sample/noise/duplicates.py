"""Near duplicates: the same document with a few sentences edited."""

from __future__ import annotations

import random
import re

# Words that can stand for one another without touching a particle or an ending.
_SYNONYMS = (
    ("정말", "참"), ("매우", "아주"), ("무척", "몹시"), ("너무", "굉장히"), ("조금", "약간"), ("많이", "잔뜩"),
    ("자주", "종종"), ("가끔", "이따금"), ("항상", "늘"), ("언제나", "항상"), ("빨리", "얼른"), ("천천히", "느긋하게"),
    ("그러나", "하지만"), ("그래서", "그러니까"), ("그리고", "또"), ("또한", "아울러"), ("특히", "무엇보다"),
    ("먼저", "우선"), ("마지막으로", "끝으로"), ("함께", "같이"), ("모두", "다"), ("다시", "또다시"), ("이미", "벌써"),
    ("곧", "금방"), ("아마", "어쩌면"), ("드디어", "마침내"), ("결국", "끝내"), ("갑자기", "별안간"),
    ("오늘", "이날"), ("지금", "현재"), ("올해", "금년"), ("약", "대략"), ("잘", "제대로"), ("꼭", "반드시"),
    ("가장", "제일"), ("훨씬", "한결"), ("겨우", "간신히"), ("혼자", "홀로"), ("서로", "상호"), ("푹", "충분히"),
    ("가득", "그득"), ("여러", "갖가지"), ("모든", "온갖"), ("큰", "커다란"), ("작은", "자그마한"), ("새로운", "색다른"),
    ("예쁜", "고운"), ("맛있는", "맛 좋은"), ("좋은", "괜찮은"), ("오래된", "해묵은"), ("재미있는", "흥미로운"),
)  # fmt: skip
_OTHER = dict(_SYNONYMS) | {b: a for a, b in reversed(_SYNONYMS)}
_SENTENCE = re.compile(r"(?<=[.!?])(?=[ \n])")
_TAILS = (" (끝)", "\n출처: 인터넷", "\n[퍼온 글]", "\n* 이 글은 수정되었습니다.", " 잘 읽었습니다.", "\n(사진 생략)")
_NUMBER = re.compile(r"\d+")


def shingle_similarity(a: str, b: str, size: int = 5) -> float:
    """Jaccard similarity of the sets of ``size``-character shingles (Broder 1997), in [0, 1]."""
    first = {a[i : i + size] for i in range(max(1, len(a) - size + 1))}
    second = {b[i : i + size] for i in range(max(1, len(b) - size + 1))}
    return len(first & second) / len(first | second)


def _synonym(sentences: list[str], rng: random.Random) -> str | None:
    places = []
    for i, sentence in enumerate(sentences):
        places += [(i, j) for j, word in enumerate(sentence.split(" ")) if word in _OTHER]
    if not places:
        return None
    i, j = places[rng.randrange(len(places))]
    words = sentences[i].split(" ")
    before, words[j] = words[j], _OTHER[words[j]]
    sentences[i] = " ".join(words)
    return f"synonym:{before}->{words[j]}"


def _drop(sentences: list[str], rng: random.Random) -> str | None:
    if len(sentences) < 4:
        return None
    i = rng.randrange(1, len(sentences))
    del sentences[i]
    return f"drop:{i}"


def _swap(sentences: list[str], rng: random.Random) -> str | None:
    if len(sentences) < 4:
        return None
    i = rng.randrange(1, len(sentences) - 1)
    sentences[i], sentences[i + 1] = sentences[i + 1], sentences[i]
    return f"swap:{i}"


def _number(sentences: list[str], rng: random.Random) -> str | None:
    places = [(i, m) for i, s in enumerate(sentences) for m in _NUMBER.finditer(s)]
    if not places:
        return None
    i, match = places[rng.randrange(len(places))]
    old = match.group()
    new = str(int(old) + rng.randint(1, 3))
    sentences[i] = sentences[i][: match.start()] + new + sentences[i][match.end() :]
    return f"number:{old}->{new}"


def _tail(sentences: list[str], rng: random.Random) -> str | None:
    sentences[-1] += rng.choice(_TAILS)
    return "tail"


_EDITS = (_synonym, _synonym, _synonym, _drop, _swap, _number, _tail)


def near_duplicate(text: str, rng: random.Random) -> tuple[str, dict]:
    """The text with one to four edits; the label holds them and the similarity to the original."""
    sentences = _SENTENCE.split(text)
    edits = []
    for _ in range(rng.choice((1, 2, 2, 3, 4))):
        edit = rng.choice(_EDITS)(sentences, rng)
        if edit is not None:
            edits.append(edit)
    if not edits or "".join(sentences) == text:  # nothing to edit, or an edit undone by the next
        edits = [_tail(sentences, rng)]
    new = "".join(sentences)
    return new, {"edits": edits, "similarity": round(shingle_similarity(text, new), 4)}
