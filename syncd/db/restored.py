"""An older copy of the ledger that was put back: what has happened since it was made is not in it.

The number of the newest run is in a file beside the ledger, too. If that is a later run than the ledger knows, its
listings are forgotten, so that archives are asked again and what may have been sent since waits for a person (see
`ledger.seeding`), and removals are frozen. IMAP mailboxes tell what they have got since: as long as a removal is frozen
for this reason, messages that are there are recognised before they are sent. A ledger without a run is a new one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, delete, func, select

from syncd.db.database import Database
from syncd.db.ledger.mailboxes import freeze
from syncd.db.models import listings, mailboxes, planned, runs
from syncd.db.rows import Freeze
from syncd.errors import storage_error

FILE: Final = "newest-run"  # in the state directory
REASON: Final = "an older copy of the ledger was put back, what was done since is not in it"


def recognise(database: Database, directory: Path) -> bool:
    """Returns whether the ledger was put back; if so, its listings are forgotten and removals frozen, once."""
    with database.read() as connection:
        newest = _newest(connection)
    if not 0 < newest < _noted(directory):
        return False
    with database.write() as connection:
        connection.execute(delete(planned))
        connection.execute(delete(listings))
        for mailbox_id in connection.execute(select(mailboxes.c.id)).scalars().all():
            freeze(connection, mailbox_id, Freeze.RESTORED, REASON)
    note(directory, newest)
    return True


def is_put_back(database: Database) -> bool:
    """Returns whether a mailbox is frozen because an older copy was put back."""
    with database.read() as connection:
        found = select(mailboxes.c.id).where(mailboxes.c.frozen_why == Freeze.RESTORED).limit(1)
        return connection.execute(found).first() is not None


def note(directory: Path, run_id: int) -> None:
    """This run has begun. Raises StorageError."""
    try:
        (directory / FILE).write_text(f"{run_id}\n")
    except OSError as error:
        raise storage_error(error, f"cannot write {directory / FILE}") from error


def _newest(connection: Connection) -> int:
    return int(connection.execute(select(func.coalesce(func.max(runs.c.id), 0))).scalar_one())


def _noted(directory: Path) -> int:
    """Returns the number in the file; 0 if there is no such file, or no sensible number in it."""
    try:
        text = (directory / FILE).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return 0
    return int(text) if text.isdecimal() and len(text) < 19 else 0
