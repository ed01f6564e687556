"""A worker: what it gives to its threads, what fails in them, and what is noticed when a part of it ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from jobs.app import make_app
from jobs.worker import CUT_S, HUNG_S, SOFT_S, Worker
from syncd.errors import LedgerError
from syncd.settings.urls import MEMORY, parse_broker


class Workshop:
    """A workshop without a database."""

    def __init__(self) -> None:
        self.queue = cast("Any", SimpleNamespace(waiting=lambda *_: [], next_ready=lambda _: None))
        self.running = 0
        self.worked: list[int] = []
        self.calls: list[str] = []
        self.error: Exception | None = None
        self.waits: list[bool] = []
        self.ended: object | None = SimpleNamespace(closed=True)

    def work(self, run_id: int) -> object | None:
        self.worked.append(run_id)
        if self.error is not None:
            raise self.error
        return self.ended

    def watch(self) -> None:
        self.calls.append("watch")
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        self.calls.append("stop")

    def cut(self) -> None:
        self.calls.append("cut")

    def wait(self, seconds: float) -> bool:
        self.calls.append(f"wait {seconds:g}")
        return self.waits.pop(0)


class Pool:
    def __init__(self) -> None:
        self.given: list[int] = []
        self.error: Exception | None = None

    def apply_async(self, _: object, arguments: tuple[int]) -> None:
        if self.error is not None:
            raise self.error
        self.given += arguments


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


def make(workshop: Workshop, told: list[object] | None = None) -> Worker:
    app = make_app(parse_broker(MEMORY))
    heard: list[object] = [] if told is None else told
    return Worker(app, cast("Any", workshop), 2, [""], tell=heard.append)


@pytest.fixture
def pool() -> Pool:
    return Pool()


@pytest.fixture
def worker(workshop: Workshop, pool: Pool) -> Worker:
    made = make(workshop)
    made._controller = SimpleNamespace(pool=pool)
    return made


def test_a_run_is_handed_over_once(worker: Worker, pool: Pool, workshop: Workshop) -> None:
    assert worker._free() == 2
    for run_id in (7, 7, 8):
        worker._hand_over(run_id)
    assert (pool.given, worker._free()) == ([7, 8], 0)
    worker._work(7)
    assert (workshop.worked, worker._free()) == ([7], 1)
    worker._hand_over(7)
    assert pool.given == [7, 8, 7]


def test_threads_that_messages_keep_busy_are_not_free(worker: Worker, workshop: Workshop) -> None:
    workshop.running = 2
    assert worker._free() == 0


def test_before_there_is_a_pool_nothing_is_handed_over(workshop: Workshop) -> None:
    worker = make(workshop)
    assert worker._free() == 0
    worker._hand_over(7)
    assert worker._handed == set()


def test_a_pool_that_has_ended_keeps_no_run(worker: Worker, pool: Pool) -> None:
    pool.error = RuntimeError("cannot schedule new futures after shutdown")
    with pytest.raises(RuntimeError):
        worker._hand_over(7)
    assert worker._handed == set()


def test_what_became_of_a_run_is_told(workshop: Workshop) -> None:
    told: list[object] = []
    worker = make(workshop, told)
    worker._work(1)
    workshop.ended = None
    worker._work(2)
    assert told == [SimpleNamespace(closed=True)]


@pytest.mark.parametrize("error", [LedgerError("away"), ValueError("a bug")])
def test_what_fails_in_a_thread_stays_there(worker: Worker, workshop: Workshop, error: Exception) -> None:
    workshop.error = error
    worker._handed.add(1)
    worker._work(1)
    assert worker._handed == set()
    assert worker.sweep._woken.is_set()


def test_the_end_of_the_consumer_is_noticed(worker: Worker) -> None:
    def start() -> None:
        raise OSError("the broker's library gave up")

    for how in (start, lambda: None):
        worker.failed.clear()
        worker._controller.start = how
        worker._consume()
        assert worker.failed.is_set()


def test_the_end_of_the_consumer_is_wanted_when_the_worker_stops(worker: Worker) -> None:
    worker.stop()
    worker._controller.start = lambda: None
    worker._consume()
    assert not worker.failed.is_set()


@pytest.mark.parametrize(
    ("waits", "calls", "all_ended"),
    [
        ([True], [f"wait {SOFT_S:g}"], True),
        ([False, True], [f"wait {SOFT_S:g}", "cut", f"wait {CUT_S + HUNG_S:g}"], True),
        ([False, False], [f"wait {SOFT_S:g}", "cut", f"wait {CUT_S + HUNG_S:g}"], False),
    ],
)
def test_the_end_is_soft_at_first(
    worker: Worker,
    workshop: Workshop,
    waits: list[bool],
    calls: list[str],
    all_ended: bool,  # noqa: FBT001
) -> None:
    worker.stop()
    workshop.waits = list(waits)
    assert worker.finish() is all_ended
    assert workshop.calls == ["stop", *calls]


@pytest.mark.parametrize("error", [LedgerError("away"), ValueError("a bug")])
def test_the_watch_goes_on_whatever_fails(workshop: Workshop, error: Exception) -> None:
    worker = make(workshop)
    rounds = iter([False, False, True])
    worker._stopping = cast("Any", SimpleNamespace(wait=lambda _: next(rounds)))
    workshop.error = error
    worker._watch()
    assert workshop.calls == ["watch", "watch"]
