"""The ledger's part about removal at the source, and what its parts have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy import Connection

from syncd.db import ages
from syncd.db.database import Database
from syncd.db.ledger import removal
from syncd.db.rows import Scope


class RemovalLedger:
    """A base of `ledger.Ledger`: each method is one transaction, each write begins with the fence."""

    def __init__(self, database: Database, fence: Callable[[Connection], None]) -> None:
        self._database = database
        self._fence = fence

    def removal_due(self, scope: Scope, delivered_before: datetime | None = None) -> int:
        """How many messages of the last listing may be removed, as far as deliveries go; see `removal`."""
        with self._database.read() as connection:
            return removal.count_due(connection, scope, delivered_before)

    def old_enough(self, scope: Scope, age: timedelta) -> datetime:
        """What was delivered before this instant has surely been so for `age`, see `ages`."""
        with self._database.read() as connection:
            return ages.old_enough(connection, scope, age)

    def mark_removing(self, scope: Scope, keys: Sequence[int]) -> None:
        """The intent, committed before the act. Raises RemovalsFrozen, Conflict."""
        with self._write() as connection:
            removal.mark_removing(connection, scope, keys)

    def mark_removed(self, keys: Sequence[int]) -> None:
        """The server removed them: its farewell was read. Raises Conflict."""
        with self._write() as connection:
            removal.mark_removed(connection, keys)

    def mark_frozen(self, scope: Scope, keys: Sequence[int], reason: str) -> None:
        """Do not remove these until a person says so."""
        with self._write() as connection:
            removal.mark_frozen(connection, scope, keys, reason)

    def mark_missing(self, keys: Sequence[int]) -> None:
        """The server shows other messages under their ids."""
        with self._write() as connection:
            removal.mark_missing(connection, keys)

    def freeze(self, account_id: int, reason: str) -> None:
        """Freeze removals at an account. The first reason stays."""
        with self._write() as connection:
            removal.freeze(connection, account_id, reason)

    def thaw(self, account_id: int) -> None:
        """A person lifts all that is frozen at an account."""
        with self._write() as connection:
            removal.thaw(connection, account_id)

    def frozen_reason(self, account_id: int) -> str | None:
        """Why removals at an account stand still; None if they do not."""
        with self._database.read() as connection:
            return removal.frozen_reason(connection, account_id)

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._database.write() as connection:
            self._fence(connection)
            yield connection
