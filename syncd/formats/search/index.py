"""The index of an archive's words: a file beside the archive, which may be deleted at any time.

    messages   one row each: its key in the archive, octets, and what a list shows. The id is the message's minute since
               1970, or one soon after that is free: so the newest come first without sorting
    words      FTS5 without contents, positions or columns: which messages have a word. So it has about an eighth of
               the octets of the text; words one after another are looked for in the messages
    places     the mailboxes in which a message was seen

A message that is gone keeps its id, without a key: its words stay, and lead nowhere.

Writers take turns in short transactions, and may be two: a message that is there already is passed over. Every row
follows from the archive. A crash loses the last transactions, never their order: `mark` is in them.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Final, Self
from uuid import UUID

from syncd.durable import Step, durable_step
from syncd.errors import StorageError
from syncd.formats.regular import odd
from syncd.formats.search.contract import SHOWN, Box, Document, Hit
from syncd.formats.search.files import SUFFIXES, connect, explained, remove
from syncd.formats.search.question import Question
from syncd.formats.search.statement import EPOCH, MINUTE_S, Places, candidates, match, numbers, seconds, statement
from syncd.mail.message import Origin

VERSION: Final = 1
HASH_OCTETS: Final = 4 << 20  # of words that wait in memory for a transaction's end
FEW_ASKED: Final = 1_000  # messages, each of which takes a question to the words: 20 µs
FEW_LISTED: Final = 20_000  # messages that are sorted

SCHEMA: Final = f"""
CREATE TABLE archive (uuid BLOB NOT NULL, mark TEXT NOT NULL, latest INTEGER NOT NULL);
CREATE TABLE mailboxes (
    id INTEGER PRIMARY KEY, account BLOB NOT NULL, name TEXT NOT NULL, mailbox BLOB NOT NULL, path TEXT NOT NULL,
    UNIQUE (account, mailbox)
);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY, key BLOB UNIQUE, at INTEGER NOT NULL, octets INTEGER NOT NULL,
    attachments INTEGER NOT NULL, sender TEXT NOT NULL, subject TEXT NOT NULL
);
CREATE TABLE places (
    mailbox INTEGER NOT NULL, message INTEGER NOT NULL, PRIMARY KEY (mailbox, message)
) WITHOUT ROWID;
CREATE INDEX places_of ON places (message);
CREATE VIRTUAL TABLE words USING fts5 (word, content='', columnsize=0, detail=none, tokenize='ascii');
INSERT INTO words (words, rank) VALUES ('hashsize', {HASH_OCTETS});
PRAGMA user_version = {VERSION};
"""  # noqa: S608  a constant

_MESSAGE: Final = "INSERT INTO messages VALUES (?,?,?,?,?,?,?)"
_WORDS: Final = "INSERT INTO words (rowid, word) VALUES (?,?)"
_MAILBOX: Final = """INSERT INTO mailboxes (account, name, mailbox, path) VALUES (?,?,?,?)
    ON CONFLICT DO UPDATE SET name = excluded.name, path = excluded.path RETURNING id"""
_PLACE: Final = "INSERT OR IGNORE INTO places VALUES (?,?)"
_OF_KEY: Final = "SELECT id FROM messages WHERE key = ?"
_KEYS: Final = "SELECT key FROM messages WHERE key > ? AND key <= ? ORDER BY key LIMIT 1000"
_SEEN: Final = """SELECT b.name, b.path FROM places p JOIN mailboxes b ON b.id = p.mailbox
    WHERE p.message = ? ORDER BY b.id LIMIT 20"""


class SearchIndex:
    """An open index. For one thread. Raises DiskFull, Locked, StorageError."""

    elsewhere: ClassVar[bool] = False
    keeps_order: ClassVar[bool] = False  # the messages are beside it

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._mailboxes: dict[tuple[bytes, bytes], int] = {}

    @classmethod
    def open(cls, path: Path, uuid: UUID) -> Self | None:
        """Open the index of an archive; None where there is none, or none that is of use."""
        if not path.exists() or any(odd(path.with_name(path.name + suffix)) for suffix in SUFFIXES):
            return None
        with explained(path):
            connection = connect(path, lasting=os.access(path.parent, os.W_OK))
            try:
                usable = connection.execute("PRAGMA user_version").fetchone() == (VERSION,) and connection.execute(
                    "SELECT uuid FROM archive"
                ).fetchone() == (uuid.bytes,)
            except sqlite3.OperationalError:
                connection.close()
                raise
            except sqlite3.DatabaseError:
                usable = False
            if not usable:
                connection.close()
                return None
            return cls(path, connection)

    @classmethod
    def make(cls, path: Path, uuid: UUID) -> Self:
        """Open the index of an archive; where there is none of use, begin a new one."""
        found = cls.open(path, uuid)
        if found is not None:
            return found
        remove(path)
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StorageError(f"cannot make the search index {path}: {error.strerror}") from error
        with explained(path):
            connection = connect(path)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(f"BEGIN; {SCHEMA}")
            connection.execute("INSERT INTO archive VALUES (?, '', 0)", (uuid.bytes,))
            with durable_step(Step.SEARCH_COMMIT):
                connection.execute("COMMIT")
            return cls(path, connection)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    # --- what is there -------------------------------------------------------------------------------------

    @property
    def mark(self) -> str:
        """Returns how far the archive was read, in its own words; "" at the beginning."""
        with explained(self.path):
            (mark,) = self._connection.execute("SELECT mark FROM archive").fetchone()
        return str(mark)

    @property
    def messages(self) -> int:
        """Returns how many messages are in the index."""
        with explained(self.path):
            (number,) = self._connection.execute("SELECT count(key) FROM messages").fetchone()
        return int(number)

    def lacking(self, keys: Sequence[bytes]) -> set[bytes]:
        """Returns those of some messages that are not in the index."""
        with explained(self.path):
            return {key for key in keys if self._connection.execute(_OF_KEY, (key,)).fetchone() is None}

    def keys(self, start: bytes = b"") -> Iterator[bytes]:
        """Every key that begins so, in pages; what is removed meanwhile may be missing."""
        last, end = start, start + b"\xff" * 300  # names of files have 255 octets at most
        while True:
            with explained(self.path):
                rows = self._connection.execute(_KEYS, (last, end)).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield from (key for (key,) in rows)

    # --- writing -------------------------------------------------------------------------------------------

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction."""
        with explained(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                with durable_step(Step.SEARCH_COMMIT):
                    self._connection.execute("COMMIT")
            except BaseException:
                self._mailboxes.clear()
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def add(self, documents: Sequence[Document]) -> int:
        """Add messages, in a transaction; returns how many were new."""
        rows = []
        for one in documents:
            if self.lacking([one.key]):
                at = seconds(one.at or EPOCH)
                number, shown = self._number(one.key, at), (one.sender[:SHOWN], one.subject[:SHOWN])
                self._connection.execute(_MESSAGE, (number, one.key, at, one.octets, one.attachments, *shown))
                rows.append((number, one.words))
            self.place(one.key, one.origins)
        self._connection.executemany(_WORDS, sorted(rows))  # in rising order FTS5 gathers them all before it writes
        return len(rows)

    def place(self, key: bytes, origins: Iterable[Origin]) -> None:
        """Note that a message was seen in mailboxes, in a transaction."""
        row = self._connection.execute(_OF_KEY, (key,)).fetchone()
        if row is not None:
            self._connection.executemany(_PLACE, [(self._mailbox(origin), row[0]) for origin in origins])

    def forget(self, key: bytes) -> None:
        """Remove a message, in a transaction."""
        row = self._connection.execute(_OF_KEY, (key,)).fetchone()
        if row is not None:
            self._connection.execute("DELETE FROM places WHERE message = ?", row)
            self._connection.execute("UPDATE messages SET key = NULL, sender = '', subject = '' WHERE id = ?", row)

    def set_mark(self, mark: str) -> None:
        """Note how far the archive was read, in a transaction."""
        self._connection.execute("UPDATE archive SET mark = ?", (mark,))

    def tidy(self) -> None:
        """Merge what was written in parts: searches get faster, and the file smaller. Takes time."""
        with self.writing():
            self._connection.execute("INSERT INTO words (words) VALUES ('optimize')")
        with explained(self.path):
            self._connection.execute("VACUUM")

    def _number(self, key: bytes, at: int) -> int:
        """Returns an id that is free."""
        taken = "SELECT 1 FROM messages WHERE id = ?"
        number = next(it for it in candidates(key, at) if not self._connection.execute(taken, (it,)).fetchone())
        if late := number - at // MINUTE_S:
            self._connection.execute("UPDATE archive SET latest = max(latest, ?)", (late,))
        return number

    def _mailbox(self, origin: Origin) -> int:
        key = origin.account.bytes, origin.mailbox
        if key not in self._mailboxes:
            row = (key[0], origin.account_name, key[1], json.dumps(origin.path))
            (self._mailboxes[key],) = self._connection.execute(_MAILBOX, row).fetchone()
        return self._mailboxes[key]

    # --- asking --------------------------------------------------------------------------------------------

    def mailboxes(self) -> dict[int, Box]:
        """Returns every mailbox by its number."""
        with explained(self.path):
            rows = self._connection.execute("SELECT id, account, name, path FROM mailboxes").fetchall()
        return {number: Box(UUID(bytes=account), name, tuple(json.loads(path))) for number, account, name, path in rows}

    def find(
        self,
        question: Question,
        limit: int,
        below: int | None = None,
        within: Collection[int] | None = None,
        without: Collection[int] = (),
    ) -> list[Hit]:
        """Returns messages that answer a question, the newest first: see `contract`."""
        with explained(self.path):
            (latest,) = self._connection.execute("SELECT latest FROM archive").fetchone()
            most = FEW_ASKED if match(question) else FEW_LISTED
            excluded = numbers(without) if without else ""
            places = Places(without=excluded)
            if within is not None:
                places = Places(numbers(within), self._are_few(numbers(within), most), excluded)
            wanted, values = statement(question, latest, below, places)
            rows = self._connection.execute(wanted, (*values, limit)).fetchall()
            return [self._hit(row) for row in rows]

    def texts(self, messages: Sequence[int]) -> dict[int, list[list[str]]]:
        """Returns nothing: the order of words is not in it."""
        del messages
        return {}

    def _are_few(self, mailboxes: str, limit: int) -> bool:
        """Tells whether mailboxes have no more messages than this: then each of them is looked at."""
        counted = f"SELECT count(*) FROM (SELECT 1 FROM places WHERE mailbox IN ({mailboxes}) LIMIT ?)"  # noqa: S608
        (number,) = self._connection.execute(counted, (limit + 1,)).fetchone()
        return bool(number <= limit)

    def _hit(self, row: tuple[Any, ...]) -> Hit:
        number, key, at, octets, attachments, sender, subject = row
        seen = self._connection.execute(_SEEN, (number,)).fetchall()
        accounts = tuple(dict.fromkeys(name for name, _ in seen if name))
        paths = tuple(dict.fromkeys(tuple(json.loads(path)) for _, path in seen))
        return Hit(number, key, EPOCH + timedelta(seconds=at), octets, attachments, sender, subject, accounts, paths)
