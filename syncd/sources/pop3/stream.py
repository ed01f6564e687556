"""One command for each of many messages, pipelined: RETR and TOP for the POP3 source.

Room for a message is taken before it is asked for. Commands leave only when the kernel takes them at once, a
few KiB at a time, or when no answer is outstanding: so a server that stops reading until we read its answers
and a client that waits for it to read can never wait for each other.

Nothing in the answer to RETR says which message it is. So RETRs in flight have checks between them: LIST n or UIDL n
(see `checks`), whose answer repeats the number. A server that swallowed a command, or a message that was cut (P18),
shifts the answers, and what comes in the place of a check's answer is another one. Parts between checks are short at
first, so that even a short session gets something done, and cost nothing that can be measured later. One command
at a time, the same check costs a round trip, and shows that no answer came twice. Where the server has no such command,
there is one command at a time with STAT behind each message.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from itertools import chain, islice
from typing import NamedTuple, TypeVar

from syncd.errors import printable
from syncd.mail.body import HEADER_CAP_OCTETS, MEMORY_CAP_OCTETS, Body, BodyWriter, Spool
from syncd.mail.listing import Wanted
from syncd.pop3.encoder import numbered
from syncd.pop3.session import Session
from syncd.pop3.values import STAT, Check, OutOfStep, Status, Text, Verb
from syncd.pop3.window import Window
from syncd.sources.base import Room
from syncd.sources.growth import Growth
from syncd.sources.pop3.checks import VERBS, fits

FLIGHT_COMMANDS = 160  # in one send: 2 KiB, which any socket that is writable takes without waiting
PART_MESSAGES = 32  # between two checks, at most; 1, 2, 4 … at first
FIRST_ALONE = 8  # … one command at a time, where a check costs a round trip
PART_OCTETS = 1 << 20  # so many wait for a check, and the message that exceeds it

T = TypeVar("T")


class Sign(Enum):
    """Signs that a stream gives between answers."""

    IN_STEP = "in step"  # each answer so far is that of its message, and whole
    PAUSED = "paused"  # as asked for; nothing is under way


class _Due(NamedTuple):
    behind: Wanted  # the message that the check is behind


class Unbounded:
    """Room without end, for answers that are dropped as they come."""

    longest = MEMORY_CAP_OCTETS

    def try_take(self, octets: int) -> bool:
        """There always is some."""
        del octets
        return True

    def take(self, octets: int) -> None:
        """There always is some."""

    def grow(self, octets: int) -> bool:
        """There always is some."""
        del octets
        return True

    def shrink(self, octets: int) -> None:
        """There is no less before."""


class Stream:
    """Asks `verb` for messages in order and reads the answers with `read`, one for each.

    `check` is the command between them that shows whether client and server are in step; None for answers that are
    worth no check.
    """

    def __init__(
        self,
        session: Session,
        verb: Verb,
        suffix: str,
        wanted: Iterable[Wanted],
        room: Room,
        *,
        check: Check | None = None,
        alone: bool = False,
    ) -> None:
        self._session = session
        self._verb = verb
        self._suffix = suffix
        self._wanted: Iterator[Wanted] = iter(wanted)
        self._next = next(self._wanted, None)
        self._room = room
        self._asked: deque[Wanted | _Due] = deque()
        self.pipelined = session.pipelines and not alone and check is not Check.STAT
        self._window = Window(pipelined=self.pipelined)
        self._check = check
        self._most = 1 if check is Check.STAT else PART_MESSAGES
        self._part = min(1 if self.pipelined else FIRST_ALONE, self._most)  # messages to the next check
        self._unproven = self._unproven_octets = 0  # one at a time: answered since the last check
        self._paused = False

    def answers(self, read: Callable[[Wanted, Room], T]) -> Iterator[tuple[Wanted, T] | Sign | None]:
        """Each message with its answer. None before a wait for room, when nothing is outstanding.

        With a check, IN_STEP says that the answers before it are proven: every few messages, and before a wait and at
        the end. Raises OutOfStep where it cannot be said. PAUSED comes after `pause`, when everything that was asked
        for is answered and proven; the user calls `go_on`, or reads no more.
        """
        asked, window = self._asked, self._window
        last: Wanted | None = None
        alone = self._check is not None and not self.pipelined
        self._refill()
        while asked or self._next is not None or self._paused:
            if not asked:
                yield from self._prove(last)
                if self._paused:
                    yield Sign.PAUSED
                    self._refill()
                else:
                    yield None
                    self._ask_one()
                continue
            one = asked[0]
            if isinstance(one, _Due):
                self._verify(one.behind)
                asked.popleft()
                yield Sign.IN_STEP
                continue
            answer = read(one, self._room)
            asked.popleft()
            last = one
            yield one, answer
            due = window.answered(one.octets)
            if alone and self._counts(one.octets):
                yield from self._prove(last)
            if due and not self._paused:
                self._refill()
        yield from self._prove(last)

    def pause(self) -> None:
        """Ask for no more messages for now."""
        self._paused = True

    def go_on(self) -> None:
        """Ask for messages again, after PAUSED."""
        self._paused = False

    def take_ahead(self, messages: int) -> Wanted | None:
        """Takes the message so many places further on, or the last one, out of those to ask for; None: no more."""
        if self._next is None:
            return None
        passed = [self._next, *islice(self._wanted, messages)]
        taken = passed.pop()
        self._wanted = chain(passed, self._wanted)
        self._next = next(self._wanted, None)
        return taken

    def unanswered(self) -> Wanted | None:
        """The message whose answer is being read; None while a check's is."""
        one = self._asked[0] if self._asked else None
        return None if isinstance(one, _Due) else one

    def following(self) -> list[Wanted]:
        """Returns the messages that were asked for and have no answer."""
        return [one for one in self._asked if not isinstance(one, _Due)]

    def _counts(self, octets: int) -> bool:
        """One at a time, one more is answered: whether a check is due."""
        self._unproven += 1
        self._unproven_octets += octets
        return self._unproven >= self._part or self._unproven_octets >= PART_OCTETS

    def _prove(self, last: Wanted | None) -> Iterator[Sign]:
        """One at a time: check that the last answer was that of message `last`."""
        if self._unproven and last is not None and self._check is not None:
            verb = VERBS[self._check]
            self._session.ask(verb, *([] if verb is STAT else [str(last.number)]))
            self._verify(last)
            self._unproven = self._unproven_octets = 0
            self._part = min(self._part * 2, self._most)
            yield Sign.IN_STEP

    def _verify(self, last: Wanted) -> None:
        """Read the answer to a check. One at a time, a no is enough: the server may refuse it as it refused RETR."""
        assert self._check is not None
        answer = self._session.status()
        if not fits(self._check, answer, last) and (self.pipelined or answer.ok):
            with self._session.naming():
                raise OutOfStep(
                    f"{VERBS[self._check].name} {last.number} was answered “{printable(answer.text)}”; "
                    "client and server are out of step"
                )

    def _ask_one(self) -> None:
        """Ask for one message when no answer is outstanding and there was no room for it: wait for room."""
        one = self._next
        assert one is not None
        self._room.take(one.octets)
        self._window.asked(one.octets)
        self._next = next(self._wanted, None)
        self._send([one])

    def _refill(self) -> None:
        while (not self._asked or self._session.transport.writable()) and (flight := self._take_flight()):
            self._send(flight)
        self._window.refilled()

    def _take_flight(self) -> list[Wanted]:
        """Returns as many of the next messages as window, room and one send permit."""
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
            if self._check is not None and self.pipelined:
                verb = VERBS[self._check]
                self._asked.append(_Due(part[-1]))
                commands.append(numbered(verb, (part[-1].number,)))
                counts.append((verb, 1))
        self._session.send(b"".join(commands), counts)

    def _parts(self, flight: list[Wanted]) -> Iterator[list[Wanted]]:
        """Divides a flight into the parts between checks."""
        part: list[Wanted] = []
        octets = 0
        for one in flight:
            part.append(one)
            octets += one.octets
            if len(part) >= self._part or octets >= PART_OCTETS:
                self._part = min(self._part * 2, self._most)
                yield part
                part, octets = [], 0
        if part:
            yield part


def read_body(session: Session, spool: Spool, one: Wanted, room: Room) -> Body | Status:
    """Returns the answer to RETR: the message, or the server's no.

    A long message goes to a file as it comes, and one that is longer than listed where there is no room for the rest.
    """
    event = session.event()
    if not isinstance(event, Text):
        assert isinstance(event, Status), event
        return event
    if event.last and len(event.octets) <= one.octets:
        return Body.of(event.octets)
    growth = Growth(room, one.octets)
    writer = BodyWriter(spool, growth.fits)
    try:
        writer.write(event.octets)
        while not event.last:
            event = session.event()
            assert isinstance(event, Text), event
            writer.write(event.octets)
        body = writer.finish()
    except BaseException:
        writer.discard()
        growth.end()
        raise
    growth.end(body)
    return body


def read_header(session: Session, _one: Wanted, _room: Room) -> bytes | None:
    """Returns the answer to TOP n 0, of which HEADER_CAP_OCTETS at most; None when the server says no."""
    event = session.event()
    if not isinstance(event, Text):
        return None
    start = event.octets  # the first piece is longer than the cap, or all there is
    while not event.last:
        event = session.event()
        assert isinstance(event, Text), event
    return start[:HEADER_CAP_OCTETS]
