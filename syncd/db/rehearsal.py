"""A ledger to try things on: a dry run registers and records in a copy, which is thrown away.

The copy is SQLite, whatever the ledger is, in a file of its own in the system's temporary directory: about 150 octets
for each message of the accounts in question; no row of another account is copied. The ledger itself is read in one
transaction and never written, not even locked, and where there is none yet the copy is an empty one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from sqlalchemy import ColumnElement, Table, bindparam, false, insert, or_, select

from syncd.db.bulk import many
from syncd.db.database import FILE_NAME, Database
from syncd.db.models import (
    accounts,
    became,
    days,
    deliveries,
    errand_reports,
    errands,
    intents,
    jobs,
    leases,
    listings,
    mailboxes,
    messages,
    metadata,
    planned,
    problems,
    run_notes,
    runs,
    signin_attempts,
    tokens,
    traffic,
    uncertain_outcomes,
    users,
    web_sessions,
)
from syncd.db.states import RunState, move
from syncd.errors import storage_error

PAGE_ROWS: Final = 1000
_NOT_COPIED: Final = (days, traffic, users, web_sessions, tokens, signin_attempts, errands, errand_reports)
_INSERTS: Final = {
    table: insert(table).values({column.name: bindparam(column.name) for column in table.c})
    for table in metadata.sorted_tables  # what is referred to comes before what refers to it
}


@contextmanager
def rehearsal(ledger: Database | None, directory: Path, sources: Mapping[str, str]) -> Iterator[Database]:
    """A copy of `ledger` (an empty one for None) with all that concerns `sources`, for the length of the block.

    `sources` are accounts, name → fingerprint; `directory` is the state directory, which need not be there.
    Who writes to an archive is left out: looking on disturbs nobody. Raises LedgerError, StorageError, DiskFull.
    """
    try:
        folder = TemporaryDirectory(prefix="syncd-")
    except OSError as error:
        raise storage_error(error, "cannot make a temporary directory") from error
    with folder as path:
        temporary = directory if directory.is_dir() else Path(path)
        with Database.open(f"sqlite:///{path}/{FILE_NAME}", temporary) as copy:
            if ledger is not None:
                _copy(ledger, copy, sources)
            yield copy


def _copy(ledger: Database, copy: Database, sources: Mapping[str, str]) -> None:
    wanted = _wanted(sources)
    with copy.write() as new, ledger.session() as session, ledger.read(session) as old:
        if not ledger.is_sqlite:  # where each statement would see another state
            old.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for table, statement in _INSERTS.items():
            rows = old.execute(select(table).where(*wanted.get(table, ())), execution_options={"yield_per": PAGE_ROWS})
            for page in rows.partitions():
                many(new, statement, [tuple(row) for row in page])
        new.execute(move(runs.c.state, RunState.STOPPED))  # nobody works on the copies of open runs


def _wanted(sources: Mapping[str, str]) -> dict[Table, tuple[ColumnElement[bool], ...]]:
    """Conditions on the rows to copy, for tables that are not copied whole."""
    known = or_(accounts.c.name.in_(list(sources)), accounts.c.fingerprint.in_(list(sources.values())))
    boxes = select(mailboxes.c.id).where(mailboxes.c.account_id.in_(select(accounts.c.id).where(known)))
    ours = select(messages.c.id).where(messages.c.mailbox_id.in_(boxes))
    told = select(listings.c.run_id).where(listings.c.mailbox_id.in_(boxes))
    failed = select(problems.c.run_id).where(problems.c.message_id.in_(ours))
    uncertain = select(uncertain_outcomes.c.run_id).where(uncertain_outcomes.c.message_id.in_(ours))
    began = select(runs.c.id).join(jobs).where(jobs.c.account_id.in_(select(accounts.c.id).where(known)))
    return {
        mailboxes: (mailboxes.c.id.in_(boxes),),
        messages: (messages.c.mailbox_id.in_(boxes),),
        deliveries: (deliveries.c.message_id.in_(ours),),
        runs: (or_(*(runs.c.id.in_(some) for some in (told, failed, uncertain, began))),),
        run_notes: (false(),),
        problems: (problems.c.message_id.in_(ours),),
        uncertain_outcomes: (uncertain_outcomes.c.message_id.in_(ours),),
        intents: (intents.c.message_id.in_(ours),),
        listings: (listings.c.mailbox_id.in_(boxes),),
        planned: (planned.c.mailbox_id.in_(boxes),),
        became: (became.c.mailbox_id.in_(boxes),),
        leases: (leases.c.resource.not_like("archive:%"),),
        **{table: (false(),) for table in _NOT_COPIED},
    }
