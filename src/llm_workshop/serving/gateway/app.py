"""The OpenAI-compatible app: models, conversations and completions in front of engines.

    GET  /v1/models, /v1/models/{id}          POST /v1/chat/completions, /v1/completions
    GET  /health, /metrics

Reference: OpenAI API reference (Models, Chat, Completions, Streaming).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

from fastapi import APIRouter, FastAPI
from fastapi import Request as HttpRequest
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from llm_workshop.serving.engine import ChatEngine, Delta, ModelInfo
from llm_workshop.serving.gateway.answers import Answer, Form
from llm_workshop.serving.gateway.bodies import read_json
from llm_workshop.serving.gateway.errors import ApiError, json_response, shown
from llm_workshop.serving.gateway.gate import Gate, Keys
from llm_workshop.serving.gateway.limits import Limits
from llm_workshop.serving.gateway.metrics import Metrics
from llm_workshop.serving.gateway.models import Models
from llm_workshop.serving.gateway.pump import Pump
from llm_workshop.serving.gateway.requests import Request, chat_request, completion_request


def create_app(
    engines: Mapping[str, ChatEngine],
    *,
    limits: Limits | None = None,
    api_key: str | Sequence[str] | None = None,
    extra_routers: Sequence[APIRouter] = (),
    cors_origins: Sequence[str] = (),
    allowed_hosts: Sequence[str] | None = None,
    ready: Mapping[str, Callable[[], bool]] | None = None,
) -> FastAPI:
    """An app that answers for ``engines`` by name.

    The engines' iterators run in threads, several at a time: ``engines`` must bear that, as TritonEngine does.
    ``api_key``: one, or several (say one a person); None asks for none.  ``extra_routers`` are included as they are,
    without key and rate limit unless their paths begin with /v1/.  ``allowed_hosts`` are the names that a Host header
    may have; None allows all.  ``ready`` tells by name whether an engine can answer now, for /health.  Time limits of connections are those of http_server.py.  Raises ValueError for no
    engine and for keys that no header can carry.
    """
    if not engines:
        raise ValueError("the gateway needs at least one engine")
    limits, metrics = limits or Limits(), Metrics()
    # No page of documentation: FastAPI's loads its scripts from the network.
    app = FastAPI(title="LLM workshop gateway", docs_url=None, redoc_url=None, openapi_url=None)
    routes = _Routes(Models(engines, ready), limits, metrics)
    app.state.stop_answers = routes.stop_answers
    app.include_router(routes.router())
    for router in extra_routers:
        app.include_router(router)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _nobody_there)
    app.add_middleware(Gate, keys=Keys(api_key), limits=limits, metrics=metrics, allowed_hosts=allowed_hosts)
    if cors_origins:
        # Outermost: a browser's preflight carries no key, and it must be let read our refusals.
        app.add_middleware(CORSMiddleware, allow_origins=list(cors_origins), allow_methods=["GET", "POST"], allow_headers=["*"])
    return app


class _Routes:
    def __init__(self, models: Models, limits: Limits, metrics: Metrics):
        self.models, self.limits, self.metrics = models, limits, metrics
        self.pumps: set[Pump] = set()

    @property
    def n_running(self) -> int:
        """Answers in progress, those included whose client has left and whose engine has not noticed yet."""
        return len(self.pumps)

    def stop_answers(self) -> None:
        """End all answers in progress with an error; called when the server stops."""
        for pump in self.pumps:
            pump.fail(ApiError("the server is stopping: send the request again later", 503, code="stopping", retry_after=5))

    def router(self) -> APIRouter:
        router = APIRouter()
        for path, method, function in (
            ("/health", "GET", self.health),
            ("/metrics", "GET", self.show_metrics),
            ("/v1/models", "GET", self.list_models),
            ("/v1/models/{name:path}", "GET", self.show_model),
            ("/v1/chat/completions", "POST", self.chat),
            ("/v1/completions", "POST", self.complete),
        ):
            router.add_api_route(path, function, methods=[method], response_model=None)
        return router

    async def health(self) -> Response:
        states = await self.models.health()
        good = all(state == "ok" for state in states.values())
        value = {"status": "ok" if good else "unavailable", "models": states, "in_flight": self.n_running}
        return json_response(value, 200 if good else 503, {} if good else {"retry-after": "5"})

    async def show_metrics(self) -> Response:
        return self.metrics.response()

    async def list_models(self) -> Response:
        return json_response({"object": "list", "data": [await self.models.card(name) for name in self.models.names]})

    async def show_model(self, name: str) -> Response:
        self._engine(name)
        return json_response(await self.models.card(name))

    async def chat(self, http: HttpRequest) -> Response:
        request, info = await self._read(http, chat_request)
        engine = self._engine(request.model)
        if info is not None and not info.supports_chat:
            raise ApiError(f"'{request.model}' is no chat model: use /v1/completions", param="model", code="model_cannot_chat")
        return self._answer(http, request, info, lambda sampling: engine.stream(request.messages, sampling))

    async def complete(self, http: HttpRequest) -> Response:
        request, info = await self._read(http, completion_request)
        engine = self._engine(request.model)
        return self._answer(http, request, info, lambda sampling: engine.complete(request.prompt, sampling))

    async def _read(self, http: HttpRequest, parse: Callable[..., Request]) -> tuple[Request, ModelInfo | None]:
        """The checked body, and what is known of its model."""
        values = await read_json(http, self.limits)
        name = values.get("model")
        info = await self.models.info(name) if isinstance(name, str) and name in self.models.engines else None
        return parse(values, self.limits, info and info.context_length), info

    def _engine(self, name: str) -> ChatEngine:
        engine = self.models.engines.get(name)
        if engine is None:
            known = ", ".join(self.models.names)
            raise ApiError(f"The model {shown(name)} does not exist: use {known}", 404, param="model", code="model_not_found")
        return engine

    def _answer(
        self, http: HttpRequest, request: Request, info: ModelInfo | None, start: Callable[..., Iterator[Delta]]
    ) -> Answer:
        if self.n_running >= self.limits.max_concurrent:
            raise ApiError(f"{self.n_running} answers are in progress already: try again in a moment", 503, code="busy", retry_after=1)
        sampling = request.sampling
        if info is not None and sampling.max_new_tokens > info.context_length:
            # More than the context cannot be written; many tools ask for thousands without looking.
            sampling = dataclasses.replace(sampling, max_new_tokens=info.context_length)
        record = http.state.record
        record.model = request.model
        in_flight = self.metrics.in_flight.labels(request.model)

        def ended() -> None:
            self.pumps.discard(pump)
            in_flight.dec()

        pump = Pump(
            lambda: start(sampling), buffered=self.limits.buffered, stall_seconds=self.limits.stall_seconds, on_end=ended
        )
        self.pumps.add(pump)  # before ``ended`` can run: that comes through this event loop
        in_flight.inc()
        fingerprint = f"fp_{info.commit}" if info is not None and info.commit else None
        return Answer(request, pump, Form(request, fingerprint), record, self.metrics, self.limits.answer_seconds)


async def _api_error(http: HttpRequest, error: ApiError) -> Response:
    return error.response()


async def _http_error(http: HttpRequest, error: HTTPException) -> Response:
    path = shown(http.url.path, 100)
    texts = {404: f"There is nothing at {path}: use /v1/models, /v1/chat/completions or /v1/completions.", 405: f"{http.method[:20]} is not for {path}."}
    response = ApiError(texts.get(error.status_code, str(error.detail)), error.status_code).response()
    response.headers.update(error.headers or {})
    return response


async def _nobody_there(http: HttpRequest, error: ClientDisconnect) -> Response:
    return Response(status_code=499)  # nobody reads it: the client left while it was sending
