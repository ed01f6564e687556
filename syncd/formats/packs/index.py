"""The index of an archive of packs (`index.sqlite`): which octets are stored where, and where they were seen.

Nothing in it is original: every row follows from the packs, in their order, so that an index built anew is equal
(`dump`). `packs.octets` says how far each pack is taken up, and that this much of it is durable. One writer at a
time, under the archive's lock; readers at any time. Numbers of rows are internal and mean nothing outside.

WAL with synchronous=NORMAL: a power cut may lose the last commits, never the order, and what is lost is read
from the packs again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Final, Self
from uuid import UUID

from syncd.durable import Step, durable_step
from syncd.errors import DiskFull, Locked, StorageError
from syncd.formats.packs.meta import Meta, PlaceRow
from syncd.formats.packs.reader import Unit
from syncd.mail.message import Origin

VERSION: Final = 1
BUSY_TIMEOUT_S: Final = 30.0
CHECKPOINT_PAGES: Final = 4000  # 16 MiB of log before it is folded in: digests land all over the tree
ROWS: Final = 50  # in one INSERT: 1 µs a row less than one by one, and a third less wall time beside a busy thread
LOOKUP: Final = 250  # digests in one SELECT; a fixed number, so that it is compiled once

SCHEMA: Final = f"""
CREATE TABLE archive (uuid BLOB NOT NULL);
CREATE TABLE packs (number INTEGER PRIMARY KEY, octets INTEGER NOT NULL);
CREATE TABLE origins (
    id INTEGER PRIMARY KEY, account BLOB NOT NULL, name TEXT NOT NULL, mailbox BLOB NOT NULL, epoch INTEGER NOT NULL,
    UNIQUE (account, mailbox, epoch)
);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY, sha256 BLOB NOT NULL UNIQUE, header_hash BLOB NOT NULL, octets INTEGER NOT NULL,
    offset INTEGER NOT NULL, length INTEGER NOT NULL, crlf INTEGER NOT NULL,
    pack INTEGER NOT NULL, frame INTEGER NOT NULL, parts INTEGER NOT NULL, stored_at INTEGER NOT NULL
);
CREATE TABLE places (
    message INTEGER NOT NULL, origin INTEGER NOT NULL, uid BLOB NOT NULL, occurrence INTEGER NOT NULL,
    flags TEXT NOT NULL, date TEXT NOT NULL, removed_at INTEGER, PRIMARY KEY (message, origin, uid, occurrence)
) WITHOUT ROWID;
CREATE INDEX places_by_uid ON places (origin, uid);
PRAGMA user_version = {VERSION};
"""

# OR ROLLBACK: a conflict cannot be, and SQLite then needs no journal for a statement of many rows
_ROW = {"messages": f"({','.join('?' * 11)})", "places": f"({','.join('?' * 7)})"}
_ONE = {table: f"INSERT OR ROLLBACK INTO {table} VALUES {row}" for table, row in _ROW.items()}  # noqa: S608  constants
_MANY = {table: ",".join([one] + [_ROW[table]] * (ROWS - 1)) for table, one in _ONE.items()}
_PLACE = """INSERT INTO places VALUES (?,?,?,?,?,?,NULL) ON CONFLICT DO UPDATE
            SET flags = excluded.flags, date = excluded.date, removed_at = NULL"""
_ORIGIN = """INSERT INTO origins (account, name, mailbox, epoch) VALUES (?,?,?,?)
             ON CONFLICT DO UPDATE SET name = excluded.name RETURNING id"""
_KNOWN = f"SELECT sha256, id FROM messages WHERE sha256 IN ({','.join('?' * LOOKUP)})"  # noqa: S608
_HAS_PLACE = """SELECT 1 FROM places WHERE message = ? AND origin = ? AND uid = ? AND occurrence = ?
                AND flags = ? AND date = ? AND removed_at IS NULL"""
_REMOVED = "UPDATE places SET removed_at = ? WHERE origin = ? AND uid = ? AND occurrence = ?"
_FLAGS = "UPDATE places SET flags = ? WHERE origin = ? AND uid = ? AND occurrence = ?"

_DUMPS = (
    """SELECT sha256, header_hash, octets, offset, length, crlf, pack, frame, parts, stored_at
       FROM messages ORDER BY pack, frame, offset""",
    """SELECT account, name, mailbox, epoch, uid, occurrence, sha256, flags, date, removed_at
       FROM places JOIN origins ON origins.id = origin JOIN messages ON messages.id = message
       ORDER BY account, mailbox, epoch, uid, occurrence, pack, frame, offset""",
)


class Index:
    """An open index. Raises sqlite3.Error; the archive explains them."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._ids = 0

    @classmethod
    def create(cls, path: Path | str, archive: UUID) -> Self:
        """A new, empty index that a crash may spoil. With an empty `path`: in a temporary file of SQLite's own."""
        index = cls(_connect(path))
        index.connection.execute("PRAGMA journal_mode = OFF")
        index.connection.execute("PRAGMA synchronous = OFF")
        index.connection.executescript(f"BEGIN; {SCHEMA}")
        index.connection.execute("INSERT INTO archive VALUES (?)", (archive.bytes,))
        index.connection.execute("COMMIT")
        return index

    @classmethod
    def open(cls, path: Path, archive: UUID) -> Self | None:
        """The index at `path`, or None if it is not a whole index of that archive in this version."""
        connection = _connect(path)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
            usable = (
                connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
                and connection.execute("SELECT uuid FROM archive").fetchone() == (archive.bytes,)
                and connection.execute("SELECT count(*) FROM pragma_table_info('places')").fetchone() == (7,)
            )
        except sqlite3.DatabaseError as error:
            connection.close()
            if isinstance(error, sqlite3.OperationalError):
                raise  # locked, or the disk: says nothing about the content
            return None
        if not usable:
            connection.close()
            return None
        return cls(connection)

    def close(self) -> None:
        """Fold the log in and close."""
        self.connection.close()

    # --- writing, under the archive's lock ---

    def begin(self) -> None:
        """Start a transaction."""
        self.connection.execute("BEGIN IMMEDIATE")
        (self._ids,) = self.connection.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()

    def commit(self) -> None:
        """End it."""
        with durable_step(Step.INDEX_COMMIT):
            self.connection.execute("COMMIT")

    def rollback(self) -> None:
        """Forget it, if there is one."""
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def taken_up(self, pack: int, octets: int) -> None:
        """Record that a pack is known and durable up to `octets`."""
        self.connection.execute("INSERT OR REPLACE INTO packs VALUES (?,?)", (pack, octets))

    def add(self, pack: int, unit: Unit, known: dict[bytes, int] | None = None) -> None:
        """Take up a unit.

        `known`: the numbers of those messages that it speaks of and that are stored, to which its own are added;
        None: look them up.
        """
        meta = unit.metas[0]
        if known is None:
            known = self.known([row.sha256 for row in meta.firsts + meta.places])
        origins = [self._origin(*origin) for origin in meta.origins]
        rows, placed = [], []
        for row, first in zip(meta.messages, meta.firsts, strict=True):
            if row.sha256 not in known:
                self._ids += 1
                known[row.sha256] = self._ids
                rows.append((self._ids, *row, pack, unit.offset, len(unit.metas), meta.at))
                placed.append((self._ids, origins[first.origin], *first[2:], None))
        if len(unit.metas) > 1 and rows:
            length = sum(part.messages[0].length for part in unit.metas)
            rows = [(*rows[0][:5], length, *rows[0][6:])]
        self._insert("messages", rows)
        self._insert("places", placed)
        if len(rows) < len(meta.messages):
            self._add_places(meta.firsts, known, origins)
        self._add_places(meta.places, known, origins)
        self._add_facts(meta, origins)

    def _insert(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        """Insert many rows in few steps: between steps sqlite3 lets other threads run, and waits for them."""
        whole = len(rows) // ROWS * ROWS
        for start in range(0, whole, ROWS):
            values = list(chain.from_iterable(rows[start : start + ROWS]))
            self.connection.execute(_MANY[table], values)
        self.connection.executemany(_ONE[table], rows[whole:])

    def _origin(self, account: UUID, name: str, mailbox: bytes, epoch: int) -> int:
        number: int
        (number,) = self.connection.execute(_ORIGIN, (account.bytes, name, mailbox, epoch)).fetchone()
        return number

    def _add_places(self, places: Iterable[PlaceRow], known: dict[bytes, int], origins: list[int]) -> None:
        """Places of octets that are not stored (lost to damage) are passed over: they will be fetched again."""
        rows = [(known[sha256], origins[origin], *rest) for sha256, origin, *rest in places if sha256 in known]
        self.connection.executemany(_PLACE, rows)

    def _add_facts(self, meta: Meta, origins: list[int]) -> None:
        removed = [(meta.at, origins[origin], uid, occurrence) for origin, uid, occurrence in meta.removed]
        flags = [(text, origins[origin], uid, occurrence) for (origin, uid, occurrence), text in meta.flags]
        self.connection.executemany(_REMOVED, removed)
        self.connection.executemany(_FLAGS, flags)

    # --- reading ---

    def known(self, digests: Sequence[bytes]) -> dict[bytes, int]:
        """Which of these octets are stored, with their numbers."""
        found: dict[bytes, int] = {}
        for start in range(0, len(digests), LOOKUP):
            some = digests[start : start + LOOKUP]
            padded = (*some, *repeat(some[-1], LOOKUP - len(some)))
            found.update(self.connection.execute(_KNOWN, padded).fetchall())
        return found

    def origins(self) -> dict[Origin, int]:
        """Every mailbox in every epoch that something was seen in, with its number."""
        rows = self.connection.execute("SELECT account, name, mailbox, epoch, id FROM origins")
        return {
            Origin(UUID(bytes=account), name, mailbox, epoch): number for account, name, mailbox, epoch, number in rows
        }

    def has_place(self, message: int, origin: int, place: PlaceRow) -> bool:
        """Whether a place is known just like that: same flags and date, not removed since."""
        row = self.connection.execute(_HAS_PLACE, (message, origin, *place[2:])).fetchone()
        return row is not None

    def packs(self) -> dict[int, int]:
        """The octets of each pack that are taken up."""
        return dict(self.connection.execute("SELECT number, octets FROM packs").fetchall())

    def dump(self) -> Iterator[tuple[Any, ...]]:
        """Every logical row about mail in a fixed order: equal for every index of the same packs."""
        for statement in _DUMPS:
            yield from self.connection.execute(statement)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn sqlite3's errors into ours: DiskFull, Locked, IndexDamaged, StorageError, each naming the index."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise DiskFull(
                f"cannot write to {path}: no space left; free some space and run again, nothing was lost"
            ) from error
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            raise Locked(f"{path} is in use by another program; try again later") from error
        if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            raise IndexDamaged(f"{path} is damaged; it is built anew from the packs at the next run") from error
        raise StorageError(f"cannot use {path}: {error}") from error


class IndexDamaged(StorageError):
    """The index is not a whole database; the packs are not concerned."""


def remove(path: Path) -> None:
    """Delete an index. Raises OSError."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        file = path.with_name(path.name + suffix)
        if os.path.lexists(file):
            with durable_step(Step.INDEX_REMOVE):
                file.unlink(missing_ok=True)


def _connect(path: Path | str) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
