"""What the configuration names and the ledger remembers: accounts, archives, jobs with their routes, mailboxes.

Identity does not hang on names, so that renaming loses nothing, and a name that suddenly means something else stops the
job before anything happens to mail:

    account    its fingerprint (protocol, host, username). A new name for a known fingerprint is a rename; a known name
               with another fingerprint raises AccountChanged until a person re-binds it.
               Its UUID follows from the fingerprint at first registration: a new machine computes the same.
               An archive that a job reads has a row here too: its protocol is "archive", its host the archive's UUID.
    archive    the UUID in a file of its own. A new name for a known UUID is a rename; a known name without its archive,
               or with another one in its place, raises ArchiveMissing until a person has it filled again.
    job        its name. Destinations keep their slot for good; those no longer named are disabled, not forgotten. What
               was sent to a mail server is not sent again because the job is called otherwise, see `routing`.

Each method is one transaction and does nothing when nothing changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import count
from typing import Any, Final
from uuid import UUID, uuid5

from sqlalchemy import ColumnElement, Connection, Row, Table, Text, and_, cast, func, insert, select, update

from syncd import clock
from syncd.db import changed, routing
from syncd.db.database import Database
from syncd.db.instants import to_microseconds
from syncd.db.models import accounts, archives, jobs, mailboxes, messages, routes
from syncd.db.routing import DestinationSpec
from syncd.db.rows import AccountRow, ArchiveRow, JobRow, MailboxRow, RouteRow
from syncd.errors import AccountChanged, ArchiveMissing

_NAMESPACE: Final = UUID("5f0b3c1e-8f0d-5a7e-9c59-2d1f6f7b6a10")  # of account UUIDs; never changes


def fingerprint(protocol: str, host: str, username: str) -> str:
    """What an account is, as one line: the user name comes last, as it alone may hold spaces. The port is not part."""
    return f"{protocol} {host.lower().rstrip('.')} {username}"


class Catalog:
    """Registers what the configuration names."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- accounts --------------------------------------------------------------------------------------

    def account(self, name: str, protocol: str, host: str, username: str, *, rebind: bool = False) -> AccountRow:
        """Register or find an account. Raises AccountChanged, unless a person said `rebind`.

        An account that never showed a message may change freely: its first configuration had a typing error.
        """
        mark = fingerprint(protocol, host, username)
        identity = {"protocol": protocol, "host": host, "username": username, "fingerprint": mark}
        with self._database.write() as connection:
            named = connection.execute(select(accounts).where(accounts.c.name == name)).first()
            same = connection.execute(select(accounts).where(accounts.c.fingerprint == mark)).first()
            unused = named is not None and not _has_messages(connection, named.id)
            if named and named.fingerprint != mark and not rebind and not unused:
                raise AccountChanged(changed.account(named, identity))
            if same:
                _rename(connection, accounts, same, name)
            elif named and not unused:
                _set(connection, accounts, named.id, identity)
            elif named:
                _set(connection, accounts, named.id, {"uuid": _account_uuid(connection, mark).bytes, **identity})
            else:
                values = {"name": name, "uuid": _account_uuid(connection, mark).bytes, **identity}
                connection.execute(insert(accounts).values(values))
            return _account(connection, accounts.c.fingerprint == mark)

    def find_account(self, name: str) -> AccountRow | None:
        """The account of this name, if there is one."""
        with self._database.read() as connection:
            known = connection.execute(select(accounts.c.id).where(accounts.c.name == name)).first()
            return _account(connection, accounts.c.id == known.id) if known else None

    # --- archives --------------------------------------------------------------------------------------

    def archive(
        self,
        name: str,
        path: str,
        kind: str,
        found: UUID | None,
        *,
        refill: bool = False,
    ) -> ArchiveRow | None:
        """Register or find an archive; `kind` is its format, `found` the UUID at `path`, None if there is no archive.

        None means: make one there, and register it by calling again. Raises ArchiveMissing when the ledger knows
        another one by this name, unless a person said `refill`: then what stands at `path` takes its place, and
        everything delivered to it is pending again, in the same transaction.
        """
        facts = {"path": path, "format": kind}
        with self._database.write() as connection:
            named = connection.execute(select(archives).where(archives.c.name == name)).first()
            if named and (found is None or named.uuid != found.bytes) and not refill:
                raise ArchiveMissing(changed.archive(name, path, UUID(bytes=named.uuid), found))
            if found is None:
                return None
            same = connection.execute(select(archives).where(archives.c.uuid == found.bytes)).first()
            if same:
                _rename(connection, archives, same, name)
                _set(connection, archives, same.id, facts, same)
            elif named:
                changed.refill(connection, named)
                _set(connection, archives, named.id, {"uuid": found.bytes, **facts})
            else:
                connection.execute(insert(archives).values(name=name, uuid=found.bytes, **facts))
            return _archive(connection, archives.c.uuid == found.bytes)

    def refill(self, archive: ArchiveRow) -> None:
        """An archive is to be filled with what it lacks, for each of its jobs. For the holder of its lease."""
        with self._database.write() as connection:
            changed.reset(connection, archive.id)

    def find_archive(self, name: str) -> ArchiveRow | None:
        """The archive of this name, if there is one."""
        with self._database.read() as connection:
            known = connection.execute(select(archives.c.id).where(archives.c.name == name)).first()
            return _archive(connection, archives.c.id == known.id) if known else None

    # --- jobs ------------------------------------------------------------------------------------------

    def job(
        self,
        name: str,
        account_id: int,
        destinations: Sequence[DestinationSpec],
        *,
        removes: bool,
        configuration: str = "",
    ) -> JobRow:
        """Register or update a job. With another source account its confirmation to remove mail is void.

        `configuration` is the path of the file that names it, see `retire`.
        """
        facts: dict[str, object] = {
            "account_id": account_id,
            "removes": removes,
            "enabled": True,
            "configuration": configuration,
        }
        with self._database.write() as connection:
            known = connection.execute(select(jobs).where(jobs.c.name == name)).first()
            if known is None:
                connection.execute(insert(jobs).values(name=name, **facts))
            else:
                void = {"removal_confirmed_at": None} if known.account_id != account_id else {}
                _set(connection, jobs, known.id, {**facts, **void}, known)
            job = connection.execute(select(jobs).where(jobs.c.name == name)).one()
            routing.agree(connection, job, destinations)
            return _job(connection, job.id)

    def find_job(self, name: str) -> JobRow | None:
        """The job of this name, if there is one."""
        with self._database.read() as connection:
            known = connection.execute(select(jobs.c.id).where(jobs.c.name == name)).first()
            return _job(connection, known.id) if known else None

    def retire(
        self, live: Mapping[str, Collection[tuple[str, str]]], is_ours: Callable[[str], bool] = lambda _: True
    ) -> None:
        """Disable the jobs that are not in `live`, which no longer hold back removals, and routes that none names.

        `live` is job → (fingerprint, recipient) of the mail servers that it delivers to; `is_ours` says whether it
        speaks for the jobs of a configuration file. See `routing.retire`.
        """
        with self._database.write() as connection:
            routing.retire(connection, live, is_ours)

    def destinations(self) -> dict[str, set[str]]:
        """Every job that was ever registered → names and recipients of all destinations that it ever had."""
        found: dict[str, set[str]] = {}
        with self._database.read() as connection:
            known = connection.execute(
                select(jobs.c.name, func.coalesce(archives.c.name, accounts.c.name), routes.c.target)
                .outerjoin(routes, routes.c.job_id == jobs.c.id)
                .outerjoin(archives, archives.c.id == routes.c.archive_id)
                .outerjoin(accounts, accounts.c.id == routes.c.account_id)
                .order_by(jobs.c.id)
            )
            for job, *words in known:
                found.setdefault(job, set()).update(filter(None, words))
        return found

    def confirm_removal(self, job_id: int) -> None:
        """Note that a person confirmed that this job removes mail at its source."""
        with self._database.write() as connection:
            _set(connection, jobs, job_id, {"removal_confirmed_at": to_microseconds(clock.now())})

    # --- mailboxes -------------------------------------------------------------------------------------

    def mailbox(self, account_id: int, name: bytes, epoch: int = 1) -> MailboxRow:
        """Register or find a mailbox; `epoch` is that of a new one, a known one keeps its own."""
        here = and_(mailboxes.c.account_id == account_id, mailboxes.c.name == name)
        with self._database.write() as connection:
            row = connection.execute(select(mailboxes.c.id, mailboxes.c.epoch).where(here)).first()
            if row is None:
                connection.execute(insert(mailboxes).values(account_id=account_id, name=name, epoch=epoch))
                row = connection.execute(select(mailboxes.c.id, mailboxes.c.epoch).where(here)).one()
            return MailboxRow(row.id, row.epoch)


