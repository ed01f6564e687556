"""Which messages are asked for together: sets of UIDs, bounded in messages and octets, several in flight.

Room for a message is taken before it is asked for. A set is small enough that the next one leaves while it comes, so
the server is never idle, and large enough that commands cost nothing.

A server that says that it slows us down gets half as much in flight each time, in the end one set at a time (I09).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from syncd.mail.listing import Wanted
from syncd.sources.base import Room

SET_MESSAGES: Final = 200  # in one command; with any UIDs it fits into two lines of 1,000 octets
SET_OCTETS: Final = 1 << 20
FLIGHT_OCTETS: Final = 16 << 20  # … in all commands in flight; at 40 ms half of it took a fifth longer
FLIGHT_MESSAGES: Final = 1000
SLOWEST: Final = 3  # the flight is halved so often; then there is one set


class Queue:
    """The messages still to be asked for, in order; and the octets asked for and not answered yet."""

    def __init__(self, wanted: Iterable[Wanted], room: Room) -> None:
        self._wanted: Iterator[Wanted] = iter(wanted)
        self._next = next(self._wanted, None)
        self._room = room
        self.messages = 0  # in flight
        self.octets = 0
        self.slowness = 0  # how often the flight was halved

    def slow_down(self, slowness: int) -> None:
        """Have less in flight, by halves, at most SLOWEST of them; 0: as much as there may be."""
        self.slowness = min(slowness, SLOWEST)

    @property
    def is_empty(self) -> bool:
        """Returns whether everything was asked for."""
        return self._next is None

    @property
    def has_place(self) -> bool:
        """Returns whether one more set may be asked for."""
        messages, octets = FLIGHT_MESSAGES >> self.slowness, FLIGHT_OCTETS >> self.slowness
        return self.messages <= max(messages - SET_MESSAGES, 0) and self.octets <= max(octets - SET_OCTETS, 0)

    def take_set(self) -> list[Wanted]:
        """Returns the next messages to ask for together, with room taken; empty while there is no room, or enough."""
        found: list[Wanted] = []
        octets, one = 0, self._next
        if not self.has_place:
            return found
        take, most = self._room.try_take, FLIGHT_OCTETS - self.octets
        while one is not None and len(found) < SET_MESSAGES and (not octets or octets + one.octets <= SET_OCTETS):
            if (octets + one.octets > most and (found or self.messages)) or not take(one.octets):
                break
            found.append(one)
            octets += one.octets
            one = next(self._wanted, None)
        self._next = one
        self.messages += len(found)
        self.octets += octets
        return found

    def take_one(self) -> list[Wanted]:
        """Returns the next message; waits for room."""
        one = self._next
        assert one is not None, "there is one"
        self._room.take(one.octets)
        self._next = next(self._wanted, None)
        self.messages += 1
        self.octets += one.octets
        return [one]

    def answered(self, one: Wanted) -> None:
        """Count an answer."""
        self.messages -= 1
        self.octets -= one.octets
