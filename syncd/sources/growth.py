"""The room of a message that turns out longer than it is listed: taken as it comes, or the message goes to a file."""

from __future__ import annotations

from syncd.mail.body import Body
from syncd.sources.base import Room


class Growth:
    """The room that one message takes beside the octets it is listed with, for which room was taken before."""

    def __init__(self, room: Room, listed: int) -> None:
        self._room = room
        self._listed = listed
        self._grown = 0

    def fits(self, octets: int) -> bool:
        """Returns whether so many octets of the message may be in memory; takes room for them if there is some."""
        more = octets - self._listed - self._grown
        if octets > self._room.longest:
            return False
        if more <= 0:
            return True
        if not self._room.grow(more):
            return False
        self._grown += more
        return True

    def end(self, body: Body | None = None) -> None:
        """The message has come as `body`, or not: give back what it does not need in memory. Repeatable."""
        if body is None or body.data is None:
            self._room.shrink(self._grown)
            self._grown = 0
