"""Says which connection puts mail into which mailbox of an account: one connection at a time.

Otherwise an intent (UIDNEXT as it stood before) would not tell our messages from those of another connection, and two
deliveries might recognise one message as theirs. A claim lasts until what was found is committed. The mailboxes are
those of all runs of this process; the lease of the account keeps other processes out of all its mailboxes.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Final

ALL: Final = frozenset({""})  # no mailbox has an empty key


class Claims:
    """Mailboxes by their keys (`targets.plain_key`), for all connections to one account. Used from any thread."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._taken: set[str] = set()
        self._last: dict[str, object] = {}

    @contextmanager
    def of(self, keys: Collection[str]) -> Iterator[None]:
        """Have some mailboxes, or ALL, for the block; waits until no other connection has one of them."""
        wanted = frozenset(keys)
        with self._change:
            self._change.wait_for(lambda: self._are_free(wanted))
            self._taken |= wanted
        try:
            yield
        finally:
            with self._change:
                self._taken -= wanted
                self._change.notify_all()

    def is_new(self, key: str, connection: object) -> bool:
        """Note that a connection writes to a mailbox; returns whether another one did since it wrote there last."""
        known = self._last.get(key, connection)
        self._last[key] = connection
        return known is not connection

    def _are_free(self, wanted: frozenset[str]) -> bool:
        if wanted == ALL:
            return not self._taken
        return self._taken.isdisjoint(wanted | ALL)
