"""The messages of mbox files, noted file by file in a scratch database of SQLite's own: memory stays flat.

A file is read once to list it, and again for each message that is fetched. Mail programs may add to a file meanwhile,
or write it anew: a message that is no longer where it was is looked for by its uid. Nobody needs to lock a file to add
to it; where it grew while it was read, its last message is left for the next time. Two messages that are equal have
one uid. Where syncd is writing to a file, it is read up to what was there before.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from syncd.errors import FormatDamaged, StorageError, storage_error
from syncd.formats.mbox import fields, locks, scan
from syncd.formats.mbox.home import JOURNAL_FILE, MboxHome
from syncd.formats.mbox.journal import read_only
from syncd.formats.mbox.quoting import Quoting, evidence
from syncd.formats.mbox.scan import Record, Window
from syncd.formats.mbox.stored import State, octets, state
from syncd.formats.regular import NotRegular, open_regular
from syncd.mail.listing import LineNumber
from syncd.mail.message import Uid

PAGE: Final = 1_000  # messages
_SCHEMA: Final = """
PRAGMA journal_mode = OFF;
CREATE TABLE records (number INTEGER PRIMARY KEY, uid BLOB, start INTEGER, body INTEGER, "end" INTEGER,
    following INTEGER, told INTEGER, bare INTEGER);
