"""The conversation itself: commands, answers as they come, figures under them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing

from rich.console import Console
from rich.markup import escape

from llm_workshop.serving.conversation import clean, visible
from llm_workshop.serving.engine import BusyError, ChatEngine, Delta, Message, PromptTooLongError, Sampling
from llm_workshop.serving.terminal import phrases
from llm_workshop.serving.terminal.keyboard import changed
from llm_workshop.serving.words import EMPTY_ANSWER, refused, too_long
from llm_workshop.serving.worker import Timing


class Quit(Exception):
    """The person has had enough."""


class Conversation:
    """Messages and how they are answered; ``console`` gets everything that is not the answer itself.

    An answer that was stopped stays in the conversation; a question without an answer does not, but ``/다시`` knows it.
    """

    def __init__(self, engine: ChatEngine, sampling: Sampling, console: Console, where: str, system: str | None = None):
        self.engine, self.sampling, self.console, self.where = engine, sampling, console, where
        self.info = engine.info()
        self._system: list[Message] = [{"role": "system", "content": system}] if system else []
        self.messages: list[Message] = []
        self._question: str | None = None
        self._commands: dict[str, Callable[[str], None]] = {}
        for names, function in {
            ("/도움", "/help"): self._help, ("/새로", "/new"): self._new, ("/다시", "/retry", "/regenerate"): self._again,
            ("/설정", "/set"): self._settings, ("/모델", "/model"): self._model, ("/끝", "/quit", "/exit"): self._quit,
        }.items():  # fmt: skip
            self._commands |= dict.fromkeys(names, function)

    def handle(self, text: str) -> None:
        """One line or message of the person; raises Quit for /끝."""
        text = clean(text)
        if not text:
            return
        command, _, rest = text.partition(" ")
        if command in self._commands:
            self._commands[command](rest.strip())
        elif command.startswith("/") and "\n" not in text and "/" not in command[1:]:
            self._say(phrases.unknown(command))
        else:
            self._ask(text)

    def pieces(self, text: str) -> Iterator[Delta]:
        """The engine's answer to ``text`` after all that was said."""
        if not self.info.supports_chat:
            return self.engine.complete(text, self.sampling)
        return self.engine.stream([*self._system, *self.messages, {"role": "user", "content": text}], self.sampling)

    def _ask(self, question: str) -> None:
        self._question, parts, timing, dropped = question, [], Timing(), 0
        reason: str | None = None
        began = time.monotonic()
        try:
            with closing(self.pieces(question)) as answer:
                for delta in answer:
                    timing.record(delta, time.monotonic() - began)
                    dropped = max(dropped, delta.dropped_messages)
                    reason = delta.finish_reason or reason
                    piece = visible(delta.text)
                    parts.append(piece)
                    self._write(piece)
        except KeyboardInterrupt:
            reason = "cancelled"
        except PromptTooLongError as error:
            self._problem(too_long(error.n_tokens, error.limit))
        except BusyError:
            self._problem(phrases.BUSY)
        except (OSError, ValueError) as error:
            self._end_line(parts)
            self._problem(refused(error) if isinstance(error, ValueError) else phrases.BROKEN)
            self._say(phrases.cause(error))
        self._conclude(question, parts, timing, reason, dropped)

    def _conclude(self, question: str, parts: list[str], timing: Timing, reason: str | None, dropped: int) -> None:
        text = "".join(parts)
        if text.strip():
            self.messages += [{"role": "user", "content": question}, {"role": "assistant", "content": text}]
            if reason is not None:
                self._end_line(parts)
        elif reason == "cancelled":
            self._say(f"\n{phrases.KEEPS_NOTHING}")
            return
        elif reason is not None:
            self._say(EMPTY_ANSWER)
        if reason is not None:
            self._say(phrases.figures(timing, reason, dropped) + "\n")

    def _end_line(self, parts: list[str]) -> None:
        if parts and not "".join(parts).endswith("\n"):
            self._write("\n")

    def _write(self, piece: str) -> None:
        """The answer goes out as it is: the terminal wraps lines, and knows how wide its characters are."""
        self.console.file.write(piece)
        self.console.file.flush()

    def _say(self, text: str) -> None:
        self.console.print(f"[dim]{escape(text)}[/dim]", highlight=False, soft_wrap=True)

    def _problem(self, text: str) -> None:
        self.console.print(f"[red]{escape(text)}[/red]", highlight=False, soft_wrap=True)

    def _help(self, rest: str) -> None:
        self._say(phrases.HELP)

    def _new(self, rest: str) -> None:
        self.messages, self._question = [], None
        self._say(phrases.NEW)

    def _again(self, rest: str) -> None:
        if self._question is None:
            self._say(phrases.NOTHING_TO_REPEAT)
            return
        if self.messages and self.messages[-2]["content"] == self._question:
            del self.messages[-2:]
        self._ask(self._question)

    def _settings(self, rest: str) -> None:
        try:
            self.sampling = changed(self.sampling, rest)
        except ValueError as error:
            self._problem(str(error))
        else:
            self._say(phrases.settings(self.sampling))

    def _model(self, rest: str) -> None:
        self._say(phrases.model(self.info, self.where))

    def _quit(self, rest: str) -> None:
        raise Quit
