"""The batches of one mailbox that a writer sends one behind the other, without waiting for the answers in between.

A batch is done when the outcomes of all of its messages are committed, before the line ends.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from syncd import clock
from syncd.engine.pipe import Batch, Pipe
from syncd.mail.message import Key, Message
from syncd.mail.outcome import Outcome, Verdict

LINE_S: Final = 5.0  # then it ends, as another run may wait for the connection


@dataclass(slots=True)
class _Going:
    """A batch that is being sent. `left`: messages without an outcome; `durable`: each one that has is stored."""

    batch: Batch
    left: set[Key]
    durable: bool


@dataclass(slots=True)
class Line:
    """The batches behind `first`. For one thread."""

    pipe: Pipe
    first: Batch
    _since: float = field(init=False)
    _going: list[_Going] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._since = clock.monotonic()

    def next(self) -> Batch | None:
        """Returns the next batch, if it is at hand. It is to be given to `add`, or closed."""
        if self.first.inlet is None or any(message.labels for message in self.first.messages):
            return None
        return None if clock.monotonic() - self._since >= LINE_S else self.pipe.follower(self.first)

    def add(self, batch: Batch, sent: Sequence[Message], masks: Sequence[int], stored: Collection[Key]) -> None:
        """Take in a batch of which some messages are sent; `stored` are in an archive, for others the mask is 0."""
        left = {message.key for message in sent}
        pairs = zip(batch.messages, masks, strict=True)
        durable = all(message.key in stored or message.key in left or not mask for message, mask in pairs)
        self._going.append(_Going(batch, left, durable))
        self.see(())

    def see(self, outcomes: Iterable[Outcome]) -> None:
        """Take in outcomes that are committed; what they complete is done with."""
        for outcome in outcomes:
            for going in self._going:
                if outcome.key in going.left:
                    going.left.discard(outcome.key)
                    going.durable &= outcome.verdict is Verdict.DELIVERED
        for going in [going for going in self._going if not going.left]:
            self._going.remove(going)
            _done(self.pipe, going.batch, durable=going.durable)

    def end(self) -> None:
        """Give up what has no outcome: it stays pending, or is asked for."""
        for going in self._going:
            _done(self.pipe, going.batch, durable=False)
        self._going.clear()


def _done(pipe: Pipe, batch: Batch, *, durable: bool) -> None:
    batch.close()
    if batch.inlet is not None:
        batch.inlet.room.give(batch.taken, len(batch.messages))
    pipe.written(batch, durable=durable)
