"""The engines by name, what is known of them, and whether they answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from llm_workshop.serving.engine import ChatEngine, EngineError, ModelInfo

#: A question to an engine is given up after so many seconds, and its answer is believed for so many.
PATIENCE, FRESH = 3.0, 5.0


class Models:
    """Engines are asked in threads, one question at a time each: a hung one costs one thread and no more."""

    def __init__(self, engines: Mapping[str, ChatEngine], ready: Mapping[str, Callable[[], bool]] | None = None):
        self._ready = dict(ready or {})
        self.engines, self.names = dict(engines), list(engines)
        self._known: dict[str, ModelInfo] = {}
        self._asking: dict[str, asyncio.Future[ModelInfo]] = {}
        self._states: dict[str, tuple[float, str]] = {}
        self._started = int(time.time())

    async def info(self, name: str) -> ModelInfo | None:
        """What the engine says of itself, not older than a few seconds if it answers; None if it never did."""
        await self._state(name)
        return self._known.get(name)

    async def card(self, name: str) -> dict[str, Any]:
        """A model as /v1/models shows it; ``max_model_len`` is named as in vLLM."""
        info = await self.info(name)
        card = {"id": name, "object": "model", "created": self._started, "owned_by": "llm-workshop"}
        if info is not None:
            card["created"] = _unix_time(info.created) or self._started
            card["max_model_len"] = info.context_length
            card["supports_chat"] = info.supports_chat
        return card

    async def health(self) -> dict[str, str]:
        """ "ok" or what is wrong, by name."""
        return dict(zip(self.names, await asyncio.gather(*map(self._state, self.names))))

    async def _state(self, name: str) -> str:
        when, state = self._states.get(name, (float("-inf"), ""))
        if time.monotonic() - when > FRESH:
            state = await self._ask(name)
        return state

    def _question(self, name: str) -> ModelInfo:
        """In a thread.  An engine may know its facts by heart, so that only ``ready`` tells whether it is there."""
        info = self.engines[name].info()
        if name in self._ready and not self._ready[name]():
            raise EngineError("not ready")
        return info

    async def _ask(self, name: str) -> str:
        if name not in self._asking:
            self._asking[name] = _in_thread(lambda: self._question(name))
        future = self._asking[name]
        try:
            # Shielded: whoever asks next waits for the same answer.
            self._known[name] = await asyncio.wait_for(asyncio.shield(future), PATIENCE)
            state = "ok"
        except TimeoutError:
            state = f"no answer within {PATIENCE:g} s"
        except Exception as error:
            state = str(error) if isinstance(error, (OSError, ValueError)) else type(error).__name__
        if future.done():
            self._asking.pop(name, None)
        self._states[name] = (time.monotonic(), state)
        return state


def _in_thread(function) -> asyncio.Future:
    """Call ``function`` in a daemon thread: unlike the loop's own pool it never keeps the process from ending."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_exception(error) if error else future.set_result(value)

    def run() -> None:
        value = error = None
        try:
            value = function()
        except BaseException as caught:
            error = caught
        try:
            loop.call_soon_threadsafe(settle, value, error)
        except RuntimeError:
            pass  # the loop is closed: nobody asks any more

    threading.Thread(target=run, name="gateway-info", daemon=True).start()
    return future


def _unix_time(text: str | None) -> int | None:
    try:
        return int(datetime.fromisoformat(text).timestamp()) if text else None
    except ValueError:
        return None
