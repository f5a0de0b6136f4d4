"""Added tokens: names such as "<|end|>" that are one token wherever they stand and never come out of merges.

Special ones control the model and are not shown ("<|end|>"); ordinary ones are text ("<think>", a run of line breaks).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence

import regex

from .byte_table import CHARACTER_TO_BYTE


class SpecialTokens(dict[str, int]):
    """name -> id, and cutting text where the names stand.

    Raises:
        ValueError: a name that is empty, given twice or no text.
    """

    def __init__(self, ids: Mapping[str, int] | None = None):
        super().__init__(ids or {})
        check_names(list(self))
        self.ids = frozenset(self.values())
        # Longest first: where "<|end|>" and "<|end|>!" both fit, the longer one counts.
        names = sorted(self, key=len, reverse=True)
        self._regex = regex.compile("(" + "|".join(map(regex.escape, names)) + ")") if names else None

    @classmethod
    def numbered(cls, names: Sequence[str], first: int) -> SpecialTokens:
        """Consecutive ids from ``first`` on."""
        check_names(names)
        return cls({name: first + n for n, name in enumerate(names)})

    def split(self, text: str) -> list[tuple[str, bool]]:
        """Ordinary text and special tokens in turn, as (part, is_special); empty parts are left out."""
        if self._regex is None or not self._regex.search(text):
            return [(text, False)]
        # Splitting by one group alternates between text and match.
        return [(part, bool(n % 2)) for n, part in enumerate(self._regex.split(text)) if part]

    def split_to_ids(self, text: str) -> list[tuple[str, int | None]]:
        """The same with the id of each special token, and None for ordinary text."""
        return [(part, self[part] if is_special else None) for part, is_special in self.split(text)]

    def check_against(self, ordinary: Container[str]) -> None:
        """Refuse a name that a vocabulary file already uses for an ordinary token.

        Args:
            ordinary: printable names of the ordinary tokens.
        """
        for name in self:
            if name in ordinary:
                raise _like_ordinary(name)


class AddedTokens:
    """All added tokens of a tokenizer, and cutting a text into them and the rest.

    Args:
        special: name -> id.
        ordinary: name -> id.
        normalized: those of the names that are looked for only after normalisation, in what the others left over.
        normalize: the normalisation, needed where a name is in ``normalized``.
    """

    def __init__(
        self,
        special: Mapping[str, int],
        ordinary: Mapping[str, int] | None = None,
        normalized: Collection[str] = (),
        normalize: Callable[[str], str] | None = None,
    ):
        self.special = special
        self.ordinary = dict(ordinary or {})
        self.normalized = frozenset(normalized)
        self.normalize = normalize
        # With and without the special ones: in text that people typed "<|end|>" is just text.
        self._stages = {
            allow_special: self._make_stages({**self.ordinary, **(special if allow_special else {})})
            for allow_special in (True, False)
        }

    def _make_stages(self, ids: dict[str, int]) -> list[SpecialTokens | None]:
        early = {name: number for name, number in ids.items() if name not in self.normalized}
        late = {self.normalize(name): number for name, number in ids.items() if name in self.normalized}
        return [SpecialTokens(group) if group else None for group in (early, late)]

    def split(self, text: str, allow_special: bool) -> list[tuple[str, int | None]]:
        """(part, id of the added token or None for other text), in order; empty parts are left out."""
        first, second = self._stages[allow_special]
        parts = [(text, None)] if first is None else first.split_to_ids(text)
        if second is None:
            return parts
        return [
            found
            for part, token in parts
            for found in ([(part, token)] if token is not None else second.split_to_ids(self.normalize(part)))
        ]


def check_names(names: Sequence[str]) -> None:
    """Refuse names that cannot be special tokens.

    Raises:
        ValueError: with the offending name and the cure.
    """
    if isinstance(names, str):
        raise ValueError(f"special_tokens must be a list of names, not one str: pass [{names!r}]")
    for name in names:
        if not isinstance(name, str) or not name:
            raise ValueError(f"special token {name!r} is not a name: use a non-empty str such as '<|end|>'")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"special token {name!r} holds a lone surrogate: use a name of whole characters"
            ) from None
        if name in CHARACTER_TO_BYTE:
            raise _like_ordinary(name)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"special token {twice[0]!r} is given twice: list each one once")


def _like_ordinary(name: str) -> ValueError:
    return ValueError(
        f"special token {name!r} is spelled like an ordinary token: use a name that no text contains, "
        "such as '<|end|>'"
    )
