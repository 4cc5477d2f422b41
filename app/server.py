"""The web server: routes, page and the checks in front of both."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI

from app import access, api, browse, feedback, images, lens, operations, retrieval, runs
from app.access import Doorkeeper, TokenRequired
from app.answers import PROBLEMS
from app.galleries import Galleries
from app.limits import AT_ONCE, RATE, Bounded, RateLimit
from app.metrics import Metrics
from app.origin import LOCAL_NAMES, KnownHostsOnly, OwnPagesOnly
from app.policy import SecurityHeaders
from app.problems import add_problem_handlers
from app.request_log import Observed
from app.thumbnails import KEPT, Thumbnails
from app.tokens import Token
from indexing.workspace import Workspace


@dataclass(frozen=True)
class Service:
    """How a server is run.

    Attributes:
        token: who asks has to know it; None answers everybody who can reach the server.
        names: by which it is asked, beside those of this machine.
        rate: questions a second of one client that is not on this machine, averaged over ten seconds; 0 for no limit.
        at_once: questions that are worked on or wait; more are refused for the moment.
        thumbnails: bytes of thumbnails that are kept on disk; 0 keeps none.
    """

    token: Token | None = None
    names: tuple[str, ...] = ()
    rate: float = RATE
    at_once: int = AT_ONCE
    thumbnails: int = KEPT


def create_app(
    workspace: Workspace,
    *,
    index: Path | None = None,
    device: str = "auto",
    page: bool = True,
    service: Service = Service(),
) -> FastAPI:
    """The product as one ASGI app.

    Args:
        workspace: whose indexes are served; it may hold none yet.
        index: folder of the index that answers when none is named, inside the workspace or not; the last updated one if not
            given.
        device: ``auto``, ``cpu`` or ``cuda``.
        page, service: as for :func:`create_app_over`.
    """
    return create_app_over(Galleries(workspace, default=index, device=device), page=page, service=service)


def create_app_over(galleries: Galleries, *, page: bool = True, service: Service = Service()) -> FastAPI:
    """The same over galleries that may be open already; they are closed when the app ends.

    Args:
        page: whether the page is served beside the routes; importing what it needs takes seconds.
        service: who may ask, and how much.
    """
    thumbnails = Thumbnails(galleries.workspace.root / "cache" / "thumbnails", limit=service.thumbnails)
    metrics = Metrics(galleries, thumbnails)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        galleries.close()

    # FastAPI's documentation pages load their scripts from a foreign host; the schema itself stays at /openapi.json.
    served = FastAPI(title="hdml", docs_url=None, redoc_url=None, lifespan=lifespan, responses=PROBLEMS)
    add_problem_handlers(served)
    for routes in (api, retrieval, browse, feedback, runs, lens):
        served.include_router(routes.make_router(galleries))
    served.include_router(images.make_router(galleries, thumbnails))
    served.include_router(operations.make_router(galleries, metrics))
    # What is added last is asked first.
    served.add_middleware(Bounded, at_once=service.at_once, metrics=metrics)
    if service.token is not None:
        doorkeeper = Doorkeeper(service.token)
        served.add_middleware(TokenRequired, doorkeeper=doorkeeper, login_page=page)
        if page:
            served.include_router(access.make_router(doorkeeper))
    if service.rate:
        served.add_middleware(RateLimit, rate=service.rate)
    served.add_middleware(OwnPagesOnly)
    served.add_middleware(KnownHostsOnly, names=(*LOCAL_NAMES, *service.names))
    served.add_middleware(Observed, metrics=metrics)
    served.add_middleware(SecurityHeaders)
    if page:
        from app.ui import mount_page

        mount_page(served)
    return served
