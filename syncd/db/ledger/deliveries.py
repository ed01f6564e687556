"""Where a message was delivered: the rows of one message that an archive holds, by its places at accounts."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Select, func, select

from syncd.db.database import Database
from syncd.db.models import accounts, archives, deliveries, jobs, mailboxes, messages, problems, routes
from syncd.db.names import called
from syncd.db.states import DeliveryState
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


def deliveries_of(database: Database, configuration: str, refs: Iterable[MessageRef]) -> list[DeliveryRow]:
    """Returns the deliveries of a message by the jobs of a configuration, of all of its places."""
    found: dict[DeliveryRow, None] = {}
    with database.read() as connection:
        for ref in list(refs)[:MOST]:
            for row in connection.execute(_of(ref, configuration)):
                at = None if row.at is None else datetime.fromtimestamp(row.at, UTC)
                place = row.job, row.destination, row.target
                found[DeliveryRow(*place, DeliveryState(row.state), at, row.reason)] = None
    return list(found)


def _of(ref: MessageRef, configuration: str) -> Select[Any]:
    return (
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
            accounts.join(mailboxes, mailboxes.c.account_id == accounts.c.id)
            .join(messages, messages.c.mailbox_id == mailboxes.c.id)
            .join(deliveries, deliveries.c.message_id == messages.c.id)
            .join(routes, routes.c.id == deliveries.c.route_id)
            .join(jobs, jobs.c.id == routes.c.job_id)
            .outerjoin(archives, archives.c.id == routes.c.archive_id)
            .outerjoin(_owner, _owner.c.id == routes.c.account_id)
            .outerjoin(
                problems, (problems.c.message_id == messages.c.id) & (problems.c.route_id == deliveries.c.route_id)
            )
        )
        .where(
            accounts.c.uuid == ref.origin.account.bytes,
            mailboxes.c.name == ref.origin.mailbox,
            messages.c.epoch == ref.origin.epoch,
            messages.c.uid == ref.uid,
            messages.c.occurrence == ref.occurrence,
            jobs.c.configuration == configuration,
        )
        .order_by(deliveries.c.message_id, deliveries.c.route_id)
    )
