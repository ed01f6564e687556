"""Says which connections put mail into which mailbox of an account.

Otherwise an intent (UIDNEXT as it stood before) would not tell our messages from those of another delivery, and two
deliveries might recognise one message as theirs. A claim lasts until what was found is committed. The mailboxes are
those of all runs of this process; the lease of the account keeps other processes out of all its mailboxes.

Connections of one run may share a mailbox where the server tells the UID of each message that it takes. What each of
them has put there is known to all, and one that has to look for a message first gets the mailbox `alone`.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from syncd.imap.sets import UidSet

ALL: Final = frozenset({""})  # no mailbox has an empty key


@dataclass(slots=True, eq=False)
class Claim:
    """Some mailboxes, for one connection. Claims of one `sharer` have mailboxes together; None shares with nobody."""

    claims: Claims
    keys: frozenset[str]
    sharer: object | None = None
    held: bool = False
    waits: bool = False  # for the others to be done, with no mail of its own on its way

    def alone(self) -> None:
        """Wait until no other connection puts mail there; none does until this claim ends. Repeatable."""
        if self.sharer is not None:
            self.claims.make_alone(self)

    def goes_with(self, other: Claim) -> bool:
        """Returns whether two claims may hold at the same time."""
        together = self.sharer is not None and self.sharer is other.sharer
        return together or not (ALL in {self.keys, other.keys} or self.keys & other.keys)


class Claims:
    """Mailboxes by their keys (`targets.plain_key`), for all connections to one account. Used from any thread."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self.line: list[Claim] = []  # those that hold and those that wait, in the order in which they came
        self._last: dict[str, object | None] = {}  # None: several at a time
        self._ours: dict[str, UidSet] = {}

    @contextmanager
    def of(self, keys: Collection[str], sharer: object | None = None) -> Iterator[Claim]:
        """Have some mailboxes, or ALL, for the block; waits until all claims before that do not go with it have ended.

        Claims with the same `sharer` may have a mailbox together.
        """
        claim = Claim(self, frozenset(keys), sharer)
        with self._change:
            self.line.append(claim)
        try:
            with self._change:
                self._change.wait_for(lambda: all(claim.goes_with(other) for other in self._before(claim)))
                claim.held = True
            yield claim
        finally:
            with self._change:
                self.line.remove(claim)
                for key in claim.keys.difference(*(other.keys for other in self.line if other.held)):
                    self._ours.pop(key, None)
                self._change.notify_all()

    def make_alone(self, claim: Claim) -> None:
        """See `Claim.alone`. Of several that wait for it the first one has it until its claim ends."""
        with self._change:
            claim.sharer, claim.waits = None, True
            self._change.notify_all()
            self._change.wait_for(
                lambda: all(claim.goes_with(other) or other.waits for other in self.line if other.held)
            )
            claim.waits = False

    def note(self, key: str, uids: Iterable[int]) -> None:
        """Note messages that were put into a mailbox, which is claimed."""
        with self._change:
            self._ours[key] = self._ours.get(key, UidSet()) | UidSet.of(uids)

    def ours(self, key: str) -> UidSet:
        """Returns the messages that were put into a mailbox since somebody has it."""
        with self._change:
            return self._ours.get(key, UidSet())

    def is_new(self, key: str, connection: object) -> bool:
        """Note that a connection writes to a mailbox; returns whether another one did since it wrote there last."""
        with self._change:
            known = self._last.get(key, connection)
            several = sum(claim.held and key in claim.keys for claim in self.line) > 1
            self._last[key] = None if several else connection
            return known is not connection

    def _before(self, claim: Claim) -> Iterator[Claim]:
        return iter(self.line[: self.line.index(claim)])
