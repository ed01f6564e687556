"""Whether the archives of a job still hold as much as was stored in them.

An older copy, restored from a backup, does not. What is missing there would count as delivered, would never be fetched
again, and might be removed at its source.
"""

from __future__ import annotations

from collections.abc import Sequence

from syncd.db.ledger import ASK
from syncd.destinations.base import Growing
from syncd.engine.job import Route
from syncd.engine.reader import Context
from syncd.errors import ArchiveMissing


def compare(context: Context, routes: Sequence[Route]) -> dict[int, int]:
    """Raise ArchiveMissing for an archive that is behind. Before it is read or written.

    The archives are open, but for a dry run: then those are looked at that jobs read from, as far as they are there.
    What comes back is how far those are of which nothing was known, for the ledger once they were asked what they hold.
    """
    held = {route.row.id: octets for route in routes if (octets := _extent(context, route)) is not None}
    known = context.ledger.extents(list(held)) if held else {}
    for route in routes:
        extent, before = held.get(route.row.id, 0), known.get(route.row.id, 0)
        if extent < before:
            raise ArchiveMissing(
                f'archive "{route.name}" is behind: it holds {extent:,} octets, and held {before:,} when this job last'
                " delivered to it. Put the right one back; where this is an older copy and no other is left, have it"
                f" filled again with what can still be had: `syncd run {context.job.name} --refill`"
            )
    return {route_id: octets for route_id, octets in held.items() if known.get(route_id, ASK) == ASK}


def _extent(context: Context, route: Route) -> int | None:
    archive: object = route.archive if context.report.dry_run else route.destination
    if not isinstance(archive, Growing):
        return None
    with route.lock:
        return archive.extent()
