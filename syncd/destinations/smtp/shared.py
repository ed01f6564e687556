"""What the lanes of one batch share, and what they tell the engine's thread."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from syncd.destinations.base import Outcome, Verdict
from syncd.destinations.smtp.pace import Pace
from syncd.destinations.smtp.relay import Connection, Relay
from syncd.mail.message import Message
from syncd.smtp.content import Content
from syncd.smtp.values import Envelope

UNSENT = "the connection ended before the server had taken it"
Grants = queue.SimpleQueue[bool | None]  # go on | do not | do not, and it was never told to be SENDING


@dataclass(frozen=True, slots=True)
class Transaction:
    """A message as it goes to the server. `note` says what had to be done to its octets, "" if nothing."""

    envelope: Envelope
    content: Content
    note: str = ""


class Asking(NamedTuple):
    """A lane has sent all of a message but its last octets, and waits for a grant."""

    key: int
    grants: Grants


class Ended(NamedTuple):
    """A lane has ended; `error` is why, if not for want of messages. Others may go on unless it is `fatal`."""

    error: BaseException | None
    fatal: bool


Event = Outcome | Asking | Ended


@dataclass(slots=True)
class Flight:
    """A message on its way, and how many new connections were lost with it. `settled`: its outcome is told.

    `sending`: it was told to be SENDING, and its last octets left, or were about to. `placed`: its place in the rate.
    `prepared`: what is to be sent, as long as it is on this connection.
    """

    message: Message
    attempt: int = 0
    note: str = ""
    settled: bool = False
    sending: bool = False
    placed: bool = False
    prepared: tuple[Connection, Transaction | Outcome] | None = None


@dataclass(slots=True)
class Board:
    """`halted`: take no more messages. `stopping`: nor end what is not ended."""

    relay: Relay
    todo: deque[Flight]
    prepare: Callable[[Message, Connection], Transaction | Outcome]  # decides before an octet is sent
    pace: Pace
    events: queue.SimpleQueue[Event] = field(default_factory=queue.SimpleQueue)
    stopping: threading.Event = field(default_factory=threading.Event)
    halted: bool = False

    @property
    def closed(self) -> bool:
        """No more messages are begun."""
        return self.halted or self.stopping.is_set()

    def next(self) -> Flight | None:
        """The next message; None when there is none to be taken."""
        if self.closed:
            return None
        try:
            return self.todo.popleft()
        except IndexError:
            return None

    def tell(self, flight: Flight, outcome: Outcome) -> None:
        """The outcome of a message: it is not to be tried again."""
        assert not flight.settled
        flight.settled = True
        self.events.put(outcome)

    def give_back(self, flight: Flight) -> None:
        """Have a message tried again, unless its outcome is told."""
        if not flight.settled:
            self.todo.appendleft(flight)

    def unsent(self) -> list[Outcome]:
        """When no lane is at work: messages that were SENDING, were not sent for sure, and are not tried again here."""
        flights = [flight for flight in self.todo if flight.sending and not flight.settled]
        for flight in flights:
            flight.settled = True
        return [Outcome(flight.message.key, Verdict.NOT_SENT, reason=UNSENT) for flight in flights]
