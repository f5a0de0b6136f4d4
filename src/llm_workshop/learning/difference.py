"""Two values that differ and look the same: Hangul in two forms, invisible characters, the text '0' for the number 0."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping

from llm_workshop.learning.failure import short

#: How many characters are told by their code points.
MAX_POINTS = 8


def explain_difference(left: object, right: object) -> list[str] | None:
    """Lines that tell the difference of ``left == right``; ``None`` where pytest's own show it."""
    if type(right).__name__.startswith("Approx"):  # what pytest.approx makes; the class has no public name
        no_number = next((each for each in (left if isinstance(left, list | tuple) else [left]) if isinstance(each, str | bytes | None)), ...)
        return None if no_number is ... else [f"{short(left)} == {right}", f"{short(no_number)}: 수가 아니라 {type(no_number).__name__}입니다"]
    for where, one, other in _pairs_of_text(left, right):
        if one != other and _as_seen(one) == _as_seen(other):
            start = next((i for i, pair in enumerate(zip(one, other)) if pair[0] != pair[1]), min(len(one), len(other)))
            return [f"{short(left)} == {short(right)}", f"{where}눈에는 같아 보이지만 코드 포인트가 {start}번째부터 다릅니다:",
                    f"  왼쪽: {_points(one[start:])}", f"  오른쪽: {_points(other[start:])}"]  # fmt: skip
    return None


def _pairs_of_text(left: object, right: object, where: str = "") -> Iterator[tuple[str, str, str]]:
    """(place, text, text) of texts that stand at the same place of both values."""
    if isinstance(left, str) and isinstance(right, str):
        yield where and f"{where}: ", left, right
    elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
        for index, pair in enumerate(zip(left, right)):
            yield from _pairs_of_text(*pair, f"{where}[{index}]")
    elif isinstance(left, Mapping) and isinstance(right, Mapping):
        for key in left.keys() & right.keys():
            yield from _pairs_of_text(left[key], right[key], f"{where}[{key!r}]")


def _as_seen(text: str) -> str:
    """Composed, without what has no width, every space a plain one."""
    text = "".join(" " if c.isspace() else c for c in unicodedata.normalize("NFC", text))
    return "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cc"))


def _points(text: str) -> str:
    shown = " ".join(f"U+{ord(c):04X}" for c in text[:MAX_POINTS])
    return (shown or "(끝)") + (" …" if len(text) > MAX_POINTS else "")
