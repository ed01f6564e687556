"""Values that are kept for seconds, and not waited for longer than that."""

from __future__ import annotations

import threading

import pytest

from syncd import clock
from syncd.errors import LedgerError, TimedOut
from syncd.telemetry.fresh import Fresh


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds = [100.0]
    monkeypatch.setattr(clock, "monotonic", lambda: seconds[0])
    return seconds


def test_a_value_is_asked_for_once_while_it_is_young(now: list[float]):
    asked = iter(range(10))
    fresh = Fresh("figures", lambda: next(asked), age_s=3)
    assert [fresh.get(), fresh.get()] == [0, 0]
    now[0] += 2.9
    assert fresh.get() == 0
    now[0] += 0.2
    assert fresh.get() == 1


def test_an_error_is_raised_and_kept_as_long(now: list[float]):
    errors = iter([LedgerError("one"), LedgerError("two")])

    def ask() -> int:
        raise next(errors)

    fresh = Fresh("figures", ask, age_s=3)
    for _ in range(2):
        with pytest.raises(LedgerError, match="one"):
            fresh.get()
    now[0] += 4
    with pytest.raises(LedgerError, match="two"):
        fresh.get()


def test_nobody_waits_for_a_database_that_hangs_and_one_thread_asks(now: list[float]):
    goes_on, asked = threading.Event(), []

    def ask() -> int:
        asked.append(threading.current_thread())
        goes_on.wait()
        return 7

    fresh = Fresh("figures", ask, age_s=3, wait_s=0.01)
    for _ in range(3):
        with pytest.raises(TimedOut, match=r"figures did not come within 0\.01 s"):
            fresh.get()
        now[0] += 10
    assert len(asked) == 1
    goes_on.set()
    asked[0].join()
    now[0] -= 30
    assert fresh.get() == 7
