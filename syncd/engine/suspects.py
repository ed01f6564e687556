"""Finds the message at which a destination ends the session each time, so that it does not hold up all others (pure).

When sessions are lost one after another, messages are sent alone. One at which LOSSES are lost is put aside. It is to
blame only if others are taken: a server that ends the session at every message is broken, or the line is.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from syncd.errors import SyncdError
from syncd.mail.message import Key, Message
from syncd.mail.outcome import Outcome, Verdict

LOSSES: Final = 2  # of sessions at a message that is sent alone
MOST: Final = 12  # of sessions at some messages: so many are lost at three that are put aside


@dataclass(slots=True)
class Suspects:
    """The losses while some messages are delivered. `alone`: they are sent one by one. `aside`: put aside."""

    alone: bool = False
    losses: int = 0
    aside: list[Message] = field(default_factory=list)
    why: SyncdError | None = None
    _at: Counter[Key] = field(default_factory=Counter)

    def lost(self, error: SyncdError) -> None:
        """Note that a session was lost."""
        self.losses, self.why = self.losses + 1, error

    def may_be(self, going: list[Message]) -> bool:
        """Note that one of these may be to blame for a loss; returns False where that is not to be found out."""
        if self.losses >= MOST:
            return False
        if self.alone and going:
            self._at[going[0].key] += 1
        self.alone = True
        return True

    def take(self, going: list[Message]) -> None:
        """Put the first of `going` aside, where sessions are lost at it."""
        if self.alone and going and self._at[going[0].key] >= LOSSES:
            self.aside.append(going.pop(0))

    def blamed(self) -> list[Outcome]:
        """Returns DEFERRED for those put aside, as the destination takes others; the next are sent together again."""
        reason = f"the session ended each time that this message was sent, also alone: {self.why}"
        found = [Outcome(one.key, Verdict.DEFERRED, reason=reason) for one in self.aside]
        if self.aside:
            self.aside, self.alone = [], False
        return found
