"""Renews the leases of this process, all in one transaction, by one thread.

The thread lives while there is a lease to be kept, or for good in a process of the service, which also writes with
each renewal that it lives (`beat`). A renewal that fails is tried again soon; a lease that somebody took over is not
renewed any more, and its owner learns of it at its next `fence` or `check`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Final, Protocol
from weakref import WeakValueDictionary

from sqlalchemy import Connection, tuple_, update

from syncd import clock
from syncd.db.bulk import IN_LIST
from syncd.db.database_time import database_now
from syncd.db.models import leases
from syncd.errors import LeaseLost, LedgerError, StorageError

if TYPE_CHECKING:
    from syncd.db.database import Database

log = logging.getLogger(__name__)

RENEW_S: Final = 20.0  # a lease lasts 60 s: two renewals may fail before it runs out
RETRY_S: Final = 2.0  # after a renewal that failed

Beat = Callable[[Connection], None]


class Renewable(Protocol):
    """Leases that are held together."""

    @property
    def pairs(self) -> Sequence[tuple[str, int]]:
        """Returns each lease as resource and generation."""

    def renewed(self, begun: float, alive: Collection[tuple[str, int]]) -> LeaseLost | None:
        """Take in which leases are still ours after a renewal that began at `begun`; returns the error if one is not.

        `begun` is in seconds of `clock.boottime`.
        """


class Renewer:
    """Keeps leases while they are `add`ed. Used from any thread."""

    def __init__(
        self, database: Database, expiry_s: float, renew_s: float = RENEW_S, stopping: threading.Event | None = None
    ) -> None:
        """The thread pauses by waiting for `stopping`, by default an event of its own."""
        self._database = database
        self._expiry_s = expiry_s
        self._renew_s = renew_s
        self._given = stopping
        self._stopping = stopping or threading.Event()
        self._sets: set[Renewable] = set()
        self._beat: Beat | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, lease_set: Renewable) -> None:
        """Renew these leases from now on."""
        with self._lock:
            self._sets.add(lease_set)
            self._start()

    def drop(self, lease_set: Renewable) -> None:
        """Do not renew these leases any more. Repeatable."""
        with self._lock:
            self._sets.discard(lease_set)
            thread = self._thread if not self._sets and self._beat is None else None
            if thread is not None:
                self._stopping.set()
                self._thread = None
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def stay(self, beat: Beat | None) -> None:
        """Call `beat` in the transaction of each renewal, the first at once. None: this process ends its work."""
        if beat is not None:
            with self._database.write() as connection:
                beat(connection)
        with self._lock:
            self._beat = beat
            if beat is not None:
                self._start()
            elif not self._sets and self._thread is not None:
                self._stopping.set()
                self._thread = None

    def _start(self) -> None:
        if self._thread is None:
            self._stopping = self._given or threading.Event()
            self._thread = threading.Thread(target=self._keep, args=(self._stopping,), name="syncd-leases", daemon=True)
            self._thread.start()

    def _keep(self, stopping: threading.Event) -> None:
        pause, told = self._renew_s, ""
        while not stopping.wait(pause):
            try:
                self.renew()
                pause, told = self._renew_s, ""
            except (LedgerError, StorageError) as error:
                if told != str(error):
                    told = str(error)
                    log.info("lease.renewal_failed: %s", error)
                pause = min(self._renew_s, RETRY_S)

    def renew(self) -> None:
        """Move the expiry of all leases ahead. Raises LedgerError or StorageError."""
        with self._lock:
            kept, beat = list(self._sets), self._beat
        if not kept and beat is None:
            return
        begun = clock.boottime()
        with self._database.write() as connection:
            alive = _move_ahead(connection, [pair for lease_set in kept for pair in lease_set.pairs], self._expiry_s)
            if beat is not None:
                beat(connection)
        for lease_set in kept:
            gone = lease_set.renewed(begun, alive)
            if gone is not None:
                log.info("lease.lost: %s", gone)
                self.drop(lease_set)


def _move_ahead(connection: Connection, pairs: Sequence[tuple[str, int]], expiry_s: float) -> set[tuple[str, int]]:
    """Returns the leases, as resource and generation, that are still ours: they last for `expiry_s` from now."""
    alive: set[tuple[str, int]] = set()
    expiry = database_now(connection) + expiry_s
    for start in range(0, len(pairs), IN_LIST // 2):
        some = sorted(pairs[start : start + IN_LIST // 2])  # every process locks rows in this order
        ours = tuple_(leases.c.resource, leases.c.generation).in_(some)
        among = leases.c.resource.in_([resource for resource, _ in some])  # for the index
        moved = update(leases).where(among, ours).values(expires_at=expiry)
        alive |= {
            (row.resource, row.generation)
            for row in connection.execute(moved.returning(leases.c.resource, leases.c.generation))
        }
    return alive


# Each has its database, so a dictionary that holds them keeps every database that was ever opened. Those that renew
# something are held by the leases or by their thread; the others have nothing to remember.
_RENEWERS: Final[WeakValueDictionary[Database, Renewer]] = WeakValueDictionary()
_LOCK: Final = threading.Lock()


def renewer(database: Database, expiry_s: float, renew_s: float = RENEW_S) -> Renewer:
    """Returns the one renewer of a database in this process."""
    with _LOCK:
        return _RENEWERS.setdefault(database, Renewer(database, expiry_s, renew_s))
