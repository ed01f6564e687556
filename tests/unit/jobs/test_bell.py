"""The bell: nobody who rings it waits for the broker, whatever the broker does."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from queue import SimpleQueue
from threading import Event

import pytest

from jobs import bell
from jobs.bell import Bell
from syncd import clock
from syncd.db.queue import GRACE

SOON_S = 10.0  # far more than a thread needs


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds = [1000.0]
    monkeypatch.setattr(clock, "monotonic", lambda: seconds[0])
    return seconds


class Broker:
    """Takes messages; `answers` holds it back while it is not set."""

    def __init__(self) -> None:
        self.answers = Event()
        self.reached: SimpleQueue[int] = SimpleQueue()
        self.error: Exception | None = None

    def ring(self, run_id: int, _: str) -> None:
        self.reached.put(run_id)
        assert self.answers.wait(SOON_S)
        if self.error is not None:
            raise self.error


@pytest.fixture
def broker() -> Iterator[Broker]:
    made = Broker()
    yield made
    made.answers.set()


def test_a_broker_that_never_answers_keeps_nobody(broker: Broker, now: list[float]) -> None:
    """It kept the scheduler for 10 s each time that something was due, and so all that came due meanwhile."""
    ring = Bell(broker.ring)
    for run_id in (1, 2, 3):
        ring(run_id, "")
    assert broker.reached.get(timeout=SOON_S) == 1
    now[0] += GRACE.total_seconds() + 0.1  # workers have found 2 and 3 by now
    ring(4, "")
    broker.answers.set()
    assert broker.reached.get(timeout=SOON_S) == 4
    assert broker.reached.empty()


def test_what_waits_for_the_broker_is_bounded(
    broker: Broker, now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert now
    monkeypatch.setattr(bell, "MAX_WAITING", 2)
    ring = Bell(broker.ring)
    ring(1, "")
    assert broker.reached.get(timeout=SOON_S) == 1
    for run_id in (2, 3, 4):
        ring(run_id, "")
    broker.answers.set()
    assert [broker.reached.get(timeout=SOON_S) for _ in range(2)] == [2, 3]
    ring(5, "")
    assert broker.reached.get(timeout=SOON_S) == 5


def test_an_outage_is_told_once_and_so_is_its_end(now: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    broker = Broker()
    broker.answers.set()
    ring = Bell(broker.ring)
    broker.error = ConnectionRefusedError("refused")
    for _ in range(3):
        ring._announce(1, "", now[0])
    broker.error = None
    for _ in range(3):
        ring._announce(1, "", now[0])
    told = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert told == ["broker.away", "broker.back"]
