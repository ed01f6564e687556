"""Says which connections put mail into which mailbox of an account.

Otherwise an intent (UIDNEXT as it stood before) would not tell our messages from those of another delivery, and two
deliveries might recognise one message as theirs. A claim lasts until what was found is committed. The mailboxes are
those of all runs of this process; the lease of the account keeps other processes out of all its mailboxes.

Connections of one run may share a mailbox where the UIDs that the server tells of what it takes can be relied on (see
`ImapDestination.shares_mailboxes`). What each has put there is known to all. Before one looks for a message of its own,
it gets the mailbox `alone`.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from syncd.imap.sets import Seen, UidSet

ALL: Final = frozenset({""})  # no mailbox has an empty key


class LooksFor(IntEnum):
    """Messages that a connection looks for while it has a mailbox alone, the greater first: `Claims.make_alone`."""

    REFUSED = 1  # messages that may be stored though they were refused
    TAKEN = 2  # messages that are stored for sure; a refused one would be given the copy of an equal one


@dataclass(slots=True, eq=False)
class Claim:
    """Some mailboxes, for one connection. Claims of one `sharer` have mailboxes together; None shares with nobody."""

    claims: Claims
    keys: frozenset[str]
    sharer: object | None = None
    held: bool = False
    waits: LooksFor | None = None  # for the others to be done, with no mail on its way
    came: dict[str, Seen] = field(default_factory=dict)  # by key: messages that were put there since it is held

    def alone(self, looks_for: LooksFor) -> None:
        """Wait until no other connection puts mail there; none does until this claim ends. Repeatable."""
        self.claims.make_alone(self, looks_for)

    def goes_with(self, other: Claim) -> bool:
        """Returns whether two claims may hold at the same time."""
        together = self.sharer is not None and self.sharer is other.sharer
        return together or not (ALL in {self.keys, other.keys} or self.keys & other.keys)


class Claims:
    """Mailboxes by their keys (`targets.plain_key`), for all connections to one account. Used from any thread."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._line: list[Claim] = []  # those that hold and those that wait, in the order in which they came
        self._last: dict[str, object | None] = {}  # None: several at a time

    @contextmanager
    def of(self, keys: Collection[str], sharer: object | None = None) -> Iterator[Claim]:
        """Have some mailboxes, or ALL, for the block. Claims with the same `sharer` may have a mailbox together.

        Waits for all claims that do not go with it, and came before or are held.
        """
        claim = Claim(self, frozenset(keys), sharer)
        with self._change:
            self._line.append(claim)
        try:
            with self._change:
                self._change.wait_for(lambda: all(claim.goes_with(other) for other in self._before(claim)))
                claim.held = True
            yield claim
        finally:
            with self._change:
                self._line.remove(claim)
                if claim.keys == ALL:
                    self._last = dict.fromkeys(self._last)  # what was found may have come after anybody looked
                self._change.notify_all()

    def make_alone(self, claim: Claim, looks_for: LooksFor) -> None:
        """See `Claim.alone`. Of several that wait for it one has it, until its claim ends."""
        with self._change:
            claim.sharer, claim.waits = None, looks_for
            self._change.notify_all()
            self._change.wait_for(
                lambda: all(
                    claim.goes_with(it) or (it.waits is not None and it.waits <= looks_for)
                    for it in self._line
                    if it.held
                )
            )
            claim.waits = None

    def note(self, key: str, uids: Collection[int]) -> bool:
        """Note messages that were put into a mailbox, which is claimed. Returns False where one was noted before."""
        with self._change:
            claims = [claim for claim in self._line if claim.held and key in claim.keys]
            kept = [claim.came.setdefault(key, Seen()) for claim in claims]
            if any(uid in seen for seen in kept for uid in uids):
                return False
            for seen in kept:
                for uid in uids:
                    seen.add(uid)
            return True

    def ours(self, claim: Claim, key: str) -> UidSet:
        """Returns the messages that were put into a mailbox since a claim is held."""
        with self._change:
            return claim.came[key].uids() if key in claim.came else UidSet()

    def is_new(self, key: str, connection: object) -> bool:
        """Note that a connection writes to a mailbox; returns whether another one did since it wrote there last."""
        with self._change:
            known = self._last.get(key, connection)
            several = sum(claim.held and key in claim.keys for claim in self._line) > 1
            self._last[key] = None if several else connection
            return known is not connection

    def _before(self, claim: Claim) -> Iterator[Claim]:
        at = self._line.index(claim)
        return (other for number, other in enumerate(self._line) if number < at or (number > at and other.held))
