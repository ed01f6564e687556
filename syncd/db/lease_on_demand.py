"""A lease that is taken when it is needed first, such as that of an archive: before it is written to.

A run that finds nothing new keeps nobody from the archive, and costs neither the transaction that takes the lease nor
the one that gives it back.
"""

from __future__ import annotations

import threading

from sqlalchemy import Connection

from syncd.db.database import Database
from syncd.db.leases import LeaseSet


class LeaseOnDemand:
    """The right to write to one resource, shared by the runs of a process. Used from any thread."""

    def __init__(self, database: Database, resource: str, what: str) -> None:
        """`what` tells others what it is held for."""
        self._database = database
        self._resource = resource
        self._what = what
        self._taken: LeaseSet | None = None
        self._lock = threading.Lock()

    @property
    def is_lost(self) -> bool:
        """Returns whether it was taken, and another process took it over."""
        return self._taken is not None and self._taken.is_lost

    def take(self) -> None:
        """Take it, to be kept until `release`. Repeatable. Raises LeaseHeld."""
        with self._lock:
            if self._taken is None:
                self._taken = LeaseSet.acquire(self._database, [self._resource], self._what)

    def fence(self, connection: Connection) -> None:
        """Raise LeaseLost where it was taken and is not ours any more; see `LeaseSet.fence`."""
        if self._taken is not None:
            self._taken.fence(connection)

    def check(self, margin_s: float) -> None:
        """Raise LeaseLost where it was taken and may not stay ours for `margin_s` more seconds."""
        if self._taken is not None:
            self._taken.check(margin_s)

    def release(self) -> None:
        """Give it back. Repeatable; it may be taken again."""
        with self._lock:
            taken, self._taken = self._taken, None
        if taken is not None:
            taken.release()
