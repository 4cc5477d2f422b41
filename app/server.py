"""The web server: routes, page and the checks in front of both."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

from app import browse, feedback, retrieval, runs
from app.answers import PROBLEMS
from app.api import make_router
from app.galleries import Galleries
from app.origin import OwnPagesOnly
from app.problems import add_problem_handlers
from app.ui import mount_page
from indexing.workspace import Workspace

# A foreign page may let its own name point to this machine and so read the answers: only these names are answered.
_HOSTS = ("127.0.0.1", "localhost")


def create_app(workspace: Workspace, *, index: Path | None = None, device: str = "auto", page: bool = True) -> FastAPI:
    """The product as one ASGI app.

    Args:
        workspace: whose indexes are served; it may hold none yet.
        index: folder of the index that answers when none is named, inside the workspace or not; the last updated one if not
            given.
        device: ``auto``, ``cpu`` or ``cuda``.
        page: whether the page is served beside the routes; importing what it needs takes seconds.
    """
    galleries = Galleries(workspace, default=index, device=device)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        galleries.close()

    # FastAPI's documentation pages load their scripts from a foreign host; the schema itself stays at /openapi.json.
    api = FastAPI(title="hdml", docs_url=None, redoc_url=None, lifespan=lifespan, responses=PROBLEMS)
    api.add_middleware(OwnPagesOnly)
    api.add_middleware(TrustedHostMiddleware, allowed_hosts=_HOSTS)
    add_problem_handlers(api)
    api.include_router(make_router(galleries))
    api.include_router(browse.make_router(galleries))
    api.include_router(feedback.make_router(galleries))
    api.include_router(retrieval.make_router(galleries))
    api.include_router(runs.make_router(galleries))
    return mount_page(api) if page else api
