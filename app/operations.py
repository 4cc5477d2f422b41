"""What those who run the server ask it: whether it lives, whether it can answer, what it counts."""

from http import HTTPStatus

import anyio
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from app.galleries import Galleries, make_ready
from app.metrics import CONTENT_TYPE, Metrics
from app.problems import problem
from indexing.errors import HdmlError


def make_router(galleries: Galleries, metrics: Metrics) -> APIRouter:
    router = APIRouter()
    # Searches may have taken all threads: these are others.
    readiness, counting = anyio.CapacityLimiter(1), anyio.CapacityLimiter(1)

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """That the server answers."""
        return {"status": "ok"}

    @router.get("/readyz", response_model=None)
    async def readyz() -> dict[str, str | None] | JSONResponse:
        """Whether a search would be answered: the index is open and its encoder loaded. 503 with the reason until then."""
        try:
            return await anyio.to_thread.run_sync(make_ready, galleries, limiter=readiness)
        except HdmlError as error:
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error))

    @router.get("/metrics", response_class=Response)
    async def metrics_text() -> Response:
        """Counters in Prometheus' text format."""
        metrics.waiting.set(anyio.to_thread.current_default_thread_limiter().statistics().tasks_waiting)
        text = await anyio.to_thread.run_sync(metrics.text, limiter=counting)
        return Response(text, headers={"Content-Type": CONTENT_TYPE})

    return router
