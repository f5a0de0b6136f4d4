"""`workshop chat`: finding a model that answers, and the three ways to ask it."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from typing import TYPE_CHECKING

from llm_workshop.serving.client import Timeouts, TritonClient, TritonEngine
from llm_workshop.serving.conversation import clean, visible
from llm_workshop.serving.engine import ChatEngine, EngineError, Sampling
from llm_workshop.serving.terminal import phrases
from llm_workshop.serving.terminal.keyboard import prepare_line_editing, read_message
from llm_workshop.serving.triton.interface import MODEL_NAME

if TYPE_CHECKING:
    from llm_workshop.settings import Settings


def chat(settings: Settings, url: str | None = None, model: str | None = None, once: str | None = None) -> int:
    """Talk at a terminal; with ``once`` or text on standard input print the answer alone.

    Raises EngineError or ValueError, with the cure, where no model answers.
    """
    alone = once is not None or not sys.stdin.isatty()
    question = None if not alone else clean(once if once is not None else sys.stdin.buffer.read().decode("utf-8", "replace"))
    if alone and not question:
        raise ValueError("there is no question: write one after --once, or into standard input (echo 안녕 | workshop chat)")
    engine, where, note = open_engine(settings, url, model)
    if note:
        print(note, file=sys.stderr, flush=True)
    try:
        return _answer_once(engine, settings, question) if alone else _talk(engine, settings, where)
    finally:
        if isinstance(engine, TritonEngine):
            engine.close()


def open_engine(settings: Settings, url: str | None, model: str | None) -> tuple[ChatEngine, str, str | None]:
    """(engine, where it is, a note for the person): the server's model, or the run's own in this process."""
    serving, timeouts = settings.serving, Timeouts()
    model = model or MODEL_NAME
    if url is not None:
        client = TritonClient.from_url(url, model=model, timeouts=timeouts)
    else:
        usual = (f"{serving.triton_host}:{serving.grpc_port}", f"{serving.triton_host}:{serving.http_port}")
        client = TritonClient(*(_running_here(settings) or usual), model=model, timeouts=timeouts)
    if client.is_ready():
        return TritonEngine(client, max_turns=settings.chat.max_turns), client.where, None
    live, where = client.is_live(), client.where
    client.close()
    if live:
        raise EngineError(f"a server answers at {where}, but its model {model!r} is not ready: wait, or name another with --model")
    address = where.partition(" ")[0]
    if url is not None:
        raise EngineError(f"no server answers at {where}: start it with `make week8-serve`, or mend --url")
    return _own_engine(settings, address), "이 프로세스", phrases.in_process(address)


def _running_here(settings: Settings) -> tuple[str, str] | None:
    """Where this run's stack, or its Triton alone, says that it answers: it may have been started on other ports."""
    from llm_workshop.artifacts import Artifacts
    from llm_workshop.serving.stack.service import Service

    folder = Artifacts(settings).root / "serving"
    found = (Service(folder, kind).triton_addresses() for kind in (None, "triton"))
    return next(filter(None, found), None)


def sampling_of(settings: Settings) -> Sampling:
    """How the run's settings want tokens drawn."""
    names = ("max_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty")
    return Sampling(**{name: getattr(settings.generate, name) for name in names})


def _own_engine(settings: Settings, where: str) -> ChatEngine:
    from llm_workshop.artifacts import Artifacts

    artifacts = Artifacts(settings)
    try:
        artifacts.require(artifacts.served)  # asked before the seconds that torch takes
        from llm_workshop.serving.scratch_engine import ScratchEngine

        return ScratchEngine.from_artifacts(artifacts)
    except ValueError as error:
        raise ValueError(f"no server answers at {where} (`make week8-serve` starts one), and {error}") from None


def _answer_once(engine: ChatEngine, settings: Settings, question: str) -> int:
    """The answer on standard output and nothing else."""
    sampling, messages = sampling_of(settings), [{"role": "user", "content": question}]
    if system := settings.chat.system_prompt:
        messages.insert(0, {"role": "system", "content": system})
    chats = engine.info().supports_chat
    try:
        with closing(engine.stream(messages, sampling) if chats else engine.complete(question, sampling)) as answer:
            for delta in answer:
                sys.stdout.write(visible(delta.text))
                sys.stdout.flush()
        sys.stdout.write("\n")
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has enough (| head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _talk(engine: ChatEngine, settings: Settings, where: str) -> int:
    """Until /끝, Ctrl-D, or Ctrl-C at the prompt."""
    from rich.console import Console

    from llm_workshop.serving.terminal.chat import Conversation, Quit

    console = Console(highlight=False)
    conversation = Conversation(engine, sampling_of(settings), console, where, settings.chat.system_prompt)
    prepare_line_editing()
    console.print(f"[dim]{phrases.greeting(conversation.info)}[/dim]", soft_wrap=True)
    if not conversation.info.supports_chat:
        console.print(f"[dim]{phrases.COMPLETES}[/dim]", soft_wrap=True)
    try:
        while True:
            conversation.handle(read_message(phrases.PROMPT))
    except Quit:
        pass
    except (EOFError, KeyboardInterrupt):
        console.print()
    console.print(f"[dim]{phrases.BYE}[/dim]")
    return 0
