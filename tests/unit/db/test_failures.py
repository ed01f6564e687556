from __future__ import annotations

import errno
import os
import sqlite3

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from syncd.db.failures import explain
from syncd.errors import Conflict, DiskFull, LedgerError, LedgerUnusable, Locked, Retry, SyncdError

PLACE = "/state/ledger.sqlite"

READ_ONLY = (
    "cannot open or write the ledger /state/ledger.sqlite: attempt to write a readonly database;"
    " check its owner, mode and mount"
)
DAMAGED = (
    "the ledger /state/ledger.sqlite is damaged (database disk image is malformed): move it and its -wal and -shm"
    " files away and run again; a new ledger is filled from what the archives hold."
    " A copy put back does not know what was sent since"
)
MET = (
    "the ledger /state/ledger.sqlite: another process wrote the same at once (UNIQUE constraint failed: jobs.name);"
    " run again"
)


def sqlite_error(code: int, text: str) -> DBAPIError:
    cause = sqlite3.OperationalError(text)
    cause.sqlite_errorcode = code  # as the driver sets it
    return OperationalError("SELECT secret", None, cause)


class PostgresqlError(Exception):
    def __init__(self, text: str, sqlstate: str | None) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate


CASES: list[tuple[DBAPIError, type[SyncdError], str]] = [
    (
        sqlite_error(sqlite3.SQLITE_BUSY, "database is locked"),
        Locked,
        "the ledger /state/ledger.sqlite is in use by another process that does not let go; run again later",
    ),
    (
        sqlite_error(sqlite3.SQLITE_BUSY_SNAPSHOT, "database is locked"),
        Locked,
        "the ledger /state/ledger.sqlite is in use by another process that does not let go; run again later",
    ),
    (
        sqlite_error(sqlite3.SQLITE_FULL, "database or disk is full"),
        DiskFull,
        "cannot write the ledger /state/ledger.sqlite: the disk is full; free some space and run again",
    ),
    (
        sqlite_error(sqlite3.SQLITE_IOERR_FSYNC, "disk I/O error"),
        LedgerError,
        "cannot read or write the ledger /state/ledger.sqlite: disk I/O error; check the disk and its free space",
    ),
    (
        sqlite_error(sqlite3.SQLITE_READONLY, "attempt to write a readonly database"),
        LedgerUnusable,
        READ_ONLY,
    ),
    (
        sqlite_error(sqlite3.SQLITE_CORRUPT_INDEX, "database disk image is malformed"),
        LedgerUnusable,
        DAMAGED,
    ),
    (
        sqlite_error(sqlite3.SQLITE_ERROR, "no such table: x"),
        LedgerUnusable,
        "the ledger /state/ledger.sqlite: no such table: x",
    ),
    (
        OperationalError("x", None, PostgresqlError("could not extend file", "53100")),
        DiskFull,
        "cannot write the ledger /state/ledger.sqlite: the database's disk is full; free some space and run again",
    ),
    (
        OperationalError("x", None, PostgresqlError("canceling statement due to lock timeout", "55P03")),
        Locked,
        "the ledger /state/ledger.sqlite is in use by another process that does not let go; run again later",
    ),
    (
        OperationalError("x", None, PostgresqlError("deadlock detected\nDETAIL: …", "40P01")),
        Conflict,
        "the ledger /state/ledger.sqlite: two writers met (deadlock detected DETAIL: …); run again",
    ),
    (
        OperationalError("x", None, PostgresqlError("connection refused", None)),
        LedgerError,
        "the ledger /state/ledger.sqlite: connection refused",
    ),
    (
        OperationalError("x", None, PostgresqlError('password authentication failed for user "me"', "28P01")),
        LedgerUnusable,
        (
            'the ledger /state/ledger.sqlite is closed to us: password authentication failed for user "me";'
            " check user, password and name"
        ),
    ),
    (
        IntegrityError("x", None, sqlite3.IntegrityError("UNIQUE constraint failed: jobs.name")),
        Conflict,
        MET,
    ),
]


@pytest.mark.parametrize(("error", "kind", "line"), CASES)
def test_one_line_that_says_what_to_do(error: DBAPIError, kind: type[SyncdError], line: str) -> None:
    explained = explain(error, PLACE)
    assert type(explained) is kind
    assert str(explained) == line
    assert explained.retry is (Retry.NEVER if kind is LedgerUnusable else Retry.LATER)  # can waiting mend it?


def test_a_ledger_that_cannot_be_opened_because_too_many_files_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite tells it as any other failure to open a file, and owner and mode are not to blame."""

    def fail(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    cause = sqlite3.OperationalError("unable to open database file")
    cause.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
    monkeypatch.setattr(os, "open", fail)
    explained = explain(OperationalError("x", None, cause), PLACE)
    assert type(explained) is LedgerUnusable
    assert str(explained).endswith("too many open files; allow more (ulimit -n)")
