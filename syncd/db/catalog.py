"""The catalog has what the configuration names and the ledger remembers: accounts, archives, jobs with their routes.

Identity does not hang on names, so that renaming loses nothing, and a name that suddenly means something else stops the
job before anything happens to mail:

    account    its fingerprint (protocol, host, port, username), see `fingerprints`. A new name for a known fingerprint
               is a rename; a known name with another fingerprint raises AccountChanged until a person re-binds it.
               Its UUID follows from the fingerprint at first registration: a new machine computes the same.
               An archive that a job reads has a row here too: its protocol is "archive", its host the archive's UUID.
    archive    the UUID in a file of its own. A new name for a known UUID is a rename; a known name without its archive,
               or with another one in its place, raises ArchiveMissing until a person has it filled again. An archive
               that is not on disk yet gets its UUID here; the first run that delivers to it makes it.
    job        its name. Destinations keep their slot for good; those no longer named are disabled, not forgotten. Mail
               that was sent to a mail server is not sent again because its job has another name, see `routing`.

Names belong to a configuration, see `names`.
Each method is one transaction. Where nothing changed it is a read, which waits for no writer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, Final
from uuid import UUID, uuid4, uuid5

from sqlalchemy import ColumnElement, Connection, Row, Table, bindparam, func, insert, select, update

from syncd import clock
from syncd.db import names, routing
from syncd.db.database import Database
from syncd.db.fingerprints import ARCHIVE, fingerprint
from syncd.db.instants import to_microseconds
from syncd.db.ledger.archives import refilled, reset
from syncd.db.models import accounts, archives, jobs, mailboxes, messages, routes
from syncd.db.names import Kind, Owner, Shared, called
from syncd.db.routing import DestinationSpec
from syncd.db.rows import AccountRow, ArchiveRow, JobRow, RouteRow
from syncd.errors import AccountChanged, ArchiveMissing
from syncd.mail.outcome import Repeat

_NAMESPACE: Final = UUID("5f0b3c1e-8f0d-5a7e-9c59-2d1f6f7b6a10")  # of account UUIDs; never changes

_REGISTRATION_LOCK: Final = 0x6E616D6573  # "names": key of PostgreSQL's advisory lock

ANYBODY: Final = Owner()
_DESTINATION: Final = func.coalesce(  # of a route, as its job's configuration calls it
    called("archive", routes.c.archive_id, jobs.c.configuration),
    called("account", routes.c.account_id, jobs.c.configuration),
    archives.c.name,
    accounts.c.name,
)


_CALLED: Final = (  # jobs of a name, the owner's first
    select(jobs)
    .where(jobs.c.name == bindparam("called"))
    .order_by(jobs.c.configuration != bindparam("owner"), jobs.c.id)
)
_ROUTES: Final = (  # of a job, with what its configuration calls their destinations
    select(routes, _DESTINATION.label("name"))
    .join(jobs, jobs.c.id == routes.c.job_id)
    .outerjoin(archives, archives.c.id == routes.c.archive_id)
    .outerjoin(accounts, accounts.c.id == routes.c.account_id)
    .where(routes.c.job_id == bindparam("job"), routes.c.enabled)
    .order_by(routes.c.slot)
)


@contextmanager
def registering(database: Database) -> Iterator[Connection]:
    """A write transaction in which nobody else registers anything: many jobs that share an archive may begin at once.

    SQLite has one writer at a time anyway. On PostgreSQL each would not see what the others have not committed yet.
    """
    with database.write() as connection:
        if not database.is_sqlite:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_REGISTRATION_LOCK})")
        yield connection


class Catalog:
    """Registers what the configuration names."""

    def __init__(self, database: Database, owner: Owner = ANYBODY) -> None:
        """`owner` is the configuration that names them."""
        self._database = database
        self._owner = owner

    # --- accounts --------------------------------------------------------------------------------------

    def account(self, name: str, protocol: str, host: str, username: str, *, rebind: bool = False) -> AccountRow:
        """Register or find an account. Raises AccountChanged, unless a person said `rebind`.

        An account that never showed a message may change freely: its first configuration had a typing error.
        """
        mark = fingerprint(protocol, host, username)
        identity = {"protocol": protocol, "host": host, "username": username, "fingerprint": mark}
        with self._database.read() as connection:
            found = names.find(connection, self._owner, "account", name)
            known = _account(connection, accounts.c.id == found.target, name) if found else None
            if found and known and (found.configuration, known.fingerprint) == (self._owner.name, mark):
                return known
        with registering(self._database) as connection:
            found = names.find(connection, self._owner, "account", name)
            named = found and connection.execute(select(accounts).where(accounts.c.id == found.target)).one()
            same = connection.execute(select(accounts).where(accounts.c.fingerprint == mark)).first()
            unused = named is not None and not _has_messages(connection, named.id)
            if named and named.fingerprint != mark and not rebind and not unused:
                raise AccountChanged(_account_changed(named, identity))
            if not same and named and not unused:
                _set(connection, accounts, named.id, identity)
            elif not same and named:
                _set(connection, accounts, named.id, {"uuid": account_uuid(connection, mark).bytes, **identity})
            elif not same:
                values = {"name": name, "uuid": account_uuid(connection, mark).bytes, **identity}
                connection.execute(insert(accounts).values(values))
            row = connection.execute(select(accounts).where(accounts.c.fingerprint == mark)).one()
            self._name(connection, accounts, "account", row, name)
            return _account(connection, accounts.c.id == row.id, name)

    def find_account(self, name: str) -> AccountRow | None:
        """The account of this name, if there is one."""
        with self._database.read() as connection:
            found = names.find(connection, self._owner, "account", name)
            return _account(connection, accounts.c.id == found.target, name) if found else None

    # --- archives --------------------------------------------------------------------------------------

    def archive(self, name: str, path: str, kind: str, found: UUID | None, *, refill: bool = False) -> ArchiveRow:
        """Register or find an archive; `kind` is its format, `found` the UUID at `path`, None if there is no archive.

        Raises ArchiveMissing when the ledger knows an archive of this name that was made and is not at `path`, unless a
        person said `refill`: then another one takes its place, and everything delivered to it is pending again, in
        the same transaction.
        """
        facts = {"path": path, "format": kind}
        with self._database.read() as connection:
            was = names.find(connection, self._owner, "archive", name)
            known = _archive(connection, archives.c.id == was.target, name) if was else None
            if was is not None and known is not None and was.configuration == self._owner.name:
                same_uuid = found or known.uuid
                if known == ArchiveRow(known.id, same_uuid, name, path, kind, made=found is not None):
                    return known
        with registering(self._database) as connection:
            was = names.find(connection, self._owner, "archive", name)
            named = was and connection.execute(select(archives).where(archives.c.id == was.target)).one()
            gone = named is not None and named.made and (found is None or named.uuid != found.bytes)
            if named is not None and gone and not refill:
                raise ArchiveMissing(_archive_missing(connection, name, path, UUID(bytes=named.uuid), found))
            if gone and named is not None and self._used_elsewhere(connection, named.id):
                named, gone = None, False  # the others keep it: this configuration gets an archive of its own
            same = found and connection.execute(select(archives).where(archives.c.uuid == found.bytes)).first()
            added: Any = None  # an INSERT
            if same:
                _set(connection, archives, same.id, {**facts, "made": True}, same)
            elif named is not None and (gone or found is not None):
                if gone:
                    refilled(connection, named)
                new = {"uuid": (found or uuid4()).bytes, "made": found is not None}
                _set(connection, archives, named.id, {**facts, **new})
            elif named is not None:
                _set(connection, archives, named.id, facts, named)
            else:
                new = {"uuid": (found or uuid4()).bytes, "made": found is not None}
                added = insert(archives).values(name=name, **facts, **new).returning(archives)
            row = same or named or connection.execute(added).one()
            self._name(connection, archives, "archive", row, name)
            return _archive(connection, archives.c.id == row.id, name)

    def archive_made(self, archive_id: int) -> None:
        """The archive exists on disk now."""
        with self._database.write() as connection:
            _set(connection, archives, archive_id, {"made": True})

    def refill(self, archive: ArchiveRow) -> None:
        """An archive is to be filled with what it lacks, for each of its jobs. For the owner of its lease."""
        with self._database.write() as connection:
            reset(connection, archive.id)

    def find_archive(self, name: str) -> ArchiveRow | None:
        """The archive of this name, if there is one."""
        with self._database.read() as connection:
            found = names.find(connection, self._owner, "archive", name)
            return _archive(connection, archives.c.id == found.target, name) if found else None

    def shared(self) -> list[Shared]:
        """Returns the accounts and archives that other configurations use as well."""
        with self._database.read() as connection:
            return names.shared(connection, self._owner)

    def _used_elsewhere(self, connection: Connection, archive_id: int) -> bool:
        users = names.users(connection, "archive", archive_id)
        return any(user != self._owner.name and not self._owner.speaks_for(user) for user, _ in users)

    def _name(self, connection: Connection, table: Table, kind: Kind, row: Row[Any], name: str) -> None:
        """Give a row its name in this configuration."""
        names.give(connection, self._owner, kind, row.id, name)
        if row.name != name:
            _set(connection, table, row.id, {"name": name})

    # --- jobs ------------------------------------------------------------------------------------------

    def job(
        self,
        name: str,
        account_id: int,
        destinations: Sequence[DestinationSpec],
        *,
        removes: bool,
        configuration: str | None = None,
    ) -> JobRow:
        """Register or update a job. With another source account its confirmation to remove mail is void.

        `configuration` is the one that names it, by default the owner; see `retire`.
        """
        facts: dict[str, object] = {
            "account_id": account_id,
            "removes": removes,
            "enabled": True,
            "configuration": self._owner.name if configuration is None else configuration,
        }
        with self._database.read() as connection:
            same = select(jobs).where(jobs.c.name == name, *(jobs.c[fact] == value for fact, value in facts.items()))
            row = connection.execute(same).first()
            if row is not None and routing.agrees(connection, row, destinations):
                return _job(connection, row.id)
        with registering(self._database) as connection:
            known = self._find_job(connection, name)
            if known is None:
                connection.execute(insert(jobs).values(name=name, **facts))
            else:
                void = {"removal_confirmed_at": None} if known.account_id != account_id else {}
                if not known.enabled:
                    routing.forget_planned(connection, routes.c.job_id == known.id)
                _set(connection, jobs, known.id, {**facts, **void}, known)
            mine = jobs.c.name == name, jobs.c.configuration == facts["configuration"]
            job = connection.execute(select(jobs).where(*mine)).one()
            routing.agree(connection, job, destinations)
            return _job(connection, job.id)

    def find_job(self, name: str) -> JobRow | None:
        """The job of this name, if there is one."""
        with self._database.read() as connection:
            known = self._find_job(connection, name)
            return _job_of(connection, known) if known else None

    def _find_job(self, connection: Connection, name: str) -> Row[Any] | None:
        """The job of this name: of the configuration itself, else of one that it takes over."""
        rows = connection.execute(_CALLED, {"called": name, "owner": self._owner.name})
        owner = self._owner
        return next((it for it in rows if it.configuration == owner.name or owner.speaks_for(it.configuration)), None)

    def job_ids(self) -> list[int]:
        """Returns the jobs of the configuration, former ones among them."""
        with self._database.read() as connection:
            rows = connection.execute(select(jobs.c.id, jobs.c.configuration)).all()
        owner = self._owner
        return [it.id for it in rows if it.configuration == owner.name or owner.speaks_for(it.configuration)]

    def jobs_reading(self, account_id: int) -> list[int]:
        """Returns the jobs whose source is this account, of all configurations."""
        with self._database.read() as connection:
            return list(connection.execute(select(jobs.c.id).where(jobs.c.account_id == account_id)).scalars())

    def retire(
        self, live: Mapping[str, Collection[tuple[str, str]]], is_ours: Callable[[str], bool] | None = None
    ) -> None:
        """Disable the jobs that are not in `live`, which no longer hold back removals, and routes that none names.

        `live` is job → (fingerprint, recipient) of the mail servers that it delivers to; `is_ours` says whether it
        speaks for the jobs of a configuration, by default as the owner does. See `routing.retire`.
        """
        is_ours = is_ours or self._owner.speaks_for
        with self._database.read() as connection:
            if not any(routing.over(connection, live, is_ours)):
                return
        with registering(self._database) as connection:
            routing.retire(connection, live, is_ours)

    def destinations(self) -> dict[str, set[str]]:
        """Every job that was ever registered → names and recipients of all destinations that it ever had."""
        found: dict[str, set[str]] = {}
        with self._database.read() as connection:
            known = connection.execute(
                select(jobs.c.configuration, jobs.c.name, _DESTINATION, routes.c.target)
                .outerjoin(routes, routes.c.job_id == jobs.c.id)
                .outerjoin(archives, archives.c.id == routes.c.archive_id)
                .outerjoin(accounts, accounts.c.id == routes.c.account_id)
                .order_by(jobs.c.id)
            )
            for configuration, job, *words in known:
                if configuration == self._owner.name or self._owner.speaks_for(configuration):
                    found.setdefault(job, set()).update(filter(None, words))
        return found

    def confirm_removal(self, job_id: int) -> None:
        """Note that a person confirmed that this job removes mail at its source."""
        with self._database.write() as connection:
            _set(connection, jobs, job_id, {"removal_confirmed_at": to_microseconds(clock.now())})


# --- rows ----------------------------------------------------------------------------------------------


def _set(
    connection: Connection, table: Table, row_id: int, values: Mapping[str, object], known: Row[Any] | None = None
) -> None:
    """Write `values`, unless the `known` row has them already."""
    if known is None or any(getattr(known, column) != value for column, value in values.items()):
        connection.execute(update(table).where(table.c.id == row_id).values(values))


def account_uuid(connection: Connection, mark: str) -> UUID:
    """uuid5 of the fingerprint; numbered in the rare case that an account was re-bound away from this fingerprint."""
    for number in count(1):
        uuid = numbered_uuid(mark, number)
        if connection.execute(select(accounts.c.id).where(accounts.c.uuid == uuid.bytes)).first() is None:
            return uuid
    raise AssertionError


def numbered_uuid(mark: str, number: int = 1) -> UUID:
    """Returns the UUID that an account of this fingerprint gets; the first one, where nothing has it already."""
    return uuid5(_NAMESPACE, mark if number == 1 else f"{mark}\n{number}")


def _has_messages(connection: Connection, account_id: int) -> bool:
    query = select(messages.c.id).join(mailboxes).where(mailboxes.c.account_id == account_id).limit(1)
    return connection.execute(query).first() is not None


def _account(connection: Connection, which: ColumnElement[bool], name: str) -> AccountRow:
    row = connection.execute(select(accounts).where(which)).one()
    return AccountRow(row.id, UUID(bytes=row.uuid), name, row.fingerprint)


def _archive(connection: Connection, which: ColumnElement[bool], name: str) -> ArchiveRow:
    row = connection.execute(select(archives).where(which)).one()
    return ArchiveRow(row.id, UUID(bytes=row.uuid), name, row.path, row.format, row.made)


def _job(connection: Connection, job_id: int) -> JobRow:
    return _job_of(connection, connection.execute(select(jobs).where(jobs.c.id == job_id)).one())


def _job_of(connection: Connection, row: Row[Any]) -> JobRow:
    found = connection.execute(_ROUTES, {"job": row.id})
    enabled = tuple(
        RouteRow(r.id, r.slot, r.name, r.kind, r.enabled, r.archive_id, r.account_id, r.target, Repeat(r.repeat))
        for r in found
    )
    confirmed = row.removal_confirmed_at is not None
    return JobRow(row.id, row.name, row.account_id, row.removes, confirmed, enabled)


def _account_changed(known: Row[Any], found: Mapping[str, str]) -> str:
    """Why a job stops whose source is no longer what the ledger has under its name."""
    if known.protocol == found["protocol"] == ARCHIVE:
        return (
            f'archive "{known.name}" was {known.host} when it was read, and is now {found["host"]}: if it was filled'
            " again with the same mail, run once with --rebind; if it is another archive, give it a name of its own"
        )
    return (
        f'account "{known.name}" was {known.fingerprint} and is now {found["fingerprint"]}: if that is the same'
        " mailbox, run once with --rebind; if it is another one, give it a name of its own"
    )


def _archive_missing(connection: Connection, name: str, path: str, known: UUID, found: UUID | None) -> str:
    """Returns why a job stops that writes to an archive which is not at its path; advice fits what is there."""
    if found is None:
        return (
            f'archive "{name}" ({known}) at {path}: it is not there. Mount its disk or correct its path; to begin a new'
            " archive there and have it filled again: `syncd run JOB --refill`"
        )
    same = connection.execute(select(archives.c.id).where(archives.c.uuid == found.bytes)).first()
    users = names.users(connection, "archive", same.id) if same else []
    whose = "".join(f', which is "{its_name}"{f" of {user}" if user else ""}' for user, its_name in users)
    return (
        f'archive "{name}" ({known}) at {path}: another archive ({found}) is there{whose}. Correct the path, or put'
        " back the archive; if this archive is a new one, give it a name of its own"
    )
