"""The built-in view as a FastAPI router: the page at ``/monitor``, its figures at ``/monitor/data``."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, FastAPI, Query
from fastapi.responses import HTMLResponse

from llm_workshop.serving.monitoring.history import Monitor
from llm_workshop.serving.monitoring.page import PAGE


def monitor_router(metrics_address: str, *, every: float = 2.0, keep: int = 450) -> APIRouter:
    """For ``app.include_router``: watches the server at ``metrics_address`` for as long as the app runs."""
    monitor = Monitor(metrics_address, every=every, keep=keep)

    @contextlib.asynccontextmanager
    async def watched(_: FastAPI) -> AsyncIterator[None]:
        monitor.start()
        try:
            yield
        finally:
            monitor.stop()

    router = APIRouter(lifespan=watched, include_in_schema=False)

    @router.get("/monitor", response_class=HTMLResponse)
    def page() -> str:
        return PAGE

    @router.get("/monitor/data")
    def data(since: float = Query(0.0, description="only points later than this, in seconds since 1970")) -> dict[str, Any]:
        return monitor.report(since)

    return router
