"""An engine's pieces as OpenAI's answers: one JSON object, or server-sent events."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from llm_workshop.serving.engine import Delta, EngineError
from llm_workshop.serving.gateway.errors import ApiError, from_engine, json_bytes, json_response
from llm_workshop.serving.gateway.gate import Record
from llm_workshop.serving.gateway.metrics import Metrics
from llm_workshop.serving.gateway.pump import Pump
from llm_workshop.serving.gateway.requests import Request

log = logging.getLogger("llm_workshop.gateway")


class Form:
    """How an answer is written: of a conversation ("chat.completion") or of a text ("text_completion")."""

    def __init__(self, request: Request, fingerprint: str | None):
        self.chat = request.messages is not None
        self.include_usage = request.include_usage
        self.head = {
            "id": f"{'chatcmpl' if self.chat else 'cmpl'}-{uuid.uuid4().hex}",
            "object": "chat.completion" if self.chat else "text_completion",
            "created": int(time.time()),
            "model": request.model,
            "system_fingerprint": fingerprint,
        }

    def whole(self, text: str, finish_reason: str, usage: dict | None, extra: dict) -> dict[str, Any]:
        choice = {"index": 0, "logprobs": None, "finish_reason": finish_reason}
        if self.chat:
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["text"] = text
        return {**self.head, "choices": [choice], "usage": usage, **extra}

    def piece(self, text: str | None, finish_reason: str | None = None, first: bool = False, extra: dict | None = None) -> bytes:
        choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish_reason}
        if self.chat:
            choice["delta"] = ({"role": "assistant"} if first else {}) | ({} if text is None else {"content": text})
        else:
            choice["text"] = text or ""
        return self._event([choice], None, extra)

    def usage(self, usage: dict | None) -> bytes:
        return self._event([], usage, None)

    def _event(self, choices: list, usage: dict | None, extra: dict | None) -> bytes:
        value = {**self.head, "choices": choices, **(extra or {})}
        if self.chat:
            value["object"] = "chat.completion.chunk"
        if self.include_usage:
            value["usage"] = usage
        return event(value)


def event(value: Any) -> bytes:
    return b"data: " + json_bytes(value) + b"\n\n"


class Answer(Response):
    """Pulls an answer and sends it; the client's leaving ends the engine's work.

    The head of a stream is sent with the first piece, so that whatever fails before has its own status.
    """

    def __init__(self, request: Request, pump: Pump, form: Form, record: Record, metrics: Metrics, seconds: float):
        super().__init__()
        self.request, self.pump, self.form, self.record, self.metrics = request, pump, form, record, metrics
        self.deadline = asyncio.get_running_loop().time() + seconds
        self.dropped, self.finish_reason = 0, ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.record.outcome = "cancelled"
        tasks = [asyncio.create_task(self._answer(scope, receive, send)), asyncio.create_task(_gone(receive))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.pump.cancel()
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            self._count()
        if isinstance(results[0], Exception):
            raise results[0]

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            first = await self._next()
        except Exception as error:
            await self._failed(error).response()(scope, receive, send)
            return
        await (self._stream(first, send) if self.request.stream else self._whole(first, scope, receive, send))

    async def _whole(self, first: Delta, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            text = "".join([delta.text async for delta in self._deltas(first)])
        except Exception as error:
            await self._failed(error).response()(scope, receive, send)
            return
        self.record.outcome = self.finish_reason
        await json_response(self.form.whole(text, self.finish_reason, self._usage(), self._extra()))(scope, receive, send)

    async def _stream(self, first: Delta, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
        # nginx would otherwise collect the pieces.
        headers.append((b"x-accel-buffering", b"no"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            async for data in self._events(first):
                await send({"type": "http.response.body", "body": data, "more_body": True})
        except Exception as error:
            # Without [DONE], so that a client which reads no errors sees a stream cut short.
            data = event(self._failed(error).body())
            await send({"type": "http.response.body", "body": data, "more_body": False})
            return
        self.record.outcome = self.finish_reason
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})

    async def _events(self, first: Delta) -> AsyncIterator[bytes]:
        begun = False
        async for delta in self._deltas(first):
            # A token may end in the middle of a character: its text comes with the next.
            if delta.text or not begun:
                yield self.form.piece(delta.text, first=not begun, extra=None if begun else self._extra())
                begun = True
        yield self.form.piece(None, self.finish_reason)
        if self.form.include_usage:
            yield self.form.usage(self._usage())

    async def _deltas(self, first: Delta) -> AsyncIterator[Delta]:
        """All pieces with the first; afterwards ``finish_reason`` is set.  Raises what ends an answer wrongly."""
        delta: Delta | None = first
        while delta is not None:
            if delta.finish_reason == "cancelled":
                raise EngineError("the answer was cancelled by the server: send the request again")
            self.finish_reason = delta.finish_reason or self.finish_reason
            yield delta
            delta = await self._next(may_end=True)
        if not self.finish_reason:
            raise EngineError("the engine ended in the middle of the answer: send the request again")

    async def _next(self, may_end: bool = False) -> Delta | None:
        try:
            async with asyncio.timeout_at(self.deadline):
                delta = await self.pump.next()
        except TimeoutError:
            raise ApiError("the answer took too long: ask for fewer tokens", 504, code="timeout") from None
        if delta is None:
            if may_end:
                return None
            raise EngineError("the engine gave no answer: send the request again")
        self._note(delta)
        return delta

    def _note(self, delta: Delta) -> None:
        record = self.record
        if delta.n_tokens and not record.answer_tokens:
            self.metrics.first_token.labels(record.model).observe(record.seconds)
        record.answer_tokens += delta.n_tokens
        self.dropped = max(self.dropped, delta.dropped_messages)
        if delta.n_prompt_tokens is not None:
            record.prompt_tokens = delta.n_prompt_tokens

    def _usage(self) -> dict[str, int] | None:
        """None where the engine does not tell how long the prompt was: a guess would be taken for a count."""
        prompt, answer = self.record.prompt_tokens, self.record.answer_tokens
        if prompt is None:
            return None
        return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}

    def _extra(self) -> dict[str, int]:
        """Ours: how many old messages no longer fitted the context."""
        return {"dropped_messages": self.dropped} if self.dropped else {}

    def _failed(self, error: Exception) -> ApiError:
        told = from_engine(error, "messages" if self.form.chat else "prompt")
        if told.status == 500:
            log.error("answer %s failed", self.record.request_id, exc_info=error)
        self.record.outcome = told.code or "error"
        return told

    def _count(self) -> None:
        record = self.record
        self.metrics.answers.labels(record.model, record.outcome).inc()
        self.metrics.tokens.labels(record.model, "prompt").inc(record.prompt_tokens or 0)
        self.metrics.tokens.labels(record.model, "answer").inc(record.answer_tokens)


async def _gone(receive: Receive) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
