"""The sweep: what it hands over, how long it waits, and that nothing ends it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from jobs.sweep import EVERY_S, SOONEST_S, Sweep
from syncd import clock
from syncd.db.queue import Waiting
from syncd.errors import LedgerError, StorageError

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Runs:
    """A queue with runs that wait, and the time of the next one."""

    def __init__(self) -> None:
        self.waits = [1, 2, 3]
        self.ready: datetime | None = None
        self.error: Exception | None = None
        self.asked: list[tuple[list[str], int]] = []

    def waiting(self, sites: Collection[str], limit: int) -> list[Waiting]:
        self.asked.append((list(sites), limit))
        if self.error is not None:
            raise self.error
        return [Waiting(run_id, "") for run_id in self.waits[:limit]]

    def next_ready(self, sites: Collection[str]) -> datetime | None:
        assert list(sites) == ["", "here"]
        return self.ready


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setattr(clock, "now", lambda: NOON)
    return Runs()


def make(runs: Runs, free: int = 2, hand_over: Callable[[int], Any] | None = None) -> tuple[Sweep, list[int]]:
    handed: list[int] = []
    return Sweep(cast("Any", runs), ["", "here"], lambda: free, hand_over or handed.append), handed


def test_as_many_are_handed_over_as_threads_are_free(runs: Runs) -> None:
    sweep, handed = make(runs, free=2)
    assert sweep._look() == EVERY_S
    assert (handed, runs.asked) == ([1, 2], [(["", "here"], 2)])


@pytest.mark.parametrize("free", [0, -1])
def test_without_a_free_thread_nothing_is_asked(runs: Runs, free: int) -> None:
    """With a long queue the time of the next run is in the past: it was asked for four times a second, for nothing."""
    runs.ready = NOON - timedelta(hours=1)
    sweep, handed = make(runs, free=free)
    assert sweep._look() == EVERY_S
    assert (handed, runs.asked) == ([], [])


@pytest.mark.parametrize(
    ("in_s", "pause_s"), [(-5.0, SOONEST_S), (0.1, SOONEST_S), (1.0, 1.0), (900.0, EVERY_S), (1e9, EVERY_S)]
)
def test_it_looks_again_when_the_next_run_may_begin(runs: Runs, in_s: float, pause_s: float) -> None:
    runs.ready = NOON + timedelta(seconds=in_s)
    assert make(runs)[0]._look() == pause_s


@pytest.mark.parametrize("error", [LedgerError("away"), StorageError("full"), ValueError("a bug")])
def test_what_fails_is_tried_again_and_does_not_count_as_a_look(
    runs: Runs, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, handed = make(runs)
    swept_at = sweep.swept_at
    monkeypatch.setattr(clock, "monotonic", lambda: swept_at + 60)
    runs.error = error
    assert (sweep._look(), sweep.swept_at) == (EVERY_S, swept_at)
    runs.error = None
    sweep._look()
    assert (handed, sweep.swept_at) == ([1, 2], swept_at + 60)


@pytest.mark.parametrize(("free", "looks"), [(2, True), (3, True), (4, False), (0, True)])
def test_a_free_thread_has_it_look_only_if_a_run_may_wait_for_one(runs: Runs, free: int, *, looks: bool) -> None:
    """A look after each of thousands of polls cost as much as a seventh of them."""
    sweep, _ = make(runs, free=free)
    sweep._look()
    sweep.wake()
    assert sweep._woken.is_set() is looks
    sweep.wake(given_back=True)
    assert sweep._woken.is_set()


def test_a_thread_that_becomes_free_during_a_look_has_it_look_again(runs: Runs) -> None:
    sweep, _ = make(runs, free=9, hand_over=lambda _: sweep.wake())
    sweep._look()
    assert sweep._woken.is_set()


def test_the_thread_looks_at_once_and_whenever_it_is_woken(runs: Runs) -> None:
    looked = threading.Semaphore(0)
    runs.waits = [1]
    sweep, _ = make(runs, free=1, hand_over=lambda _: looked.release())
    sweep.start()
    for _ in range(3):
        assert looked.acquire(timeout=60)
        sweep.wake()
    sweep.stop()
    sweep.stop()
    sweep._thread.join(60)
    assert not sweep._thread.is_alive()
