"""The pause that a server wants between two sign-ins (RFC 2449 §6.5, LOGIN-DELAY), within one run."""

from __future__ import annotations

from typing import Final

from syncd import clock
from syncd.engine.budget import RunRoom
from syncd.sources.base import SourceInfo

MAX_PAUSE_S: Final = 900.0  # what a run waits at most: providers that ask for a pause at all want 1 to 15 minutes


class Pause:
    """When the next sign-in of a run may be. Asked by the reader, and after its end by the removal."""

    def __init__(self) -> None:
        self._until = 0.0

    def begin(self, signed_in: float, info: SourceInfo) -> None:
        """A session ended, that began at `signed_in` (by `clock.monotonic`)."""
        self._until = signed_in + info.pause_s

    @property
    def left_s(self) -> float:
        """Seconds that are left of it; 0 where nobody has to wait."""
        return max(0.0, self._until - clock.monotonic())

    def keep(self, room: RunRoom) -> None:
        """Wait until it is over, MAX_PAUSE_S at most. Raises Cancelled."""
        if self.left_s:
            room.pause(min(self.left_s, MAX_PAUSE_S))
