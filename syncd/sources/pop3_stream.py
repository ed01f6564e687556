"""One command for each of many messages, pipelined: RETR and TOP for the POP3 source.

Room for a message is taken before it is asked for. Commands leave only when the kernel takes them at once, a
few KiB at a time, or when no answer is outstanding: so a server that stops reading until we read its answers
and a client that waits for it to read can never wait for each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from syncd.mail.body import MEMORY_CAP_OCTETS, Body, BodyWriter, header_hash
from syncd.pop3.client import Client
from syncd.pop3.encoder import numbered
from syncd.pop3.values import Status, Text, Verb
from syncd.pop3.window import Window
from syncd.sources.base import Room, Wanted

FLIGHT_COMMANDS = 160  # in one send: 2 KiB, which any socket that is writable takes without waiting

T = TypeVar("T")


class Unbounded:
    """Room without end, for answers that are dropped as they come."""

    def try_take(self, octets: int) -> bool:
        """There always is some."""
        del octets
        return True

    def take(self, octets: int) -> None:
        """There always is some."""


class Stream:
    """Asks `verb` for messages in order and reads the answers with `read`, one for each."""

    def __init__(self, client: Client, verb: Verb, suffix: str, wanted: Iterable[Wanted], room: Room) -> None:
        self._client = client
        self._verb = verb
        self._suffix = suffix
        self._wanted = iter(wanted)
        self._next = next(self._wanted, None)
        self._room = room
        self._asked: deque[Wanted] = deque()
        self._window = Window(pipelined=client.pipelines)

    def answers(self, read: Callable[[], T]) -> Iterator[tuple[Wanted, T] | None]:
        """Each message with its answer. None before a wait for room, when nothing is outstanding."""
        asked, window = self._asked, self._window
        self._refill()
        while asked or self._next is not None:
            if not asked:
                yield None
                self._ask_one()
            answer = read()
            one = asked.popleft()
            yield one, answer
            if window.answered(one.octets):
                self._refill()

    def unanswered(self) -> Wanted | None:
        """The message whose answer is being read."""
        return self._asked[0] if self._asked else None

    def _ask_one(self) -> None:
        """Nothing is outstanding and there was no room for the next: wait for room."""
        one = self._next
        assert one is not None
        self._room.take(one.octets)
        self._window.asked(one.octets)
        self._next = next(self._wanted, None)
        self._send([one])

    def _refill(self) -> None:
        while (not self._asked or self._client.transport.writable()) and (flight := self._take_flight()):
            self._send(flight)
        self._window.refilled()

    def _take_flight(self) -> list[Wanted]:
        """As many of the next messages as window, room and one send permit."""
        flight: list[Wanted] = []
        one, window, room = self._next, self._window, self._room
        while one is not None and len(flight) < FLIGHT_COMMANDS and window.admits(one.octets):
            if not room.try_take(one.octets):
                break
            flight.append(one)
            window.asked(one.octets)
            one = next(self._wanted, None)
        self._next = one
        return flight

    def _send(self, flight: list[Wanted]) -> None:
        self._asked.extend(flight)
        commands = numbered(self._verb, (one.number for one in flight), self._suffix)
        self._client.send(self._verb, commands, len(flight))


def read_body(client: Client, spool: Path) -> Body | Status:
    """The answer to RETR: the message, or the server's no. Long messages go to a file as they come."""
    event = client.event()
    if not isinstance(event, Text):
        assert isinstance(event, Status), event
        return event
    if event.last and len(event.octets) <= MEMORY_CAP_OCTETS:
        return Body.of(event.octets)
    writer = BodyWriter(spool)
    try:
        writer.write(event.octets)
        while not event.last:
            event = client.event()
            assert isinstance(event, Text), event
            writer.write(event.octets)
        return writer.finish()
    except BaseException:
        writer.discard()
        raise


def read_header_hash(client: Client) -> bytes | None:
    """The answer to TOP n 0 as `header_hash` of the whole message would be; None when the server says no."""
    event = client.event()
    if not isinstance(event, Text):
        return None
    start = event.octets  # the first piece is longer than what `header_hash` looks at, or all there is
    while not event.last:
        event = client.event()
        assert isinstance(event, Text), event
    return header_hash(start)
