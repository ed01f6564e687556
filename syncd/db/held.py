"""What the ledger says an archive holds: for whoever checks the archive against it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import func, select

from syncd.db.database import Database
from syncd.db.models import archives, deliveries, messages, routes
from syncd.db.states import DeliveryState

PAGE: Final = 1000  # rows read at once: a check of the archive takes minutes, a transaction must not


class HeldRow(NamedTuple):
    """A message delivered to an archive; `hint` is its receipt's, empty where the archive finds it without."""

    sha256: bytes
    hint: str


def held(database: Database, archive: UUID) -> Iterator[HeldRow]:
    """Every message delivered to the archive, by whatever job; streamed. Empty for an archive that is not known."""
    after = 0
    while True:
        with database.read() as connection:
            page = connection.execute(
                select(messages.c.id, messages.c.sha256, func.max(deliveries.c.receipt))
                .join(deliveries, deliveries.c.message_id == messages.c.id)
                .join(routes, routes.c.id == deliveries.c.route_id)
                .join(archives, archives.c.id == routes.c.archive_id)
                .where(
                    messages.c.id > after,
                    archives.c.uuid == archive.bytes,
                    deliveries.c.state == DeliveryState.DELIVERED,
                    messages.c.sha256.is_not(None),
                )
                .group_by(messages.c.id, messages.c.sha256)
                .order_by(messages.c.id)
                .limit(PAGE)
            ).all()
        yield from (HeldRow(sha256, hint or "") for _, sha256, hint in page)
        if len(page) < PAGE:
            return
        after = page[-1].id
