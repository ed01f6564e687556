"""The state that the sender threads of a batch share, and the events that they send to the engine's thread."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from syncd.destinations.smtp.pace import Pace
from syncd.destinations.smtp.relay import Connection, Relay
from syncd.mail.message import Key, Message
from syncd.mail.outcome import Outcome, Verdict
from syncd.smtp.content import Content
from syncd.smtp.values import Envelope

UNSENT = "the connection ended before the server had taken the message"


@dataclass(frozen=True, slots=True)
class Transaction:
    """A message as it goes to the server. `note` says how its octets had to be changed, "" if they were not."""

    envelope: Envelope
    content: Content
    note: str = ""


class Grant(Enum):
    """The answer to a thread that asks to send the last octets of a message."""

    YES = "yes"  # SENDING is committed: send them
    NO = "no"  # do not send them, and tell an outcome: SENDING is committed
    ABANDON = "abandon"  # do not send them, and tell no outcome: SENDING was not yielded, or nobody reads outcomes


Grants = queue.SimpleQueue[Grant]


class Asking(NamedTuple):
    """Event: a thread has sent all of a message but its last octets, and waits for a grant."""

    key: Key
    grants: Grants


class ThreadEnded(NamedTuple):
    """Event: a thread has ended, with the error that ended it. Other threads may go on unless it is `fatal`."""

    error: BaseException | None
    fatal: bool


Event = Outcome | Asking | ThreadEnded


@dataclass(slots=True)
class Outgoing:
    """A message on its way.

    `losses`: how many new connections were lost with it. `told`: its final outcome was put into the events. `sending`:
    it was yielded as SENDING, and its last octets left or were about to. `placed`: it has its place in the rate.
    `prepared`: what to send, as long as it goes over this connection.
    """

    message: Message
    losses: int = 0
    note: str = ""
    told: bool = False
    sending: bool = False
    placed: bool = False
    prepared: tuple[Connection, Transaction | Outcome] | None = None


@dataclass(slots=True)
class Shared:
    """The state of one batch. With `halted` no more message is begun; with `stopping` none is ended either."""

    relay: Relay
    todo: deque[Outgoing]
    prepare: Callable[[Message, Connection], Transaction | Outcome]  # decides before an octet is sent
    pace: Pace
    over: Callable[[], bool] = lambda: False  # no more message is begun then
    events: queue.SimpleQueue[Event] = field(default_factory=queue.SimpleQueue)
    stopping: threading.Event = field(default_factory=threading.Event)
    halted: bool = False

    @property
    def closed(self) -> bool:
        """Returns whether no more message is begun."""
        return self.halted or self.stopping.is_set() or self.over()

    def next(self) -> Outgoing | None:
        """Returns the next message; None when there is none to be taken."""
        if self.closed:
            return None
        try:
            return self.todo.popleft()
        except IndexError:
            return None

    def tell(self, outgoing: Outgoing, outcome: Outcome) -> None:
        """Send the final outcome of a message to the engine's thread; the message is not tried again."""
        assert not outgoing.told
        outgoing.told = True
        self.events.put(outcome)

    def give_back(self, outgoing: Outgoing) -> None:
        """Put a message back to be tried again, unless its outcome was told."""
        if not outgoing.told:
            self.todo.appendleft(outgoing)

    def unsent(self) -> list[Outcome]:
        """Returns NOT_SENT for each message that was SENDING, was surely not sent, and is not tried again here.

        To be called when all threads have ended.
        """
        left = [outgoing for outgoing in self.todo if outgoing.sending and not outgoing.told]
        for outgoing in left:
            outgoing.told = True
        return [Outcome(outgoing.message.key, Verdict.NOT_SENT, reason=UNSENT) for outgoing in left]
