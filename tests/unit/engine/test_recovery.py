"""Passing on from archives: within the room there is, and from archives that have seen better days."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from syncd.db.database import Database
from syncd.destinations.base import Destination
from syncd.engine.budget import Budget
from syncd.engine.events import ExitCode, RunReport
from tests.fakes.archive import MemoryArchive
from tests.fakes.relay import Relay
from tests.fakes.source import MemorySource
from tests.support.engine import Engine, mail

Make = Callable[..., Engine]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes an engine of so many messages and these destinations."""
    with Database.open(None, tmp_path) as database:

        def engine(count: int, destinations: Mapping[str, Destination], **more: Any) -> Engine:
            return Engine(database, MemorySource(mail(count)), destinations, **more)

        yield engine


def within(seconds: float, engine: Engine) -> RunReport | None:
    """The report of a run; None when it hangs."""
    run, reports = engine.prepare(), []
    thread = threading.Thread(target=lambda: reports.append(engine.finish(run)), daemon=True)
    thread.start()
    thread.join(seconds)
    run.cancel()
    thread.join()
    return reports[0] if reports[0].exit_code is not ExitCode.INTERRUPTED else None


def test_a_job_that_passes_on_does_not_hold_room_while_it_waits_for_more(make: Make):
    """Four jobs at once, each with a batch begun and no room to end it, waited for each other for ever."""
    budget = Budget(1000)
    budget.room().take(800)  # another job, which waits for us
    relay = Relay()
    engine = make(20, {"home": MemoryArchive(), "new": relay}, budget=budget)
    report = within(20, engine)
    assert report is not None
    assert (report.exit_code, report.from_archive) == (ExitCode.DONE, 20)
    assert relay.copies == dict.fromkeys(mail(20), 1)
    assert budget.free == 200
