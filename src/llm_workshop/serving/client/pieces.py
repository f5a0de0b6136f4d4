"""The whole answer so far, again and again, made into pieces that can be shown one after another."""

from __future__ import annotations

import re
from dataclasses import dataclass

from llm_workshop.serving.engine import Delta, FinishReason

_BROKEN = re.compile("[\ufffd\ud800-\udfff]")
_REASONS: dict[str, FinishReason] = {"length": "length", "cancelled": "cancelled", "timeout": "cancelled"}
_UNFINISHED = ("", "none", "not_finished")


@dataclass(frozen=True)
class Response:
    """One response of the server: ``text`` is the whole answer so far, numbers are None where they are not told."""

    text: str | bytes
    finish_reason: str | None = None
    cumulative_logprob: float | None = None
    n_prompt_tokens: int | None = None
    n_tokens: int | None = None


class Pieces:
    """Responses in, pieces out; all pieces joined are the last response's text without broken characters.

    A server that cuts its text anywhere ends it inside a character now and then: U+FFFD, or half of a surrogate pair.
    That end is held back until the rest has come, and left out if it never does.
    """

    def __init__(self, max_new_tokens: int):
        self._max_new_tokens = max_new_tokens
        self._shown, self._raw = "", None
        self.n_tokens = 0
        self.finish_reason: FinishReason | None = None

    def push(self, response: Response) -> Delta | None:
        """The next piece; None for a response that says nothing new."""
        raw = response.text
        text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
        n_tokens = self._count(response, raw)
        self._raw = raw
        piece = _BROKEN.sub("", self._new_part(text))
        reason = (response.finish_reason or "").lower()
        if reason not in _UNFINISHED:
            self.finish_reason = _REASONS.get(reason, "stop")
        if not (piece or n_tokens or self.finish_reason):
            return None
        return Delta(
            piece, n_tokens, self.finish_reason, n_prompt_tokens=response.n_prompt_tokens,
            cumulative_logprob=response.cumulative_logprob,
        )  # fmt: skip

    def end(self) -> Delta | None:
        """The last piece, where the server ended the stream without giving a reason."""
        if self.finish_reason:
            return None
        self.finish_reason = "length" if self.n_tokens >= self._max_new_tokens else "stop"
        return Delta(finish_reason=self.finish_reason)

    def _new_part(self, text: str) -> str:
        end = len(text)
        while end and _BROKEN.match(text[end - 1]):
            end -= 1
        # What is on the screen stays there: of a text that was changed further back only the tail can be shown.
        start = len(self._shown)
        if end <= start:
            return ""
        self._shown = text[:end]
        return text[start:end]

    def _count(self, response: Response, raw: str | bytes) -> int:
        """New tokens: as the server counts them, else one a response; the last may only repeat the text with a reason."""
        if response.n_tokens is not None:
            new = max(0, response.n_tokens - self.n_tokens)
        else:
            new = int(not (response.finish_reason and raw == (self._raw or type(raw)())))
        self.n_tokens += new
        return new
