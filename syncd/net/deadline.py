"""Deadline: an instant by which something must have happened, however many reads that takes."""

from __future__ import annotations

from syncd import clock
from syncd.errors import TimedOut


class Deadline:
    """Begins when it is made. A server that drips an octet now and then runs into it all the same."""

    __slots__ = ("_at", "_seconds", "_what")

    def __init__(self, seconds: float, what: str) -> None:
        """`what` begins with the address and says what has not happened, such as "host:995: no greeting"."""
        self._seconds = seconds
        self._what = what
        self._at = clock.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds that are left, more than 0. Raises TimedOut."""
        left = self._at - clock.monotonic()
        if left <= 0:
            raise self.passed()
        return left

    def passed(self) -> TimedOut:
        """The error to raise when a wait for the remaining time ended without result."""
        return TimedOut(f"{self._what} within {self._seconds:g} s; try again later")
