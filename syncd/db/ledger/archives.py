"""How far the archive of a route was durable when something was delivered to it.

An archive that only grows and holds less than that is an older copy of itself (restored from a backup), or lost a part.
By route, not by archive: what a job delivered lies before the end that it saw. ASK: the archive is to be filled again,
and has not been asked yet what it holds. No row: nothing is known.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from sqlalchemy import Connection, select, text

from syncd.db.models import extents

ASK: Final = -1  # less than an empty archive
_GROW: Final = text(
    "INSERT INTO extents (route_id, octets) VALUES (:route_id, :octets) ON CONFLICT (route_id)"
    " DO UPDATE SET octets = excluded.octets WHERE extents.octets < excluded.octets"
)


def find(connection: Connection, route_ids: Collection[int]) -> dict[int, int]:
    """Route → octets, for those of which it is known."""
    known = select(extents.c.route_id, extents.c.octets).where(extents.c.route_id.in_(route_ids))
    return {row.route_id: row.octets for row in connection.execute(known)}


def grow(connection: Connection, grown: Mapping[int, int]) -> None:
    """Route → octets that are durable now (at least one route); never less than before."""
    connection.execute(_GROW, [{"route_id": route_id, "octets": octets} for route_id, octets in grown.items()])
