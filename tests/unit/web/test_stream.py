"""Live pages: events from the rows."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

import pytest

from syncd import clock
from syncd.db.people import Role
from syncd.db.runs import Runs
from syncd.services import control
from syncd.web import stream
from tests.support.web import Desk
from tests.unit.web.test_pages import job_id


@pytest.fixture(autouse=True)
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock; each wait of a stream moves it on by what it waits for, and takes no time."""
    now = [1000.0]
    sleep = asyncio.sleep

    async def wait(for_s: float) -> None:
        now[0] += for_s
        await sleep(0)

    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    monkeypatch.setattr(asyncio, "sleep", wait)
    return now


def told(text: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in text.strip().splitlines())


def test_a_change_of_rows_is_an_event_and_silence_has_a_heartbeat(desk: Desk, seconds: list[float]) -> None:
    async def listen() -> None:
        watch = stream.Watch(desk.site)
        async with aclosing(stream.events(watch, desk.site, "")) as found:
            assert await anext(found) == "retry: 3000\n\n"
            first = told(await anext(found))
            assert (first["event"], json.loads(first["data"])) == ("changed", {"runs": [], "open": 0})
            began = seconds[0]
            assert await anext(found) == ": still here\n\n"
            assert stream.HEARTBEAT_S <= seconds[0] - began < stream.HEARTBEAT_S + 2 * stream.LOOK_S
            Runs(desk.database).enqueue(job_id(desk), "hand")
            second = told(await anext(found))
            assert [run["job"] for run in json.loads(second["data"])["runs"]] == ["road-backup"]
            control.pause(desk.site.loaded, desk.database, "road-backup")
            third = told(await anext(found))
            assert len({first["id"], second["id"], third["id"]}) == 3
            assert watch.streams == 1
        assert watch.streams == 0

    asyncio.run(listen())


def test_a_browser_that_comes_back_is_told_only_what_it_has_not_seen(desk: Desk) -> None:
    async def listen() -> None:
        watch = stream.Watch(desk.site)
        seen = (await watch.look()).mark
        async with aclosing(stream.events(watch, desk.site, seen)) as found:
            assert await anext(found) == "retry: 3000\n\n"
            assert await anext(found) == ": still here\n\n"
        async with aclosing(stream.events(watch, desk.site, "older")) as found:
            await anext(found)
            assert told(await anext(found))["id"] == seen

    asyncio.run(listen())


def test_a_stream_ends_with_the_process_and_after_some_minutes(desk: Desk, seconds: list[float]) -> None:
    async def whole() -> list[str]:
        return [text async for text in stream.events(stream.Watch(desk.site), desk.site, "")]

    began = seconds[0]
    assert len(asyncio.run(whole())) > 10
    assert stream.LONGEST_S <= seconds[0] - began < stream.LONGEST_S + 2
    desk.site.stopping.set()
    assert asyncio.run(whole()) == ["retry: 3000\n\n"]


def test_who_is_not_signed_in_hears_nothing_and_streams_are_limited(desk: Desk) -> None:
    assert desk.browser(None).get("/events").status == 303
    assert desk.browser(None).get("/api/v1/events").status == 401
    desk.site.stopping.set()
    browser = desk.browser(Role.READER)
    reply = browser.get("/events")
    assert reply.header("content-type").startswith("text/event-stream")
    assert reply.header("x-accel-buffering") == "no"
    desk.app.state.watch.streams = stream.MAX_STREAMS
    assert browser.get("/events").status == 429


def test_a_page_says_what_it_shows_so_that_its_stream_tells_what_is_newer(desk: Desk) -> None:
    browser, watch = desk.browser(Role.READER), desk.app.state.watch
    assert 'data-live="/events?seen="' in browser.get("/").text
    asyncio.run(watch.look())
    assert f'data-live="/events?seen={watch.mark}"' in browser.get("/").text

    async def listen() -> list[str]:
        async with aclosing(stream.events(watch, desk.site, watch.mark)) as found:
            return [await anext(found), await anext(found)]

    assert asyncio.run(listen()) == ["retry: 3000\n\n", ": still here\n\n"]
