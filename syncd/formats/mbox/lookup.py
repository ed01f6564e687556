"""Reading back messages that syncd stored in mbox files, wherever a mail program has moved them in their file.

The receipt's hint is the file and the stem of the message's identity. The journal tells where the message was; if it is
not there, every message of the file is read once, and found by the SHA-256 of its octets.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from syncd.errors import FormatDamaged, storage_error
from syncd.formats.mbox import scan
from syncd.formats.mbox.home import JOURNAL_FILE, MboxHome
from syncd.formats.mbox.journal import Known
from syncd.formats.mbox.quoting import Quoting
from syncd.formats.mbox.scan import Record, Window
from syncd.formats.mbox.stored import octets, state
from syncd.formats.regular import NotRegular, check_regular, open_regular
from syncd.mail.body import Body, BodyWriter
from syncd.mail.message import Receipt, StoredMessage

_SCHEMA: Final = "PRAGMA journal_mode = OFF; CREATE TABLE found (sha256 BLOB PRIMARY KEY, start INTEGER) WITHOUT ROWID"
ONE_OCTETS: Final = 128 << 10  # read at a time for one message: most have less
_KNOWN: Final = "SELECT file, start, sha256, since FROM messages WHERE stem = ?"


def hint_of(file: str, stem: str) -> str:
    """Returns the hint of a receipt."""
    return f"{file}/{stem}"


class Lookup:
    """Reads messages of an archive. For one thread."""

    def __init__(self, home: MboxHome) -> None:
        self._home = home
        self._by_octets: tuple[str, tuple[int, int, int], sqlite3.Connection] | None = None  # of one file, when needed

    def close(self) -> None:
        """Let go of what was noted. Repeatable."""
        if self._by_octets is not None:
            self._by_octets[2].close()
            self._by_octets = None

    def read(self, receipt: Receipt, spool: Path) -> StoredMessage:
        """Returns a message; a large one goes to a file in `spool`. Raises FormatDamaged, StorageError."""
        name, _, stem = receipt.hint.rpartition("/")
        try:
            with ExitStack() as stack:
                descriptor = open_regular(self._home.root / name, os.O_RDONLY)
                stack.callback(os.close, descriptor)
                window = Window(descriptor, os.fstat(descriptor).st_size, ONE_OCTETS)
                known = self._known(stem)
                body = None
                start = -1 if known is None else known.start
                if start >= 0:
                    body = _body(window, start, receipt.sha256, spool)
                if body is None:
                    start = self._start(name, window, descriptor, receipt.sha256)
                    body = None if start < 0 else _body(window, start, receipt.sha256, spool)
                if body is None:
                    raise FormatDamaged(f"{self._home.root / name} does not hold the message {stem} any more")
                record = _record(window, start)
                assert record is not None
                flags, date = state(window, record, ours=True)
                return StoredMessage(body, flags, date)
        except (FileNotFoundError, NotADirectoryError, NotRegular) as error:
            raise FormatDamaged(
                f"{self._home.root / name}, where a message was stored, is not there any more"
            ) from error
        except OSError as error:
            raise storage_error(error, f"cannot read {self._home.root / name}") from error

    def find(self, name: str, window: Window, descriptor: int, sha256: bytes, start: int = -1) -> int:
        """Returns where a message with these octets is in an open file, perhaps at `start`; -1 where it is not."""
        if start >= 0 and _digest(window, start) == sha256:
            return start
        return self._start(name, window, descriptor, sha256)

    def _start(self, name: str, window: Window, descriptor: int, sha256: bytes) -> int:
        facts = os.fstat(descriptor)
        seen = facts.st_ino, facts.st_size, facts.st_mtime_ns
        if self._by_octets is None or self._by_octets[:2] != (name, seen):
            self.close()
            scratch = sqlite3.connect("", isolation_level=None)
            scratch.executescript(_SCHEMA)
            self._by_octets = name, seen, scratch
            scratch.execute("BEGIN")
            for record in scan.records(window, ours=True):
                with suppress(FormatDamaged):
                    row = _digest(window, record.start), record.start
                    scratch.execute("INSERT OR IGNORE INTO found VALUES (?, ?)", row)
            scratch.execute("COMMIT")
        row = self._by_octets[2].execute("SELECT start FROM found WHERE sha256 = ?", (sha256,)).fetchone()
        return -1 if row is None else int(row[0])

    def _known(self, stem: str) -> Known | None:
        path = self._home.root / JOURNAL_FILE
        with suppress(sqlite3.Error, OSError):
            check_regular(path)
            connection = sqlite3.connect(path, timeout=10)
            try:
                row = connection.execute(_KNOWN, (stem,)).fetchone()
                return None if row is None else Known(*row)
            finally:
                connection.close()
        return None


def _record(window: Window, start: int) -> Record | None:
    return scan.record_at(window, start, ours=True) if start < window.end else None


def _digest(window: Window, start: int) -> bytes:
    from hashlib import sha256

    record, digest = _record(window, start), sha256()
    if record is None:
        return b""
    for chunk in octets(window, record, Quoting.RD, ours=True):
        digest.update(chunk)
    return digest.digest()


def _body(window: Window, start: int, sha256: bytes, spool: Path) -> Body | None:
    """Returns the message at an offset, None where there is another one or none."""
    record = _record(window, start)
    if record is None:
        return None
    writer = BodyWriter(spool)
    try:
        for chunk in octets(window, record, Quoting.RD, ours=True):
            writer.write(chunk)
        body = writer.finish()
    except BaseException:
        writer.discard()
        raise
    if body.sha256 == sha256:
        return body
    body.close()
    return None
