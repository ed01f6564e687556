"""The handoff from the reader thread to the writer thread: batches, bounded, closed in time.

A batch closes when it holds BATCH_OCTETS or BATCH_MESSAGES, when its oldest message is BATCH_SECONDS
old by the writer's clock (a slow server must not keep mail from becoming durable), or when the reader
has to wait. Closing early costs a commit of about 10 ms; closing late costs messages fetched again
after a crash.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from syncd import clock
from syncd.errors import Cancelled, SyncdError
from syncd.mail.message import Message

BATCH_OCTETS = 8 << 20
BATCH_MESSAGES = 400  # small ones cost more than their octets: with 500, 100,000 take 15 MiB more than 1,000, so 14
BATCH_SECONDS = 2.0
MAX_WAITING = 2  # closed batches not yet taken: the one to prepare, and one more; small messages cost more than octets
# For a destination that may be slow and that nothing stands in front of: a POP3 server ends a session after ten quiet
# minutes (RFC 1939 §3), so only a few messages may wait. Batches grow while they are delivered quickly.
DIRECT_MESSAGES = 16
DIRECT_MOST = 96
DIRECT_QUICK_S = 1.0


@dataclass(slots=True)
class Batch:
    """Messages in flight together and made durable together.

    The lists are parallel to `messages`: `masks` are the routes a message is for (bits), `taken` the
    octets of room it holds. `failures` are messages that could not be fetched, with why.
    """

    messages: list[Message] = field(default_factory=list)
    masks: list[int] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    failures: list[tuple[int, SyncdError]] = field(default_factory=list)
    octets: int = 0
    since: float = 0.0
    fetched: bool = True  # from the source; otherwise read back from an archive

    def __bool__(self) -> bool:
        return bool(self.messages or self.failures)

    def close(self) -> None:
        """Close the bodies. Repeatable."""
        for message in self.messages:
            message.body.close()


class Pipe:
    """One reader, one writer. Either may give up; the other then hears of it at its next call."""

    def __init__(self, *, direct: bool = False) -> None:
        """`direct`: a slow destination takes what comes out."""
        self._most = DIRECT_MESSAGES if direct else BATCH_MESSAGES
        self._direct = direct
        self._taken_at = 0.0
        self._change = threading.Condition()
        self._open = Batch()
        self._closed: deque[Batch] = deque()
        self._unsettled = 0  # batches closed and not yet settled
        self._all_durable = True
        self._ended = False
        self._error: BaseException | None = None
        self._stopped = False

    # --- the reader's side -----------------------------------------------------------------------

    def add(self, message: Message, mask: int, taken: int) -> None:
        """Hand over a fetched message. Raises Cancelled when the writer has stopped."""
        batch = self._open
        if batch.messages and batch.octets + message.body.octets > BATCH_OCTETS:
            self.flush()
        with self._change:
            batch = self._open  # the writer may have taken the one above
            if not batch:
                batch.since = clock.monotonic()
                self._change.notify_all()
            batch.messages.append(message)
            batch.masks.append(mask)
            batch.taken.append(taken)
            batch.octets += message.body.octets
        if batch.octets >= BATCH_OCTETS or len(batch.messages) >= self._most:
            self.flush()

    def fail(self, key: int, error: SyncdError) -> None:
        """Hand over a message that could not be had."""
        with self._change:
            if not self._open:
                self._open.since = clock.monotonic()
                self._change.notify_all()
            self._open.failures.append((key, error))

    def flush(self) -> None:
        """Close the open batch; wait while too many are waiting. Raises Cancelled when the writer has stopped."""
        with self._change:
            self._change.wait_for(lambda: self._stopped or len(self._closed) < MAX_WAITING)
            self._raise_if_stopped()
            self._close_open()

    def wait_settled(self) -> bool:
        """Wait until everything handed over is settled; whether all of it is durable. Raises Cancelled."""
        self.flush()
        with self._change:
            self._change.wait_for(lambda: self._stopped or self._unsettled == 0)
            self._raise_if_stopped()
            return self._all_durable

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more comes; `error` is why, when it is not the end of the work."""
        with self._change:
            if not self._stopped:
                self._close_open()
            self._ended = True
            self._error = error
            self._change.notify_all()

    # --- the writer's side -----------------------------------------------------------------------

    def next(self) -> Batch | None:
        """The next batch; None at the end. Raises the reader's error, after its last batch."""
        with self._change:
            while not self._closed:
                if self._open and clock.monotonic() - self._open.since >= BATCH_SECONDS:
                    self._close_open()
                elif self._ended:
                    if self._error is not None:
                        raise self._error
                    return None
                else:
                    self._change.wait(self._patience())
            batch = self._closed.popleft()
            if self._direct:
                self._taken_at = clock.monotonic()
            self._change.notify_all()
            return batch

    def upcoming(self) -> Batch | None:
        """The batch that `next` would give now without waiting; it stays in the pipe."""
        with self._change:
            return self._closed[0] if self._closed else None

    def settle(self, *, durable: bool) -> None:
        """A batch is dealt with; `durable`: every message in it is now held by some destination."""
        with self._change:
            self._unsettled -= 1
            self._all_durable &= durable
            if self._direct:
                quick = clock.monotonic() - self._taken_at < DIRECT_QUICK_S
                self._most = min(self._most * 2, DIRECT_MOST) if quick else DIRECT_MESSAGES
            self._change.notify_all()

    def stop(self) -> None:
        """The writer gives up: what waits is dropped, the reader is told. Repeatable."""
        with self._change:
            self._stopped = True
            for batch in (*self._closed, self._open):
                batch.close()
            self._closed.clear()
            self._open = Batch()
            self._change.notify_all()

    # --- both, under the lock --------------------------------------------------------------------

    def _close_open(self) -> None:
        if self._open:
            self._closed.append(self._open)
            self._open = Batch()
            self._unsettled += 1
            self._change.notify_all()

    def _patience(self) -> float | None:
        return max(0.0, self._open.since + BATCH_SECONDS - clock.monotonic()) if self._open else None

    def _raise_if_stopped(self) -> None:
        if self._stopped:
            raise Cancelled("the writer has stopped")
