"""The handoff from reader threads to the writer thread: batches, bounded, closed in time.

A batch has messages of one mailbox. It closes when it has BATCH_OCTETS or BATCH_MESSAGES, when its oldest message
is BATCH_SECONDS old by the writer's clock (a slow server must not keep mail from becoming durable), when its reader
goes on to another mailbox, or when the reader has to wait. Closing early costs a commit of about 10 ms; closing late
costs messages fetched again after a crash.

Each reader has an `Inlet` of its own, with its own open batch. Closed batches stand in one line. Several threads may
take from it: each gets the first batch of a mailbox that none of the others is at work on, or simply the first where
there is none of those and several may write to one mailbox.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from syncd import clock
from syncd.db.rows import MailboxScope
from syncd.engine.budget import RunRoom
from syncd.errors import Cancelled, SyncdError
from syncd.mail.message import Key, Message

BATCH_OCTETS: Final = 8 << 20
BATCH_MESSAGES = 400  # small ones cost more than their octets: with 500, 100,000 take 15 MiB more than 1,000, so 14
BATCH_SECONDS: Final = 2.0
MAX_WAITING: Final = 2  # closed batches of a reader that are not taken yet: the one to prepare, and one more
IDLE_SECONDS: Final = 1.0  # how often a writer that waits does something else: as often as progress is written
# For a destination that may be slow and that nothing stands in front of: a POP3 server ends a session after ten quiet
# minutes (RFC 1939 §3), so only a few messages may wait. Batches grow while they are delivered quickly.
DIRECT_MESSAGES: Final = 16
DIRECT_MOST: Final = 96
DIRECT_QUICK_S: Final = 1.0


@dataclass(slots=True)
class Batch:
    """Messages of one mailbox, in flight together and made durable together.

    `masks` is parallel to `messages`: the routes a message is for (bits). `taken` is the room that the messages take,
    as `RunRoom.give` wants it. `failures` are messages that could not be fetched, with why.

    An errand has no messages: `mailboxes` are to be recorded by archives (`recorded`: each of them has), or the
    destinations are to be `opened`.
    """

    scope: MailboxScope
    messages: list[Message] = field(default_factory=list)
    masks: list[int] = field(default_factory=list)
    taken: int = 0
    failures: list[tuple[Key, SyncdError]] = field(default_factory=list)
    octets: int = 0
    since: float = 0.0
    inlet: Inlet | None = None  # by which it came from the source; None: read back from an archive
    mailboxes: Sequence[MailboxScope] = ()
    recorded: bool = False
    opened: bool = False

    @property
    def is_errand(self) -> bool:
        """It is something that a reader wants done, and waits for."""
        return self.opened or bool(self.mailboxes)

    def __bool__(self) -> bool:
        return bool(self.messages or self.failures)

    @property
    def fetched(self) -> bool:
        """Its messages come from the source, not from an archive."""
        return self.inlet is not None

    def close(self) -> None:
        """Close the bodies. Repeatable."""
        for message in self.messages:
            if message.body.data is None:
                message.body.close()


class Pipe:
    """Readers on one side, the writer on the other. Either side may give up; the other hears of it at its next call.

    The methods are the writer's; readers have an `inlet`.
    """

    def __init__(self, *, direct: bool = False, takers: int = 1) -> None:
        """With `direct=True` a slow destination takes what comes out. `takers` threads of the writer call `next`."""
        self.waiting = MAX_WAITING + takers - 1  # closed batches of a reader
        self._takers = takers
        self.most = DIRECT_MESSAGES if direct else BATCH_MESSAGES  # messages in a batch
        self.lock = threading.RLock()  # taken by itself for each message: half the time of a condition
        self.change = threading.Condition(self.lock)
        self.closed: deque[Batch] = deque()
        self.stopped = False
        self.shared: Callable[[], bool] = lambda: False  # whether several threads may have batches of one mailbox
        self._direct = direct
        self._taken_at = 0.0
        self._inlets: list[Inlet] = []
        self._busy: Counter[int] = Counter()  # mailboxes of batches that the writer is not done with

    def inlet(self, room: RunRoom) -> Inlet:
        """Returns the way in for one more reader, whose messages take `room`. Get it before the last reader ends."""
        with self.change:
            self._inlets.append(Inlet(self, room))
            return self._inlets[-1]

    def next(self, meanwhile: Callable[[], None] = lambda: None) -> Batch | None:
        """Returns the next batch; None at the end.

        Raises a reader's error, after the last batch. `meanwhile` is called about every IDLE_SECONDS until there is a
        batch.
        """
        while True:
            with self.change:
                if self._wait():
                    return self._take()
            meanwhile()

    def upcoming(self) -> Batch | None:
        """Returns the batch that `next` would give now without waiting; it stays in the pipe."""
        with self.change:
            return self._first()

    def follower(self, batch: Batch) -> Batch | None:
        """Returns the batch behind one that is being written, of the same mailbox, if it is at hand.

        Messages with labels have paths of their own, and no batch follows another there.
        """
        with self.change:
            behind = (one for one in self.closed if one.inlet is batch.inlet)
            found = next(behind, None) if not self._direct else None
            if found is None or found.is_errand or found.scope.mailbox_id != batch.scope.mailbox_id:
                return None
            return None if any(message.labels for message in found.messages) else self._remove(found)

    def written(self, batch: Batch, *, durable: bool) -> None:
        """The writer is done with a batch; `durable`: every message in it is now stored by some destination."""
        with self.change:
            self._busy.subtract([batch.scope.mailbox_id] if self._takers > 1 else [])
            if batch.inlet is not None:
                batch.inlet.done_with(durable=durable)
            if self._direct:
                quick = clock.monotonic() - self._taken_at < DIRECT_QUICK_S
                self.most = min(self.most * 2, DIRECT_MOST) if quick else DIRECT_MESSAGES
            self.change.notify_all()

    def stop(self) -> None:
        """The writer gives up: waiting batches are dropped, the readers are told. Repeatable."""
        with self.change:
            self.stopped = True
            for batch in self.closed:
                batch.close()
            self.closed.clear()
            for inlet in self._inlets:
                inlet.drop_open()
            self.change.notify_all()

    def _wait(self) -> bool:
        """Wait for a batch or the end, IDLE_SECONDS at most; returns whether `next` has an answer."""
        with self.change:
            if not self._is_ready():
                patience = [inlet.patience() for inlet in self._inlets]
                self.change.wait(min([IDLE_SECONDS, *patience]))
            return self._is_ready()

    def _is_ready(self) -> bool:
        for inlet in self._inlets:
            inlet.close_if_old()
        return self._first() is not None or (not self.closed and all(inlet.ended for inlet in self._inlets))

    def _first(self) -> Batch | None:
        free = next((batch for batch in self.closed if not self._busy[batch.scope.mailbox_id]), None)
        return self.closed[0] if free is None and self.closed and self.shared() else free

    def _take(self) -> Batch | None:
        batch = self._first()
        if batch is None:
            for inlet in self._inlets:
                if inlet.error is not None:
                    raise inlet.error
            return None
        return self._remove(batch)

    def _remove(self, batch: Batch) -> Batch:
        self.closed.remove(batch)
        if self._takers > 1:
            self._busy[batch.scope.mailbox_id] += 1
        if batch.inlet is not None:
            batch.inlet.waiting -= 1
        if self._direct:
            self._taken_at = clock.monotonic()
        self.change.notify_all()
        return batch


class Inlet:
    """One reader's way into a pipe, with the batch that it fills. For one thread, except where it says otherwise."""

    def __init__(self, pipe: Pipe, room: RunRoom) -> None:
        self.room = room  # that its messages take
        self.waiting = 0  # closed batches that nobody has taken yet
        self.ended = False
        self.error: BaseException | None = None
        self.messages = 0  # handed over in closed batches, with their octets
        self.octets = 0
        self._pipe = pipe
        self._change = pipe.change
        self._lock = pipe.lock  # guards the rest
        self._open: Batch | None = None
        self._unwritten = 0  # batches closed that the writer is not done with
        self._all_durable = True

    def enter(self, scope: MailboxScope) -> None:
        """Go on with another mailbox, as `flush`."""
        self.flush()
        with self._change:
            self._open = Batch(scope, inlet=self)

    def add(self, message: Message, mask: int, taken: int) -> None:
        """Hand over a fetched message that takes so much room. Raises Cancelled when the writer has stopped."""
        batch, octets = self._open, message.body.octets
        if batch is not None and batch.octets + octets > BATCH_OCTETS and batch.messages:
            try:
                self.flush()
            except Cancelled:
                message.body.close()
                raise
        with self._lock:
            batch = self._open  # the writer may have taken the one above
            assert batch is not None, "a message is of a mailbox"
            messages = batch.messages
            if not messages and not batch.failures:
                batch.since = clock.monotonic()
                self._change.notify_all()
            messages.append(message)
            batch.masks.append(mask)
            batch.taken += taken
            batch.octets += octets
        if batch.octets >= BATCH_OCTETS or len(messages) >= self._pipe.most:
            self.flush()

    def fail(self, key: Key, error: SyncdError) -> None:
        """Hand over a message that could not be had."""
        with self._change:
            batch = self._open
            assert batch is not None, "a message is of a mailbox"
            if not batch:
                batch.since = clock.monotonic()
                self._change.notify_all()
            batch.failures.append((key, error))

    def note(self, mailboxes: Sequence[MailboxScope]) -> bool:
        """Have archives record mailboxes; returns, when that is done, whether every archive has.

        Raises Cancelled when the writer has stopped.
        """
        batch = Batch(mailboxes[0], inlet=self, mailboxes=mailboxes)
        self._run(batch)
        return batch.recorded

    def open_destinations(self, scope: MailboxScope) -> None:
        """Have the destinations opened, so that it is known which mailboxes they have; returns when that is done.

        `scope` is any mailbox. Raises Cancelled when the writer has stopped.
        """
        self._run(Batch(scope, inlet=self, opened=True))

    def _run(self, errand: Batch) -> None:
        """Hand over an errand, and wait until it is run."""
        self.flush()
        with self._change:
            self._pipe.closed.append(errand)
            self.waiting += 1
            self._unwritten += 1
            self._change.notify_all()
        self.wait_written()

    def flush(self) -> None:
        """Close the open batch; wait while too many are waiting. Raises Cancelled when the writer has stopped."""
        with self._change:
            self._change.wait_for(lambda: self._pipe.stopped or self.waiting < self._pipe.waiting)
            self._raise_if_stopped()
            self._close_open()

    def handed_over(self) -> int:
        """Returns the number of messages that came so far."""
        with self._lock:
            return self.messages + (len(self._open.messages) if self._open is not None else 0)

    def wait_written(self) -> bool:
        """Wait until the writer is done with all that was handed over; returns whether it is durable.

        Raises Cancelled when the writer has stopped.
        """
        self.flush()
        with self._change:
            self._change.wait_for(lambda: self._pipe.stopped or self._unwritten == 0)
            self._raise_if_stopped()
            return self._all_durable

    def end(self, error: BaseException | None = None) -> None:
        """Tell that nothing more comes; `error` says why, when it is not the end of the work."""
        with self._change:
            if self._pipe.stopped:
                self.drop_open()
            else:
                self._close_open()
            self.ended = True
            self.error = error
            self._change.notify_all()

    # --- for the pipe, which has the lock --------------------------------------------------------------

    def patience(self) -> float:
        """Returns the seconds that are left until the open batch is old."""
        return max(0.0, self._open.since + BATCH_SECONDS - clock.monotonic()) if self._open else BATCH_SECONDS

    def close_if_old(self) -> None:
        """Close an open batch that is BATCH_SECONDS old, where no other one waits."""
        if not self.waiting and self._open and clock.monotonic() - self._open.since >= BATCH_SECONDS:
            self._close_open()

    def done_with(self, *, durable: bool) -> None:
        """Count a batch that was written."""
        self._unwritten -= 1
        self._all_durable &= durable

    def drop_open(self) -> None:
        """Drop the open batch."""
        if self._open is not None:
            self._open.close()
            self._open = Batch(self._open.scope, inlet=self)

    def _close_open(self) -> None:
        if self._open:
            self.messages += len(self._open.messages)
            self.octets += self._open.octets
            self._pipe.closed.append(self._open)
            self._open = Batch(self._open.scope, inlet=self)
            self.waiting += 1
            self._unwritten += 1
            self._change.notify_all()

    def _raise_if_stopped(self) -> None:
        if self._pipe.stopped:
            raise Cancelled("the writer has stopped")