CREATE INDEX by_uid ON records (uid)
"""
_INSERT: Final = "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_ROW: Final = 'SELECT number, uid, start, body, "end", following, told, bare FROM records'
_FORGET: Final = "DELETE FROM records WHERE following = ?"
_NEXT: Final = f"{_ROW} WHERE number > ? ORDER BY number LIMIT {PAGE}"
_ONE: Final = f"{_ROW} WHERE number = ?"
_BY_UID: Final = f"{_ROW} WHERE uid = ? ORDER BY number LIMIT 1"


class Line(NamedTuple):
    """A message of a file when we looked."""

    number: LineNumber
    uid: Uid
    record: Record

    @property
    def octets(self) -> int:
        """Returns the octets that it takes in the file."""
        return self.record.end - self.record.body


class MboxFile:
    """One file, looked at when it is needed. For one thread. Raises StorageError; FormatDamaged where it is gone."""

    def __init__(self, home: MboxHome, name: str) -> None:
        self.path = home.root / name
        self._name = os.fsencode(name)
        self._journal = home.root / JOURNAL_FILE
        self._ours = home.identity is not None
        self._scratch = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._scratch.executescript(_SCHEMA)
        self._descriptor = -1
        self._window: Window | None = None
        self._quoting = Quoting.RD
        self._seen: tuple[int, int, int] | None = None  # the file when it was opened
        self._looked_at: tuple[int, int, int] | None = None  # … and when all of it was read
        self.skipped = 0  # octets before the first `From ` line
        self.openings = 0

    def close(self) -> None:
        """Let go of the file. Repeatable."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._window = None
        self._scratch.close()

    def look(self) -> None:
        """Read the file, and note the messages in it."""
        with self._reading():
            window = self._open()
            self._looked_at = self._seen
            self._scratch.execute("BEGIN")
            try:
                self._scratch.execute("DELETE FROM records")
                self._scratch.executemany(_INSERT, self._rows(window))
                if not self._ours and self._facts() != self._seen:
                    self._scratch.execute(_FORGET, (window.end,))  # it may not be whole yet
            finally:
                self._scratch.execute("COMMIT")

    def pages(self) -> Iterator[list[Line]]:
        """The noted messages in pages of PAGE, the last one shorter."""
        last = 0
        while rows := self._scratch.execute(_NEXT, (last,)).fetchall():
            page = [_line(row) for row in rows]
            last = page[-1].number
            yield page

    def totals(self) -> tuple[int, int]:
        """Returns how many messages were noted, and the octets that they take."""
        number, octets = self._scratch.execute(
            'SELECT count(*), coalesce(sum("end" - body), 0) FROM records'
        ).fetchone()
        return int(number), int(octets)

    def line(self, number: LineNumber) -> Line | None:
        """Returns a noted message."""
        row = self._scratch.execute(_ONE, (number,)).fetchone()
        return _line(row) if row else None

    def by_uid(self, uid: Uid) -> Line | None:
        """Returns the first noted message with this uid."""
        row = self._scratch.execute(_BY_UID, (uid,)).fetchone()
        return _line(row) if row else None

    def state(self, line: Line) -> State:
        """Returns flags and date of a message."""
        with self._reading():
            return state(self._opened(), line.record, ours=self._ours)

    def read(self, line: Line) -> Iterator[bytes]:
        """The octets of a message as they travel. Raises FormatDamaged where it is not in the file any more."""
        with self._reading():
            if self._facts() != self._seen:
                self._window = None  # what it has read before may not be in the file any more
            window, record = self._opened(), line.record
            if not _is_at(window, record, line.uid):
                record = self._again(line)
                window = self._opened()
            yield from octets(window, record, self._quoting, ours=self._ours)

    # --- inside --------------------------------------------------------------------------------------

    def _again(self, line: Line) -> Record:
        """Returns where a message is now. The file is read again if it was changed since we looked."""
        if self._looked_at != self._facts():
            self.look()
        moved = self.by_uid(line.uid)
        if moved is None or not _is_at(self._opened(), moved.record, line.uid):
            raise FormatDamaged(f"{self.path}: the message is not in the file any more, as another program changed it")
        return moved.record

    def _facts(self) -> tuple[int, int, int]:
        facts = self.path.stat()
        return facts.st_ino, facts.st_size, facts.st_mtime_ns

    def _open(self) -> Window:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self.openings += 1
        self._descriptor = open_regular(self.path, os.O_RDONLY)
        locks.wait_until_whole(self._descriptor, str(self.path))
        facts, end = self._whole(self._descriptor)
        self._seen = facts.st_ino, facts.st_size, facts.st_mtime_ns
        self._window = Window(self._descriptor, end)
        return self._window

    def _whole(self, descriptor: int) -> tuple[os.stat_result, int]:
        """Returns the facts of a file, and how far it is whole.

        A batch of syncd may begin and end at any time: the journal counts if the file has not grown around the look.
        """
        facts = os.fstat(descriptor)
        while self._ours:
            end = read_only(self._journal).ends.get(self._name, facts.st_size)
            before, facts = facts, os.fstat(descriptor)
            if facts.st_size == before.st_size:
                return facts, min(facts.st_size, end)
        return facts, facts.st_size

    def _opened(self) -> Window:
        return self._open() if self._window is None else self._window

    def _rows(self, window: Window) -> Iterator[tuple[int | bytes, ...]]:
        for_rd = for_o = number = 0
        self.skipped, self._quoting = max(0, window.end if (at := scan.first(window)) < 0 else at), Quoting.RD
        bare = False
        for record in scan.records(window, ours=self._ours):
            if number == 0 and not self._ours and fields.is_folder_data(scan.header(window, record)):
                continue
            if not self._ours:
                for chunk in window.chunks(record.body, record.end):
                    rd, o = evidence(chunk)
                    for_rd, for_o = for_rd + rd, for_o + o
            bare = bare or record.bare
            number += 1
            yield number, scan.uid(window, record), *record
        self._quoting = Quoting.NONE if bare else Quoting.O if for_o > for_rd else Quoting.RD

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotRegular) as error:
            raise FormatDamaged(f"{self.path} is not there any more") from error
        except OSError as error:
            raise storage_error(error, f"cannot read {self.path}") from error
        except sqlite3.Error as error:
            raise StorageError(f"cannot note the messages of {self.path} in a temporary file: {error}") from error


def _is_at(window: Window, record: Record, uid: Uid) -> bool:
    """Tells whether a message is where it was."""
    try:
        return scan.uid(window, record) == uid
    except FormatDamaged:
        return False


def _line(row: tuple[int, bytes, int, int, int, int, int, int]) -> Line:
    number, uid, start, body, end, following, told, bare = row
    return Line(LineNumber(number), Uid(uid), Record(start, body, end, following, bool(told), bool(bare)))
