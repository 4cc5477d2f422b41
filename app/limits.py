"""How much one client may ask for, how much all of them together may have under way, and how long a body may take to come."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.clients import MOST, client_of, is_loopback
from app.metrics import Metrics
from app.problems import refusal

AT_ONCE = 128  # requests that are worked on or wait; beyond Starlette's 40 threads they wait
RATE = 20.0  # questions a second of one client, averaged over BURST
BURST = 10.0  # seconds
_SMALL = 0.1  # of a question: a thumbnail, a file of the page
_QUESTIONS = "/v1/"
_WORK = (_QUESTIONS, "/image/")

MAX_BODY = 256 * 1024 * 1024  # bytes, of a batch of photos; one photo has its own, lower limit
_ALL_BODIES = 4 * MAX_BODY  # bytes of all bodies under way
SILENCE = 20.0  # seconds without a byte of a body that is being sent
WHOLE_BODY = 120.0  # seconds for all of it

Clock = Callable[[], float]


class Buckets:
    """Allowances of many clients that fill again with time (token buckets); of as many clients as are remembered."""

    def __init__(self, rate: float, size: float, *, clock: Clock = time.monotonic) -> None:
        """``rate`` fills a client's bucket by so much a second, up to ``size``."""
        self._rate, self._size, self._clock = rate, size, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str, cost: float = 1.0) -> float:
        """Seconds until the client may take so much; 0 when it may now."""
        return max(0.0, (min(cost, self._size) - self._level(client)) / self._rate)

    def take(self, client: str, cost: float = 1.0) -> None:
        self._left[client] = self._level(client) - cost, self._clock()
        self._left.move_to_end(client)
        if len(self._left) > MOST:
            self._left.popitem(last=False)

    def _level(self, client: str) -> float:
        level, since = self._left.get(client, (self._size, 0.0))
        return min(self._size, level + self._rate * (self._clock() - since))


def too_many(seconds: float, what: str) -> HTTPException:
    """The refusal of a client that has to wait."""
    wait = max(1, math.ceil(seconds))
    return HTTPException(
        HTTPStatus.TOO_MANY_REQUESTS, f"Too many {what} from this address; try again in {wait} s.", {"Retry-After": str(wait)}
    )


class RateLimit:
    """ASGI middleware that answers 429 to a client that asks more than its share. Programs on this machine have no limit."""

    def __init__(self, app: ASGIApp, *, rate: float = RATE, clock: Clock = time.monotonic) -> None:
        self._app = app
        self._buckets = Buckets(rate, rate * BURST, clock=clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = client_of(scope)
        if scope["type"] == "lifespan" or is_loopback(client):
            await self._app(scope, receive, send)
            return
        cost = 1.0 if scope["path"].startswith(_QUESTIONS) else _SMALL
        if (wait := self._buckets.wait(client, cost)) > 0:
            await refusal(too_many(wait, "requests"))(scope, receive, send)
            return
        self._buckets.take(client, cost)
        await self._app(scope, receive, send)


class Bounded:
    """ASGI middleware that answers 503 while too much is under way, and bounds bodies in size and time."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, at_once: int = AT_ONCE) -> None:
        self._app, self._metrics, self._at_once = app, metrics, at_once
        self._under_way = 0
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_WORK):
            await self._app(scope, receive, send)
            return
        if self._under_way >= self._at_once:
            await refusal(_busy())(scope, receive, send)
            return
        body = _Body(receive, self._may_hold)
        self._enter(1)
        try:
            await self._app(scope, body.receive, send)
        finally:
            self._enter(-1)
            self._held -= body.size

    def _enter(self, more: int) -> None:
        self._under_way += more
        self._metrics.under_way.set(self._under_way)

    def _may_hold(self, more: int) -> bool:
        self._held += more
        return self._held <= _ALL_BODIES


def _busy() -> HTTPException:
    sentence = "The server is busy with other questions; try again in a second."
    return HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, sentence, {"Retry-After": "1"})


class _Body:
    """The body of one request as it comes."""

    def __init__(self, receive: Receive, may_hold: Callable[[int], bool]) -> None:
        self._receive, self._may_hold = receive, may_hold
        self._complete = False
        self._until: float | None = None
        self.size = 0

    async def receive(self) -> Message:
        """The next message; raises HTTPException: 408 when it comes too slowly, 413 or 503 when it is too large."""
        if self._complete:
            return await self._receive()
        now = time.monotonic()
        self._until = self._until or now + WHOLE_BODY
        try:
            async with asyncio.timeout(min(SILENCE, self._until - now)):
                message = await self._receive()
        except TimeoutError as error:
            sentence = f"The photo must come within {WHOLE_BODY:g} s and without a pause of {SILENCE:g} s; send a smaller one."
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, sentence, {"Connection": "close"}) from error
        self._complete = not message.get("more_body", False)
        self._count(len(message.get("body", b"")))
        return message

    def _count(self, more: int) -> None:
        self.size += more
        fits = self._may_hold(more)
        if self.size > MAX_BODY:
            sentence = f"A request may have {MAX_BODY // 1024**2} MB at most; send less at a time."
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, sentence)
        if not fits:
            raise _busy()
