"""The index of an archive of packs (`index.sqlite`): which octets are stored where, and where they were seen.

Every row follows from the packs, in their order, so an index that is built again is equal (`dump`). `packs.octets`
says how many octets of each pack are in the index, and that these octets are durable. `damage` says which octets could
not be read when they were taken up: what they held is in no other row. One writer at a time, under the archive's lock;
readers at any time. Row numbers are internal.

WAL with synchronous=NORMAL: a power cut may lose the last commits, never their order; lost rows are read from the
packs again.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Final, NamedTuple, Self
from uuid import UUID

from syncd.durable import Step, durable_step
from syncd.errors import DiskFull, Locked, StorageError
from syncd.formats.packs.frame import Lost
from syncd.formats.packs.meta import Meta, PlaceRow, path_of, path_text
from syncd.formats.packs.reader import Unit
from syncd.formats.regular import odd
from syncd.mail.mailbox import Epoch
from syncd.mail.message import Origin

VERSION: Final = 3
BUSY_TIMEOUT_S: Final = 30.0
CHECKPOINT_PAGES: Final = 4000  # 16 MiB of log before it is folded in: digests land all over the tree
ROWS: Final = 50  # in one INSERT: 1 µs a row less than one by one, and a third less wall time beside a busy thread
DIGEST: Final = 32  # octets of a SHA-256
LOOKUP: Final = 250  # digests in one SELECT; a fixed number, so that it is compiled once

SCHEMA: Final = f"""
CREATE TABLE archive (uuid BLOB NOT NULL);
CREATE TABLE packs (number INTEGER PRIMARY KEY, octets INTEGER NOT NULL);
CREATE TABLE damage (
    pack INTEGER NOT NULL, offset INTEGER NOT NULL, reason TEXT NOT NULL, lost BLOB, PRIMARY KEY (pack, offset)
);
CREATE TABLE origins (
    id INTEGER PRIMARY KEY, account BLOB NOT NULL, name TEXT NOT NULL, mailbox BLOB NOT NULL, epoch INTEGER NOT NULL,
    path TEXT NOT NULL, use TEXT NOT NULL, subscribed INTEGER NOT NULL, UNIQUE (account, mailbox, epoch)
);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY, sha256 BLOB NOT NULL UNIQUE, header_hash BLOB NOT NULL, octets INTEGER NOT NULL,
    offset INTEGER NOT NULL, length INTEGER NOT NULL, crlf INTEGER NOT NULL,
    pack INTEGER NOT NULL, frame INTEGER NOT NULL, parts INTEGER NOT NULL, stored_at INTEGER NOT NULL
);
CREATE TABLE places (
    message INTEGER NOT NULL, origin INTEGER NOT NULL, uid BLOB NOT NULL, occurrence INTEGER NOT NULL,
    flags TEXT NOT NULL, date TEXT NOT NULL, labels TEXT NOT NULL, removed_at INTEGER,
    PRIMARY KEY (message, origin, uid, occurrence)
) WITHOUT ROWID;
CREATE INDEX places_by_uid ON places (origin, uid);
PRAGMA user_version = {VERSION};
"""

# OR ROLLBACK: a conflict cannot be, and SQLite then needs no journal for a statement of many rows
_ROW = {"messages": f"({','.join('?' * 11)})", "places": f"({','.join('?' * 8)})"}
_ONE = {table: f"INSERT OR ROLLBACK INTO {table} VALUES {row}" for table, row in _ROW.items()}  # noqa: S608  constants
_MANY = {table: ",".join([one] + [_ROW[table]] * (ROWS - 1)) for table, one in _ONE.items()}
_PLACE = """INSERT INTO places VALUES (?,?,?,?,?,?,?,NULL) ON CONFLICT DO UPDATE
            SET flags = excluded.flags, date = excluded.date, labels = excluded.labels, removed_at = NULL"""
_ORIGIN = """INSERT INTO origins (account, name, mailbox, epoch, path, use, subscribed) VALUES (?,?,?,?,?,?,?)
             ON CONFLICT DO UPDATE SET name = excluded.name, path = excluded.path, use = excluded.use,
             subscribed = excluded.subscribed RETURNING id"""
ORIGIN: Final = "account, name, mailbox, epoch, path, use, subscribed"  # the columns that `origin_of` takes
_KNOWN = f"SELECT sha256, id FROM messages WHERE sha256 IN ({','.join('?' * LOOKUP)})"  # noqa: S608
_HAS_PLACE = """SELECT 1 FROM places WHERE message = ? AND origin = ? AND uid = ? AND occurrence = ?
                AND flags = ? AND date = ? AND labels = ? AND removed_at IS NULL"""
_REMOVED = "UPDATE places SET removed_at = ? WHERE origin = ? AND uid = ? AND occurrence = ?"
_FLAGS = "UPDATE places SET flags = ? WHERE origin = ? AND uid = ? AND occurrence = ?"

_COLUMNS = """SELECT (SELECT count(*) FROM pragma_table_info('places')),
              (SELECT count(*) FROM pragma_table_info('origins')),
              (SELECT count(*) FROM pragma_table_info('damage'))"""

_DAMAGED = "INSERT OR REPLACE INTO damage VALUES (?,?,?,?)"
_DAMAGE = "SELECT pack, offset, reason, lost FROM damage ORDER BY pack, offset"

_DUMPS = (
    "SELECT pack, offset, lost FROM damage ORDER BY pack, offset",
    """SELECT sha256, header_hash, octets, offset, length, crlf, pack, frame, parts, stored_at
       FROM messages ORDER BY pack, frame, offset""",
    f"SELECT {ORIGIN} FROM origins ORDER BY account, mailbox, epoch",  # noqa: S608
    """SELECT account, mailbox, epoch, uid, occurrence, sha256, flags, date, labels, removed_at
       FROM places JOIN origins ON origins.id = origin JOIN messages ON messages.id = message
       ORDER BY account, mailbox, epoch, uid, occurrence, pack, frame, offset""",
)


class LeftOut(NamedTuple):
    """Octets of a pack that could not be read when they were taken up; `messages` is None where nobody knows."""

    pack: int
    offset: int
    reason: str
    messages: int | None


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
                and connection.execute(_COLUMNS).fetchone() == (8, 8, 4)
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

    def forget_damage(self, pack: int, start: int) -> None:
        """Forget the damage of a pack from `start` on: these octets are looked at again."""
        self.connection.execute("DELETE FROM damage WHERE pack = ? AND offset >= ?", (pack, start))

    def note_damage(self, pack: int, offset: int, reason: str, lost: Lost = None) -> None:
        """Record that octets cannot be taken up, with the messages that were there, if these are known."""
        octets = None if lost is None else b"".join(lost)
        self.connection.execute(_DAMAGED, (pack, offset, reason, octets))

    def add(self, pack: int, unit: Unit, known: dict[bytes, int] | None = None) -> None:
        """Take up a unit.

        `known`: the numbers of those messages that it speaks of and that are stored, to which its own are added;
        None: look them up.
        """
        meta = unit.meta
        if known is None:
            known = self.known([row.sha256 for row in meta.firsts + meta.places])
        origins = [self._origin(origin) for origin in meta.origins]
        rows, placed = [], []
        for row, first in zip(meta.messages, meta.firsts, strict=True):
            if row.sha256 not in known:
                self._ids += 1
                known[row.sha256] = self._ids
                rows.append((self._ids, *row, pack, unit.offset, unit.parts, meta.at))
                placed.append((self._ids, origins[first.origin], *first[2:], None))
        if unit.parts > 1 and rows:
            rows = [(*rows[0][:5], unit.length, *rows[0][6:])]
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

    def _origin(self, origin: Origin) -> int:
        account, name, mailbox, epoch, path, *facts = origin
        row = (account.bytes, name, mailbox, epoch, json.dumps(path_text(path)), *facts)
        number: int
        (number,) = self.connection.execute(_ORIGIN, row).fetchone()
        return number

    def _add_places(self, places: Iterable[PlaceRow], known: dict[bytes, int], origins: list[int]) -> None:
        """Places of octets that are not stored (lost to damage) are passed over: they will be fetched again."""
        rows = [(known[sha256], origins[origin], *rest) for sha256, origin, *rest in places if sha256 in known]
        self.connection.executemany(_PLACE, rows)

    def _add_facts(self, meta: Meta, origins: list[int]) -> None:
        removed = [(meta.at, origins[origin], *rest) for origin, *rest in dict.fromkeys(meta.removed)]
        flags = [(text, origins[origin], *rest) for (origin, *rest), text in dict(meta.flags).items()]
        self.connection.executemany(_REMOVED, removed)
        self.connection.executemany(_FLAGS, flags)

    # --- reading ---

    def known(self, digests: Sequence[bytes]) -> dict[bytes, int]:
        """Returns the numbers of those octets that are stored."""
        found: dict[bytes, int] = {}
        for start in range(0, len(digests), LOOKUP):
            some = digests[start : start + LOOKUP]
            padded = (*some, *repeat(some[-1], LOOKUP - len(some)))
            found.update(self.connection.execute(_KNOWN, padded).fetchall())
        return found

    def left_out(self) -> list[LeftOut]:
        """Returns the damage because of which messages may be missing; messages stored again elsewhere do not count."""
        found = []
        for pack, offset, reason, lost in self.connection.execute(_DAMAGE).fetchall():
            digests = [] if lost is None else [lost[at : at + DIGEST] for at in range(0, len(lost), DIGEST)]
            missing = len(set(digests) - self.known(digests).keys())
            if lost is None or missing:
                found.append(LeftOut(pack, offset, reason, None if lost is None else missing))
        return found

    def origins(self) -> dict[Origin, int]:
        """Returns every mailbox in every epoch that the packs name, with its number."""
        rows = self.connection.execute(f"SELECT id, {ORIGIN} FROM origins")  # noqa: S608
        return {origin_of(fields): number for number, *fields in rows}

    def has_place(self, message: int, origin: int, place: PlaceRow) -> bool:
        """Tells whether a place is known with the same flags, date and labels, and not as removed."""
        row = self.connection.execute(_HAS_PLACE, (message, origin, *place[2:])).fetchone()
        return row is not None

    def packs(self) -> dict[int, int]:
        """Returns how many octets of each pack are in the index."""
        return dict(self.connection.execute("SELECT number, octets FROM packs").fetchall())

    def dump(self) -> Iterator[tuple[Any, ...]]:
        """Every logical row in a fixed order: equal for every index of the same packs."""
        for statement in _DUMPS:
            yield from self.connection.execute(statement)


def origin_of(row: Sequence[Any]) -> Origin:
    """Returns an origin from its columns (ORIGIN)."""
    account, name, mailbox, epoch, path, use, subscribed = row
    return Origin(
        UUID(bytes=account), name, mailbox, Epoch(epoch), path_of(json.loads(path)), use, subscribed=bool(subscribed)
    )


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
            raise IndexDamaged(f"{path} is damaged; the next run builds it again from the packs") from error
        raise StorageError(f"cannot use {path}: {error}") from error


class IndexDamaged(StorageError):
    """The index is not a whole database; the packs are not concerned."""


def oddity(path: Path) -> str:
    """Tells why the index at `path` must not be opened, else "": SQLite follows links and waits for a FIFO."""
    for file in _files(path):
        if why := odd(file):
            return f"{why} ({file.name})"
    return ""


def _files(path: Path) -> list[Path]:
    """The files of SQLite's that belong to an index."""
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm", "-journal")]


def remove(path: Path) -> None:
    """Delete an index. Raises OSError."""
    for file in _files(path):
        if os.path.lexists(file):
            with durable_step(Step.INDEX_REMOVE):
                file.unlink(missing_ok=True)


def _connect(path: Path | str) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
