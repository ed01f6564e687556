"""Driver errors → our errors: one line each, naming the database and what to do.

SQLite reports by extended result code (https://sqlite.org/rescode.html; its low octet is the primary code), PostgreSQL
by SQLSTATE (its appendix A). An IntegrityError here means that two writers met: our own statements never break a
constraint alone.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from typing import Final

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from syncd.errors import Conflict, DiskFull, LedgerError, LedgerUnusable, Locked, SyncdError, printable

_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_CLOSED: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH})
_DISK_FULL_STATES: Final = frozenset({"53100"})
_LOCKED_STATES: Final = frozenset({"55P03"})
_CLOSED_STATES: Final = ("28", "3D", "42501")  # no such user or password, no such database, no permission
_CONFLICT_STATES: Final = frozenset({"40001", "40P01"})  # serialization failure, deadlock


def damaged(place: str, reason: str) -> LedgerUnusable:
    """Returns the error for a ledger that cannot be read, with what to do."""
    return LedgerUnusable(
        f"the ledger {place} is damaged ({printable(reason)}): move it and its -wal and -shm files away and run again;"
        " a new ledger is filled from what the archives hold. A copy put back does not know what was sent since"
    )


def explain(error: SQLAlchemyError, place: str) -> SyncdError:
    """Our error for one of SQLAlchemy's. `place` names the database, without credentials."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    reason = " ".join(str(cause or error).split())
    if isinstance(error, IntegrityError):
        return Conflict(f"the ledger {place}: another process wrote the same at once ({printable(reason)}); run again")
    if isinstance(cause, sqlite3.Error):
        return _explain_sqlite(getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR), reason, place)
    return _explain_sqlstate(getattr(cause, "sqlstate", None), reason, place)


def _explain_sqlite(code: int, reason: str, place: str) -> SyncdError:
    primary = code & 0xFF
    if primary in _DAMAGED:
        return damaged(place, reason)
    if primary in _BUSY:
        return Locked(f"the ledger {place} is in use by another process that does not let go; run again later")
    if primary == sqlite3.SQLITE_FULL:
        return DiskFull(f"cannot write the ledger {place}: the disk is full; free some space and run again")
    if primary == sqlite3.SQLITE_CANTOPEN and _no_files_left():
        return LedgerUnusable(f"cannot open the ledger {place}: too many open files; allow more (ulimit -n)")
    if primary in _CLOSED:
        return LedgerUnusable(f"cannot open or write the ledger {place}: {reason}; check its owner, mode and mount")
    if primary == sqlite3.SQLITE_IOERR:
        return LedgerError(f"cannot read or write the ledger {place}: {reason}; check the disk and its free space")
    return LedgerUnusable(f"the ledger {place}: {printable(reason)}")


def _no_files_left() -> bool:
    """Returns whether this process cannot open a file now, which SQLite tells as any other failure to open one."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in {errno.EMFILE, errno.ENFILE}
    return False


def _explain_sqlstate(state: str | None, reason: str, place: str) -> SyncdError:
    if state in _DISK_FULL_STATES:
        return DiskFull(f"cannot write the ledger {place}: the database's disk is full; free some space and run again")
    if state in _LOCKED_STATES:
        return Locked(f"the ledger {place} is in use by another process that does not let go; run again later")
    if state in _CONFLICT_STATES:
        return Conflict(f"the ledger {place}: two writers met ({printable(reason)}); run again")
    if state is not None and state.startswith(_CLOSED_STATES):
        return LedgerUnusable(f"the ledger {place} is closed to us: {printable(reason)}; check user, password and name")
    return LedgerError(f"the ledger {place}: {printable(reason)}")
