"""Archives, as the ledger knows them: how far they were durable, what was delivered, which are to be filled again.

An archive that only grows and is smaller than it was is an older copy of itself (restored from a backup), or lost a
part. The table `extents` has a row for each route, not for each archive: what a job delivered lies before the end that
it saw. `ask`: the archive is to be filled again, and has not been asked yet what it contains. Without a row nothing is
known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, literal, select, text, true, update

from syncd.db.bulk import number, pieces
from syncd.db.database import Database
from syncd.db.leases import archive_resource
from syncd.db.models import archives, deliveries, extents, leases, messages, routes
from syncd.db.states import DeliveryState, move
from syncd.mail.message import Key

PAGE: Final = 1000  # rows read at once: a check of the archive takes minutes, a transaction must not
_GROW: Final = text(
    "INSERT INTO extents (route_id, octets, ask) VALUES (:route_id, :octets, false) ON CONFLICT (route_id)"
    " DO UPDATE SET octets = excluded.octets, ask = false WHERE extents.octets < excluded.octets OR extents.ask"
)
_FIND: Final = select(extents.c.route_id, extents.c.octets).where(
    extents.c.route_id.in_(bindparam("routes", expanding=True)), ~extents.c.ask
)


class Delivered(NamedTuple):
    """A message that was delivered to an archive; `hint` is its receipt's, empty where the archive finds it without."""

    sha256: bytes
    hint: str


# --- extents -------------------------------------------------------------------------------------------


def find(connection: Connection, route_ids: Collection[int]) -> dict[int, int]:
    """Route → octets, for those of which it is known."""
    return {row.route_id: row.octets for row in connection.execute(_FIND, {"routes": list(route_ids)})}


def to_ask(connection: Connection, route_ids: Collection[int]) -> set[int]:
    """Returns the routes whose archive is to be asked what it contains, because it is to be filled again."""
    asked = select(extents.c.route_id).where(extents.c.route_id.in_(route_ids), extents.c.ask)
    return set(connection.execute(asked).scalars())


def grow(connection: Connection, grown: Mapping[int, int]) -> None:
    """Route → octets that are durable now (at least one route); never less than before."""
    connection.execute(_GROW, [{"route_id": route_id, "octets": octets} for route_id, octets in grown.items()])


# --- filled again --------------------------------------------------------------------------------------


def refilled(connection: Connection, archive: Row[Any]) -> None:
    """Everything that was delivered to an archive is pending again: another archive takes its place.

    A run that still writes to the old one loses its lease, so that nothing it commits later counts for the new one.
    """
    resource = archive_resource(UUID(bytes=archive.uuid))
    revoked = {"generation": leases.c.generation + 1, "holder": "", "expires_at": 0.0}
    connection.execute(update(leases).where(leases.c.resource == resource).values(revoked))
    reset(connection, archive.id)


def reset(connection: Connection, archive_id: int) -> None:
    """Everything that was delivered to an archive is pending again, until it is asked what it contains (`seeding`)."""
    ours = select(routes.c.id).where(routes.c.archive_id == archive_id)
    again = move(deliveries.c.state, DeliveryState.PENDING, only=(DeliveryState.DELIVERED,))
    connection.execute(again.where(deliveries.c.route_id.in_(ours)).values(at=None, receipt=None))
    connection.execute(delete(extents).where(extents.c.route_id.in_(ours)))
    emptied = select(routes.c.id, literal(0), true()).where(routes.c.archive_id == archive_id)
    connection.execute(insert(extents).from_select(["route_id", "octets", "ask"], emptied))


# --- what was delivered --------------------------------------------------------------------------------


def having(connection: Connection, keys: Sequence[Key]) -> dict[Key, list[tuple[str, str]]]:
    """Message → the archives that have it, by name, with the hint of the receipt ("" if there is none)."""
    found: dict[Key, list[tuple[str, str]]] = defaultdict(list)
    joined = deliveries.join(routes, routes.c.id == deliveries.c.route_id).join(
        archives, archives.c.id == routes.c.archive_id
    )
    for piece in pieces(keys):
        rows = connection.execute(
            select(deliveries.c.message_id, archives.c.name, deliveries.c.receipt)
            .select_from(joined)
            .where(deliveries.c.message_id.in_(piece), deliveries.c.state == number(DeliveryState.DELIVERED))
        )
        for key, name, hint in rows:
            found[Key(key)].append((name, hint or ""))
    return found


def contents(database: Database, archive: UUID) -> Iterator[Delivered]:
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
                    deliveries.c.state == number(DeliveryState.DELIVERED),
                    messages.c.sha256.is_not(None),
                )
                .group_by(messages.c.id, messages.c.sha256)
                .order_by(messages.c.id)
                .limit(PAGE)
            ).all()
        yield from (Delivered(sha256, hint or "") for _, sha256, hint in page)
        if len(page) < PAGE:
            return
        after = page[-1].id
