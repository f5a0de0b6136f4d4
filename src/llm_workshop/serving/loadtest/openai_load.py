"""Clients of an OpenAI-compatible endpoint, as coroutines of one thread.

    load = openai_closed_loop("http://127.0.0.1:8080/v1", "laptop", jobs, n_clients=200)

A thread for each client costs memory and switches; a coroutine that waits for the network costs next to nothing, so one
process can be hundreds of visitors.  Records and figures are those of drive.py.

The endpoint tells the number of tokens once, at the end (``usage``), and not how many came in which piece: they are shared
out among the pieces by their characters.  Of an answer that is broken off, every piece counts as one token.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from llm_workshop.serving.loadtest.records import Job, Load, Record
from llm_workshop.serving.own_thread import in_own_thread

if TYPE_CHECKING:
    import httpx

PATIENCE = 600.0  # seconds without a byte after which an answer is given up
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "frequency_penalty", "presence_penalty", "seed")


def openai_closed_loop(
    base_url: str, model: str, jobs: Sequence[Job] | Iterator[Job], n_clients: int, *,
    seconds: float | None = None, ramp: float = 0.0, after_busy: float = 0.2, api_key: str | None = None,
) -> Load:  # fmt: skip
    """``closed_loop`` over ``base_url`` (with /v1), by /completions with streaming."""
    if n_clients < 1:
        raise ValueError(f"n_clients={n_clients}: at least one client must ask")
    work = _closed_loop(base_url, model, iter(jobs), n_clients, seconds, ramp, after_busy, api_key)
    return in_own_thread(asyncio.run, work)  # a notebook's thread has a loop of its own running


async def _closed_loop(
    base_url: str, model: str, source: Iterator[Job], n_clients: int, seconds: float | None, ramp: float,
    after_busy: float, api_key: str | None,
) -> Load:  # fmt: skip
    import httpx

    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    limits = httpx.Limits(max_connections=n_clients, max_keepalive_connections=n_clients)
    records: list[Record] = []
    async with httpx.AsyncClient(base_url=base_url, headers=headers, limits=limits, timeout=PATIENCE, trust_env=False) as http:
        start, cpu = time.perf_counter(), time.process_time()

        def clock() -> float:
            return time.perf_counter() - start

        async def client(number: int) -> None:
            await asyncio.sleep(ramp * number / n_clients)
            while seconds is None or clock() < seconds:
                if (job := next(source, None)) is None:
                    return
                record = Record(number, job.kind, clock(), clock())
                records.append(await ask(http, model, job, record, clock))
                if record.outcome in ("busy", "error"):
                    await asyncio.sleep(after_busy)

        await asyncio.gather(*map(client, range(n_clients)))
        load = Load(records, n_clients, clock(), time.process_time() - cpu)
    load.records.sort(key=lambda record: (record.due, record.client))
    return load


async def ask(http: httpx.AsyncClient, model: str, job: Job, record: Record, clock: Callable[[], float]) -> Record:
    """Send one request and fill its record; no error of the server escapes."""
    record.max_new_tokens = job.sampling.max_new_tokens
    try:
        async with http.stream("POST", "/completions", json=body_of(model, job)) as response:
            if response.status_code == 200:
                await _read(response, job, record, clock)
            else:
                _refused(response.status_code, await response.aread(), record)
    except Exception as error:  # a load test reports what fails, whatever it is
        record.outcome, record.error = "error", f"{type(error).__name__}: {error}"
    record.ended = clock()
    return record


def body_of(model: str, job: Job) -> dict[str, Any]:
    """The request, with only what the job wants."""
    sampling = job.sampling
    wanted = {name: value for name in _SAMPLING if (value := getattr(sampling, name)) is not None}
    wanted |= {"stop": list(sampling.stop)} if sampling.stop else {}
    options = {"stream": True, "stream_options": {"include_usage": True}}
    return {"model": model, "prompt": job.prompt, "max_tokens": sampling.max_new_tokens, **wanted, **options}


async def _read(response: httpx.Response, job: Job, record: Record, clock: Callable[[], float]) -> None:
    """The events of an answer into its record."""
    pieces: list[tuple[float, int]] = []  # when, and how many characters
    usage, reason = None, None
    async for line in response.aiter_lines():
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        event = json.loads(line.removeprefix("data: "))
        if "error" in event:
            record.error = event["error"].get("message", "?")
            break
        usage = event.get("usage") or usage
        for choice in event["choices"]:
            reason = choice["finish_reason"] or reason
            if choice["text"]:
                pieces.append((clock(), len(choice["text"])))
        if job.cancel_after is not None and len(pieces) >= job.cancel_after and reason is None:
            reason = "cancelled"
            break
        if job.pause:
            await asyncio.sleep(job.pause)
    record.n_characters = sum(n for _, n in pieces)
    if reason == "cancelled" or record.error:
        record.arrivals = [(at, 1) for at, _ in pieces]
    elif reason is None or usage is None:
        record.error = "the answer ended without a reason" if reason is None else "the endpoint tells no usage"
    else:
        record.arrivals = shared_out(pieces, usage["completion_tokens"])
        record.n_prompt_tokens = usage["prompt_tokens"]
    record.outcome = "error" if record.error else reason


def shared_out(pieces: Sequence[tuple[float, int]], n_tokens: int) -> list[tuple[float, int]]:
    """``n_tokens`` among pieces (when, characters) in proportion to their characters; those that get none are left out."""
    total = sum(n for _, n in pieces)
    ends = [0, *(round(n_tokens * so_far / total) for so_far in itertools.accumulate(n for _, n in pieces))]
    return [(at, end - begin) for (at, _), begin, end in zip(pieces, ends, ends[1:]) if end > begin]


def _refused(status: int, body: bytes, record: Record) -> None:
    """A refusal in the words of ``Outcome``."""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        error = {}
    if status in (429, 503):
        record.outcome = "busy"
    elif error.get("code") == "context_length_exceeded":
        record.outcome = "invalid"
    else:
        record.outcome, record.error = "error", f"status {status}: {error.get('message', body[:200].decode('utf-8', 'replace'))}"
