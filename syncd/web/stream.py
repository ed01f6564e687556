"""Live pages: server-sent events (WHATWG HTML §9.2) from the rows.

One look a second serves every browser of a process, and none is made while nobody listens. An event has the runs that
are queued or under way, whole: so a browser that comes back has missed nothing, and one whose Last-Event-ID is what
stands now gets none.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Annotated, Final, NamedTuple

import anyio.to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from starlette.responses import StreamingResponse

from syncd import clock
from syncd.db import board
from syncd.errors import SyncdError
from syncd.services import overview
from syncd.services.wiring import owner
from syncd.services.words import plain
from syncd.web.access import ApiReader, Reader, TheSite
from syncd.web.problems import Problem
from syncd.web.site import Site

LOOK_S: Final = 0.5  # with loading the page again, a number is on the screen within a second
SHARE: Final = 5  # looks that take long, with very many jobs, are made more rarely: a fifth of the time at most
SOONEST_S: Final = 0.02  # of a stream that waits for a look of another one
HEARTBEAT_S: Final = 15.0  # proxies cut what is quiet for longer
SHOWN: Final = 50  # runs in an event; `open` has how many there are
MAX_STREAMS: Final = 100
LONGEST_S: Final = 300.0  # then the browser comes back, and is asked again who it is

router = APIRouter()


class Snapshot(NamedTuple):
    """The rows at one moment; equal rows have equal marks."""

    mark: str
    text: str


class Watch:
    """Looks at the rows for all streams of a process. Used in the thread of the event loop."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lock = asyncio.Lock()
        self._next = float("-inf")
        self._last = Snapshot("", "{}")
        self.streams = 0

    async def look(self) -> Snapshot:
        """Returns the rows as they were a moment ago. A database that is away leaves them as they were."""
        async with self._lock:
            began = clock.monotonic()
            if began >= self._next:
                with suppress(SyncdError):  # a page that is loaded says it
                    self._last = await anyio.to_thread.run_sync(_snapshot, self._site)
                took = clock.monotonic() - began
                self._next = began + max(LOOK_S, SHARE * took)
            return self._last

    @property
    def mark(self) -> str:
        """Returns the mark of the last look; "" before the first one."""
        return self._last.mark

    def pause(self) -> float:
        """Returns the seconds until the next look."""
        return max(SOONEST_S, self._next - clock.monotonic())


async def events(watch: Watch, site: Site, seen: str) -> AsyncGenerator[str, None]:
    """Yields events until the process stops, for LONGEST_S at most; the browser comes back by itself."""
    watch.streams += 1
    try:
        yield "retry: 3000\n\n"
        begun = spoken = clock.monotonic()
        while not site.stopping.is_set() and clock.monotonic() - begun < LONGEST_S:
            found = await watch.look()
            if found.mark != seen:
                seen, spoken = found.mark, clock.monotonic()
                yield f"id: {found.mark}\nevent: changed\ndata: {found.text}\n\n"
            elif clock.monotonic() - spoken >= HEARTBEAT_S:
                spoken = clock.monotonic()
                yield ": still here\n\n"
            await asyncio.sleep(watch.pause())
    finally:
        watch.streams -= 1


@router.get("/events", include_in_schema=False)
async def of_page(
    request: Request,
    site: TheSite,
    _who: Reader,
    last_event_id: Annotated[str, Header(max_length=100)] = "",
    seen: Annotated[str, Query(max_length=100)] = "",
) -> Response:
    """Stream events to a page that shows at least what stood at the mark `seen`."""
    return _stream(request, site, last_event_id or seen)


@router.get("/api/v1/events", response_class=StreamingResponse, tags=["live"])
async def of_api(
    request: Request, site: TheSite, _who: ApiReader, last_event_id: Annotated[str, Header(max_length=100)] = ""
) -> Response:
    """Server-sent events: `changed`, with the runs that are queued or under way, whenever one of them has changed."""
    return _stream(request, site, last_event_id)


def _stream(request: Request, site: Site, seen: str) -> Response:
    watch: Watch = request.app.state.watch
    if watch.streams >= MAX_STREAMS:
        raise Problem(429, "too many streams are open; close some, or ask again from time to time")
    headers = {"X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    return StreamingResponse(events(watch, site, seen), media_type="text/event-stream", headers=headers)


def _snapshot(site: Site) -> Snapshot:
    found = overview.under_way(site.loaded, site.database)
    text = json.dumps({"runs": [run.as_json() for run in found[:SHOWN]], "open": len(found)}, default=plain)
    pulse = board.pulse(site.database, owner(site.loaded).name)
    return Snapshot(hashlib.sha256(f"{text}{pulse}".encode()).hexdigest()[:16], text)
