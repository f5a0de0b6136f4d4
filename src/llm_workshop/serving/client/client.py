"""TritonClient: the served model from Python.

    with TritonClient() as client:
        for delta in client.generate("안녕하세요", Sampling(max_new_tokens=40)):
            print(delta.text, end="", flush=True)
"""

from __future__ import annotations

import dataclasses
import json
import threading
import uuid
from typing import Any, Literal

from llm_workshop.serving.client.answer import Answer, Retry, Stream
from llm_workshop.serving.client.errors import UnreachableError, WireError, explain
from llm_workshop.serving.client.grpc_transport import GrpcTransport
from llm_workshop.serving.client.http_transport import HttpTransport
from llm_workshop.serving.client.request import Interface, input_values, with_seed
from llm_workshop.serving.client.watchdog import Timeouts, Watchdog
from llm_workshop.serving.engine import ModelInfo, Sampling
from llm_workshop.serving.triton.interface import MODEL_INFO, MODEL_NAME

Protocol = Literal["auto", "grpc", "http"]
GRPC_ADDRESS, HTTP_ADDRESS = "127.0.0.1:8001", "127.0.0.1:8000"


class TritonClient:
    """One served model on one server, for any number of threads and concurrent answers.

    ``protocol`` "auto" takes gRPC, and HTTP where gRPC cannot be reached; "grpc" and "http" insist.  Nothing is sent
    before the first question.  Errors are those of engine.py, with the address and what to do.
    """

    def __init__(
        self,
        grpc_address: str = GRPC_ADDRESS,
        http_address: str | None = HTTP_ADDRESS,
        *,
        model: str = MODEL_NAME,
        protocol: Protocol = "auto",
        timeouts: Timeouts | None = None,
        retry: Retry | None = None,
    ):
        if protocol not in ("auto", "grpc", "http"):
            raise ValueError(f"protocol={protocol!r}: use auto, grpc or http")
        if protocol == "http" and http_address is None:
            raise ValueError("protocol='http' needs http_address, such as 127.0.0.1:8000")
        self.model, self.timeouts, self.retry = model, timeouts or Timeouts(), retry or Retry()
        self._grpc = GrpcTransport(grpc_address, self.timeouts) if protocol != "http" else None
        self._http = HttpTransport(http_address, self.timeouts) if protocol != "grpc" and http_address else None
        self._chosen: GrpcTransport | HttpTransport | None = None
        self._interface: Interface | None = None
        self._info: ModelInfo | None = None
        self._lock, self._watchdog = threading.RLock(), Watchdog()

    @classmethod
    def from_url(cls, url: str, **options: Any) -> TritonClient:
        """``HOST:PORT`` or ``grpc://HOST:PORT`` of gRPC, ``http://HOST:PORT`` of HTTP; ``options`` as above."""
        scheme, separator, address = url.rstrip("/").rpartition("://")
        if separator and scheme not in ("grpc", "http"):
            raise ValueError(f"{url!r}: use HOST:PORT (gRPC), grpc://HOST:PORT or http://HOST:PORT")
        if scheme == "http":
            return cls(http_address=address, protocol="http", **options)
        return cls(address, None, protocol="grpc", **options)

    def __enter__(self) -> TritonClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; answers on their way end with an error."""
        self._watchdog.close()
        for transport in filter(None, (self._grpc, self._http)):
            transport.close()

    @property
    def where(self) -> str:
        """The server's address, for people."""
        return (self._chosen or self._grpc or self._http).where

    @property
    def protocol(self) -> str | None:
        """What is spoken: "grpc" or "http"; None before the first question."""
        return None if self._chosen is None else "grpc" if self._chosen is self._grpc else "http"

    def generate(
        self, text: str, sampling: Sampling | None = None, *, logprob: bool = False, request_id: str | None = None
    ) -> Answer:
        """Go on writing after ``text``, which the server takes as it is: special tokens in it count.

        ``logprob`` asks for the cumulative log probability of the answer.  ``request_id`` is written into the server's
        log.  Raises, at the first ``next``: BusyError, PromptTooLongError, EngineError, and ValueError for what the
        model has no input for.
        """
        asked = sampling or Sampling()
        sampling, request_id = with_seed(asked), request_id or uuid.uuid4().hex

        def open_stream() -> tuple[Stream, str]:
            transport, interface = self._ready_to_ask()
            values = input_values(
                text, sampling, interface, model=self.model, seed_is_chosen=asked.seed is not None, logprob=logprob
            )
            return transport.stream(self.model, values, interface, request_id), transport.where

        return Answer(
            open_stream, model=self.model, max_new_tokens=sampling.max_new_tokens, seed=sampling.seed,
            timeouts=self.timeouts, retry=self.retry, watchdog=self._watchdog, on_loss=self._forget,
        )  # fmt: skip

    def is_live(self) -> bool:
        """Whether a server answers at all."""
        try:
            self._transport().connect()
        except (UnreachableError, WireError):
            return False
        return True

    def is_ready(self) -> bool:
        """Whether the server answers and the model is loaded; never raises for a server that is not there."""
        try:
            return self._ask("is_ready", self.model)
        except OSError:
            return False

    def models(self) -> list[dict[str, str]]:
        """name, version, state ("READY", ...) and reason of each model in the repository."""
        return self._ask("models")

    def statistics(self) -> dict[str, Any]:
        """Triton's counters of the model (``inference_count``, ``inference_stats``, ``response_stats``, ...)."""
        return self._ask("statistics", self.model)

    def interface(self) -> Interface:
        """Inputs and outputs of the model, asked once."""
        return self._ready_to_ask()[1]

    def info(self) -> ModelInfo:
        """What the server tells about the model; ValueError where it tells nothing (not a server of this workshop)."""
        if self._info is None:
            text = self._ask("parameters", self.model).get(MODEL_INFO)
            if not text:
                raise ValueError(
                    f"model {self.model!r} at {self.where} has no {MODEL_INFO} in its configuration: start the server with "
                    "`make week8-serve`, or give the facts yourself"
                )
            self._info = parse_info(text, f"{MODEL_INFO} of model {self.model!r} at {self.where}")
        return self._info

    def _ask(self, question: str, *arguments: str) -> Any:
        """One question that is not an answer; a lost connection is tried again once, for a server started anew."""
        for last in (False, True):
            transport = self._transport()
            try:
                return getattr(transport, question)(*arguments)
            except WireError as error:
                problem = explain(error, transport.where, self.model, started=False)
                if not isinstance(problem, UnreachableError):
                    raise problem from None
                self._forget()
                if last:
                    raise problem from None
        raise AssertionError("unreachable")

    def _transport(self) -> GrpcTransport | HttpTransport:
        """The transport that reaches the server; UnreachableError, with all that was tried, if none does."""
        with self._lock:
            if self._chosen is None:
                problems = []
                for transport in filter(None, (self._grpc, self._http)):
                    try:
                        transport.connect()
                    except WireError as error:
                        problems.append(f"{transport.where}: {error.message}")
                        continue
                    self._chosen = transport
                    break
                else:
                    raise UnreachableError(f"no server can be reached at {'; '.join(problems)}: start it with `make serve`, or wait if it is being started again")
            return self._chosen

    def _ready_to_ask(self) -> tuple[GrpcTransport | HttpTransport, Interface]:
        with self._lock:
            if self._interface is None:
                self._interface = self._ask("interface", self.model)
            return self._transport(), self._interface

    def _forget(self) -> None:
        """The server may have been started anew, with another engine: look at it again."""
        with self._lock:
            if self._chosen is not None:
                self._chosen.lost()
            self._chosen = self._interface = self._info = None


def parse_info(text: str, source: str) -> ModelInfo:
    """ModelInfo from its JSON; unknown fields, of a newer server, are left out."""
    try:
        fields = json.loads(text)
        names = {field.name for field in dataclasses.fields(ModelInfo)}
        return ModelInfo(**{name: value for name, value in fields.items() if name in names})
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{source} is damaged ({error}): build the model repository again with `make week8-serve`") from None
