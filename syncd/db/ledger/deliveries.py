"""Finds where a message was delivered: the rows of one message that an archive holds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import LargeBinary, Select, bindparam, func, select

from syncd.db.database import Database
from syncd.db.fingerprints import ARCHIVE, fingerprint
from syncd.db.models import accounts, archives, deliveries, jobs, mailboxes, messages, problems, routes
from syncd.db.names import called
from syncd.db.states import DeliveryState
from syncd.formats.view import Kept
from syncd.mail.message import MessageRef

MOST: Final = 50  # places of a message that are looked at
_owner = accounts.alias("owner")  # of a destination that is an account


class DeliveryRow(NamedTuple):
    """A delivery of a message. `at` is None where nothing happened yet; `reason` says what is wrong."""

    job: str
    destination: str
    target: str  # recipient or mailbox; "" for archives
    state: DeliveryState
    at: datetime | None
    reason: str


class Sought(NamedTuple):
    """A message of an archive: its places at accounts, where the archive keeps it, and the digest of its octets."""

    archive: UUID
    refs: Sequence[MessageRef]
    kept: Sequence[Kept]
    sha256: bytes  # empty where a place or a hint tells enough


def deliveries_of(database: Database, configuration: str, sought: Sought) -> list[DeliveryRow]:
    """Returns the deliveries of a message by the jobs of a configuration.

    It is known by its places at accounts, by its place in an archive that is a source, and by what was delivered to
    the archive: the hint of its receipt, else its octets. For these two all deliveries are looked through, because
    the ledger has no index of them: 0.1 to 0.2 s for each million.
    """
    with database.read() as connection:
        known = [*map(_at_account, sought.refs[:MOST]), *(_at_archive(sought.archive, it) for it in sought.kept[:MOST])]
        if not sought.refs:
            route_ids = list(connection.execute(_TO_ARCHIVE, {"uuid": sought.archive.bytes}).scalars())
            known += [_delivered_to(route_ids, sought)] if route_ids else []
        ids = {number for statement in known for number in connection.execute(statement).scalars()}
        wanted = _DELIVERIES.where(deliveries.c.message_id.in_(ids), jobs.c.configuration == configuration)
        rows = connection.execute(wanted).all() if ids else []
    found: dict[DeliveryRow, None] = {}
    for row in rows:
        at = None if row.at is None else datetime.fromtimestamp(row.at, UTC)
        place_ = row.job, row.destination, row.target
        found[DeliveryRow(*place_, DeliveryState(row.state), at, row.reason)] = None
    return list(found)


def _at_account(ref: MessageRef) -> Select[Any]:
    return _MESSAGES.where(
        accounts.c.uuid == ref.origin.account.bytes,
        mailboxes.c.name == ref.origin.mailbox,
        messages.c.epoch == ref.origin.epoch,
        messages.c.uid == ref.uid,
        messages.c.occurrence == ref.occurrence,
    )


def _at_archive(archive: UUID, place: Kept) -> Select[Any]:
    return _MESSAGES.where(
        accounts.c.fingerprint == fingerprint(ARCHIVE, str(archive), ""),
        mailboxes.c.name == place.mailbox,
        messages.c.epoch == mailboxes.c.epoch,
        messages.c.uid == place.uid,
    )


def _delivered_to(route_ids: Sequence[int], sought: Sought) -> Select[Any]:
    here = select(deliveries.c.message_id).where(deliveries.c.route_id.in_(route_ids)).limit(MOST)
    hints = [place.hint for place in sought.kept if place.hint]
    if hints:
        return here.where(deliveries.c.receipt.in_(hints))
    return here.join(messages, messages.c.id == deliveries.c.message_id).where(messages.c.sha256 == sought.sha256)


_MESSAGES: Final = select(messages.c.id).select_from(
    accounts.join(mailboxes, mailboxes.c.account_id == accounts.c.id).join(
        messages, messages.c.mailbox_id == mailboxes.c.id
    )
)
_TO_ARCHIVE: Final = (
    select(routes.c.id)
    .join(archives, archives.c.id == routes.c.archive_id)
    .where(archives.c.uuid == bindparam("uuid", type_=LargeBinary))
)
_DELIVERIES: Final = (
    select(
        jobs.c.name.label("job"),
        func.coalesce(
            called("archive", archives.c.id, jobs.c.configuration),
            called("account", _owner.c.id, jobs.c.configuration),
            archives.c.name,
            _owner.c.name,
        ).label("destination"),
        routes.c.target,
        deliveries.c.state,
        deliveries.c.at,
        func.coalesce(problems.c.reason, "").label("reason"),
    )
    .select_from(
        deliveries.join(routes, routes.c.id == deliveries.c.route_id)
        .join(jobs, jobs.c.id == routes.c.job_id)
        .outerjoin(archives, archives.c.id == routes.c.archive_id)
        .outerjoin(_owner, _owner.c.id == routes.c.account_id)
        .outerjoin(
            problems,
            (problems.c.message_id == deliveries.c.message_id) & (problems.c.route_id == deliveries.c.route_id),
        )
    )
    .order_by(deliveries.c.message_id, deliveries.c.route_id)
)