# --- rows ----------------------------------------------------------------------------------------------


def _set(
    connection: Connection, table: Table, row_id: int, values: Mapping[str, object], known: Row[Any] | None = None
) -> None:
    """Write `values`, unless the `known` row has them already."""
    if known is None or any(getattr(known, column) != value for column, value in values.items()):
        connection.execute(update(table).where(table.c.id == row_id).values(values))


def _rename(connection: Connection, table: Table, row: Row[Any], name: str) -> None:
    """Give a row its new name. Whoever has that name is set aside: what it stood for is called otherwise now."""
    if row.name == name:
        return
    aside = table.c.name + "~" + cast(table.c.id, Text)
    connection.execute(update(table).where(table.c.name == name).values(name=aside))
    _set(connection, table, row.id, {"name": name})


def _account_uuid(connection: Connection, mark: str) -> UUID:
    """uuid5 of the fingerprint; numbered in the rare case that an account was re-bound away from this fingerprint."""
    for number in count(1):
        uuid = uuid5(_NAMESPACE, mark if number == 1 else f"{mark}\n{number}")
        if connection.execute(select(accounts.c.id).where(accounts.c.uuid == uuid.bytes)).first() is None:
            return uuid
    raise AssertionError


def _has_messages(connection: Connection, account_id: int) -> bool:
    query = select(messages.c.id).join(mailboxes).where(mailboxes.c.account_id == account_id).limit(1)
    return connection.execute(query).first() is not None


def _account(connection: Connection, which: ColumnElement[bool]) -> AccountRow:
    row = connection.execute(select(accounts).where(which)).one()
    return AccountRow(row.id, UUID(bytes=row.uuid), row.name, row.fingerprint, row.frozen_reason)


def _archive(connection: Connection, which: ColumnElement[bool]) -> ArchiveRow:
    row = connection.execute(select(archives).where(which)).one()
    return ArchiveRow(row.id, UUID(bytes=row.uuid), row.name, row.path, row.format)


def _job(connection: Connection, job_id: int) -> JobRow:
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).one()
    found = connection.execute(
        select(routes, func.coalesce(archives.c.name, accounts.c.name).label("name"))
        .outerjoin(archives, archives.c.id == routes.c.archive_id)
        .outerjoin(accounts, accounts.c.id == routes.c.account_id)
        .where(routes.c.job_id == job_id, routes.c.enabled)
        .order_by(routes.c.slot)
    )
    enabled = tuple(
        RouteRow(r.id, r.slot, r.name, r.kind, r.enabled, r.archive_id, r.account_id, r.target) for r in found
    )
    confirmed = row.removal_confirmed_at is not None
    return JobRow(row.id, row.name, row.account_id, row.removes, confirmed, enabled)
