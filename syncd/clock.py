"""Time, in one place, so that tests can replace it.

`now` is an aware instant in UTC. `boottime` counts seconds also while the machine sleeps (a lease runs
on through a suspend); `monotonic` is for durations that should not.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> datetime:
    """The present instant, UTC."""
    return datetime.now(UTC)


def monotonic() -> float:
    """Seconds since some start, never going back; stands still while the machine sleeps."""
    return time.monotonic()


def boottime() -> float:
    """Seconds since boot, the machine's sleep included (Linux CLOCK_BOOTTIME; elsewhere `monotonic`)."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


def sleep(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)
