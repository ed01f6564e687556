"""Deadline: the instant by which a wait must have ended, however many reads it takes."""

from __future__ import annotations

from syncd import clock
from syncd.errors import TimedOut


class Deadline:
    """A deadline that begins when it is made. Octets that drip in do not prolong it."""

    __slots__ = ("_at", "_seconds", "_what")

    def __init__(self, seconds: float, what: str) -> None:
        """`what` names the address and what has not happened, such as "host:995: no greeting came"."""
        self._seconds = seconds
        self._what = what
        self._at = clock.monotonic() + seconds

    def remaining(self) -> float:
        """Returns the seconds that are left, more than 0. Raises TimedOut."""
        left = self._at - clock.monotonic()
        if left <= 0:
            raise self.passed()
        return left

    def passed(self) -> TimedOut:
        """Returns the error to raise when a wait for the remaining time ended without result."""
        return TimedOut(f"{self._what} within {self._seconds:g} s; try again later")
