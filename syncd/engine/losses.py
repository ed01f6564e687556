"""Decides whether another session follows one that broke off (pure).

A source says by `Retry.NOW` that a new session does better at once. Mostly one more is enough. SessionLost may come
again and again, where several messages of a mailbox end a session: each is noted, tried once more alone, and then left
for a later run. A mailbox that costs too many sessions is left for a later run as a whole, and the others follow.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from syncd.errors import Retry, SessionLost, SyncdError

MOST_AT_ONE: Final = 6  # sessions lost at one mailbox in a run: two for each of three messages
MOST: Final = 20  # … in a run at all


@dataclass(slots=True)
class Losses:
    """The sessions that a run has lost. `at` is the mailbox that is read now, empty between mailboxes."""

    at: bytes = b""
    _once: bool = False
    _lost: Counter[bytes] = field(default_factory=Counter)

    def __bool__(self) -> bool:
        """Returns whether any session was lost."""
        return self._once or bool(self._lost)

    def may_go_on(self, error: SyncdError) -> bool:
        """Count a session that ended with this error; returns whether another one may follow."""
        if error.retry is not Retry.NOW:
            return False
        if isinstance(error, SessionLost):
            self._lost[self.at] += 1
            return self._lost.total() <= MOST
        first, self._once = not self._once, True
        return first

    def gives_up(self, mailbox: bytes) -> bool:
        """Returns whether a mailbox has cost too many sessions to be read in this run."""
        return self._lost[mailbox] >= MOST_AT_ONE
