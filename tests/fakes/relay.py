"""A destination of class UNCERTAIN that follows a script and counts the copies that it took."""

from __future__ import annotations

import math
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from syncd import clock
from syncd.durable import Step, durable_step
from syncd.errors import ConnectionLost, SyncdError, Throttled
from syncd.mail.message import Key, Message, Receipt
from syncd.mail.outcome import Outcome, Repeat, Verdict

REFUSED = "550 5.7.60"  # Exchange Online: this account may not send as that sender
BUSY = "451 4.3.0"
ACCEPTED = ("accept", "lost", "cut", "silent")  # these make a copy


class Relay:
    """`script` has an answer for each message that is begun, "accept" when it is used up.

    accept, defer, reject   after the last octet; what was deferred may be taken later
    busy                    deferred by a refusal that could meet every message
    large                   rejected before an octet is sent, by ourselves
    lost, lost-early        no reply was read; the message arrived, or did not
    cut                     taken, then the destination fails as a whole
    silent                  taken, but no outcome is ever told
    throttle                not now, says the server, before the message is begun

    `window` messages are in flight at a time. Copies go to `file`, if there is one, where a kill does not undo them.
    """

    repeat = Repeat.UNCERTAIN

    def __init__(self, script: Iterable[str] = (), *, window: int = 1, file: Path | None = None) -> None:
        self.script = deque(script)
        self.copies: Counter[bytes] = Counter()  # by uid
        self.begun: list[bytes] = []
        self.batches: list[int] = []  # how many messages came at a time
        self.until: datetime | None = None  # of a throttle
        self.on_sending: Callable[[Sequence[Key]], None] = lambda _: None  # called when it may go on, with the keys
        self.opened = self.closed = 0
        self.failure: SyncdError | None = None  # raised by `open`
        self._window = window
        self._file = file
        self._stopped = False
        self._over: Callable[[], bool] = lambda: False
        self.patience_s = math.inf

    def open(self) -> None:
        self.opened += 1
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        self.closed += 1

    def stop(self) -> None:
        self._stopped = True

    def end_when(self, over: Callable[[], bool], patience_s: float = math.inf) -> None:
        self._over, self.patience_s = over, patience_s

    def deliver(self, batch: Sequence[Message], upcoming: Sequence[Message] = ()) -> Iterator[Sequence[Outcome]]:  # noqa: ARG002
        self.batches.append(len(batch))
        ended: deque[tuple[Message, str]] = deque()
        ready: list[Outcome] = []
        for message in batch:
            if self._stopped or self._over():
                break
            answer = self.script.popleft() if self.script else "accept"
            if answer == "throttle":
                yield [*ready, *self._replies(ended, 0)]
                raise Throttled("421 4.7.0 too many messages", until=self.until or clock.now(), code="421")
            self.begun.append(message.ref.uid)
            if answer == "large":
                ready.append(Outcome(message.key, Verdict.REJECTED, reason="has more octets than the server takes"))
                continue
            yield [*ready, Outcome(message.key, Verdict.SENDING)]
            self.on_sending([message.key])
            self._end(message, answer)
            ended.append((message, answer))
            ready = list(self._replies(ended, self._window - 1))
        yield [*ready, *self._replies(ended, 0)]

    def _end(self, message: Message, answer: str) -> None:
        with durable_step(Step.MESSAGE_END):
            if answer in ACCEPTED:
                self.copies[message.ref.uid] += 1
                if self._file is not None:
                    append(self._file, message.ref.uid)
        if answer == "cut":
            raise ConnectionLost("the server closed the connection")

    def _replies(self, ended: deque[tuple[Message, str]], leave: int) -> Iterator[Outcome]:
        while len(ended) > leave:
            message, answer = ended.popleft()
            match answer:
                case "accept":
                    yield Outcome(message.key, Verdict.DELIVERED, Receipt(message.body.sha256, "250 2.0.0 queued"))
                case "defer":
                    yield Outcome(message.key, Verdict.DEFERRED, reason="450 4.2.0 greylisted")
                case "busy":
                    yield Outcome(message.key, Verdict.DEFERRED, reason=f"{BUSY} not now", code=BUSY)
                case "reject":
                    reason = f"{REFUSED} {message.ref.uid.decode()} refused"
                    yield Outcome(message.key, Verdict.REJECTED, reason=reason, code=REFUSED)
                case "lost" | "lost-early":
                    yield Outcome(message.key, Verdict.UNCERTAIN, reason="the connection was lost after the last octet")
                case _:
                    assert answer == "silent"


class Broken(Relay):
    """Cannot be opened."""

    def __init__(self, error: SyncdError) -> None:
        super().__init__()
        self._error = error

    def open(self) -> None:
        raise self._error


def append(file: Path, uid: bytes) -> None:
    """One write, so that a kill leaves a whole line or none."""
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, uid + b"\n")
    finally:
        os.close(descriptor)


def taken(file: Path) -> Counter[bytes]:
    """The copies in a file, by uid."""
    return Counter(file.read_bytes().split()) if file.exists() else Counter()
