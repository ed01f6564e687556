"""An engine with a ledger of its own and mailboxes in memory, under a clock that stands still."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from syncd import clock
from syncd.db.database import Database
from syncd.destinations.base import Destination
from tests.fakes.source import MemorySource
from tests.support.engine import Engine, Make, mail
from tests.support.ledger import START


class Time:
    """`clock` for tests: an instant and a stopwatch, moved together by hand."""

    def __init__(self) -> None:
        self.now = START
        self.seconds = 1000.0

    def __call__(self, **by: float) -> datetime:
        """So much later."""
        self.now += timedelta(**by)
        self.seconds += timedelta(**by).total_seconds()
        return self.now


@pytest.fixture(autouse=True)
def at(monkeypatch: pytest.MonkeyPatch) -> Time:
    """The clock of this test."""
    time = Time()
    monkeypatch.setattr(clock, "now", lambda: time.now)
    monkeypatch.setattr(clock, "monotonic", lambda: time.seconds)
    monkeypatch.setattr(clock, "boottime", lambda: time.seconds)
    return time


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes an engine of so many messages and these destinations."""
    with Database.open(None, tmp_path) as database:

        def engine(count: int, destinations: Mapping[str, Destination], **more: Any) -> Engine:
            return Engine(database, MemorySource(mail(count)), destinations, **more)

        yield engine
