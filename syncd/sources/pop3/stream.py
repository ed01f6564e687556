"""One command for each of many messages, pipelined: RETR and TOP for the POP3 source.

Room for a message is taken before it is asked for. Commands leave only when the kernel takes them at once, a
few KiB at a time, or when no answer is outstanding: so a server that stops reading until we read its answers
and a client that waits for it to read can never wait for each other.

Nothing in the answer to RETR says which message it is. So RETRs in flight have checks between them: LIST n,
whose answer repeats the number. A server that swallowed a command, or a message that was cut (P18), shifts the
answers, and what comes in the place of a check's answer is another one. Parts between checks are short at
first, so that even a short session gets something done, and cost nothing that can be measured later. One command
at a time, the same check costs a round trip, and shows that no answer came twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import NamedTuple, TypeVar

from syncd.errors import printable
from syncd.mail.body import MEMORY_CAP_OCTETS, Body, BodyWriter, header_hash
from syncd.pop3.client import Client
from syncd.pop3.encoder import numbered
from syncd.pop3.grammar import is_scan_listing
from syncd.pop3.values import LIST_ONE, RETR, OutOfStep, Status, Text, Verb
from syncd.pop3.window import Window
from syncd.sources.base import Room, Wanted

FLIGHT_COMMANDS = 160  # in one send: 2 KiB, which any socket that is writable takes without waiting
PART_MESSAGES = 32  # between two checks, at most; 1, 2, 4 … at first
FIRST_ALONE = 8  # … one command at a time, where a check costs a round trip
PART_OCTETS = 1 << 20  # so many wait for a check, and the message that exceeds it

T = TypeVar("T")


class Sign(Enum):
    """What a stream says between answers."""

    IN_STEP = "in step"  # each answer so far is that of its message, and whole


class _Check(NamedTuple):
    number: int


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

    def __init__(
        self,
        client: Client,
        verb: Verb,
        suffix: str,
        wanted: Iterable[Wanted],
        room: Room,
        *,
        alone: bool = False,
    ) -> None:
        self._client = client
        self._verb = verb
        self._suffix = suffix
        self._wanted = iter(wanted)
        self._next = next(self._wanted, None)
        self._room = room
        self._asked: deque[Wanted | _Check] = deque()
        self.pipelined = client.pipelines and not alone
        self._window = Window(pipelined=self.pipelined)
        self._checks = verb is RETR
        self._part = 1 if self.pipelined else FIRST_ALONE  # messages to the next check
        self._unproven = self._unproven_octets = 0  # one at a time: answered since the last check

    def answers(self, read: Callable[[], T]) -> Iterator[tuple[Wanted, T] | Sign | None]:
        """Each message with its answer. None before a wait for room, when nothing is outstanding.

        Of RETR, IN_STEP says that the answers before it are proven: every few messages, and before a wait and at the
        end. Raises OutOfStep where it cannot be said.
        """
        asked, window, number = self._asked, self._window, 0
        alone = self._checks and not self.pipelined
        self._refill()
        while asked or self._next is not None:
            if not asked:
                yield from self._prove(number)
                yield None
                self._ask_one()
            one = asked[0]
            if isinstance(one, _Check):
                self._verify(one.number)
                asked.popleft()
                yield Sign.IN_STEP
                continue
            answer = read()
            asked.popleft()
            number = one.number
            yield one, answer
            due = window.answered(one.octets)
            if alone and self._counts(one.octets):
                yield from self._prove(number)
            if due:
                self._refill()
        yield from self._prove(number)

    def unanswered(self) -> Wanted | None:
        """The message whose answer is being read; None while a check's is."""
        one = self._asked[0] if self._asked else None
        return None if isinstance(one, _Check) else one

    def following(self) -> list[Wanted]:
        """What was asked for and has no answer."""
        return [one for one in self._asked if not isinstance(one, _Check)]

    def _counts(self, octets: int) -> bool:
        """One at a time, one more is answered: whether a check is due."""
        self._unproven += 1
        self._unproven_octets += octets
        return self._unproven >= self._part or self._unproven_octets >= PART_OCTETS

    def _prove(self, number: int) -> Iterator[Sign]:
        """One at a time: check that the last answer was that of message `number`. A server without LIST n says no."""
        if self._unproven:
            self._client.ask(LIST_ONE, str(number))
            self._verify(number)
            self._unproven = self._unproven_octets = 0
            self._part = min(self._part * 2, PART_MESSAGES)
            yield Sign.IN_STEP

    def _verify(self, number: int) -> None:
        answer = self._client.status()
        if not is_scan_listing(answer, number) and (self.pipelined or answer.ok):
            with self._client.naming():
                raise OutOfStep(
                    f"LIST {number} was answered “{printable(answer.text)}”; client and server are out of step"
                )

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
        commands: list[bytes] = []
        counts: list[tuple[Verb, int]] = []
        for part in self._parts(flight):
            self._asked.extend(part)
            commands.append(numbered(self._verb, (one.number for one in part), self._suffix))
            counts.append((self._verb, len(part)))
            if self._checks and self.pipelined:
                self._asked.append(_Check(part[-1].number))
                commands.append(numbered(LIST_ONE, (part[-1].number,)))
                counts.append((LIST_ONE, 1))
        self._client.send(b"".join(commands), counts)

    def _parts(self, flight: list[Wanted]) -> Iterator[list[Wanted]]:
        """What is between checks."""
        part: list[Wanted] = []
        octets = 0
        for one in flight:
            part.append(one)
            octets += one.octets
            if len(part) >= self._part or octets >= PART_OCTETS:
                self._part = min(self._part * 2, PART_MESSAGES)
                yield part
                part, octets = [], 0
        if part:
            yield part


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
