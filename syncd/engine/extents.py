"""Compares the size of the archives of a job with what was stored in them.

An older copy, restored from a backup, has less. What is missing there would count as delivered, would never be fetched
again, and might be removed at its source.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from syncd.destinations.base import Growing
from syncd.engine.context import Context
from syncd.engine.job import Route
from syncd.errors import ArchiveMissing


def compare(context: Context, routes: Sequence[Route], ready: Callable[[Route], bool]) -> dict[int, int]:
    """Raise ArchiveMissing for an archive that has less than before; call it before archives are read or written.

    Returns route → octets of the archives of which nothing was known, for the ledger to note once they were asked what
    they have. These are made `ready`: only an open archive says what is durable.
    """
    found = {route.row.id: octets for route in routes if (octets := _extent(context, route)) is not None}
    known = context.ledger.archives.extents(list(found)) if found else {}
    for route in [route for route in routes if route.row.id in found.keys() - known.keys() and ready(route)]:
        found[route.row.id] = _extent(context, route) or 0
    for route in routes:
        extent, before = found.get(route.row.id, 0), known.get(route.row.id, 0)
        if extent < before:
            raise ArchiveMissing(
                f'archive "{route.name}" is behind: it has {extent:,} octets, and had {before:,} when this job last'
                " delivered to it. Put the right one back; where this is an older copy and no other is left, have it"
                f" filled again with what can still be had: `syncd run {context.job.name} --refill`"
            )
    return {route_id: octets for route_id, octets in found.items() if route_id not in known}


def _extent(context: Context, route: Route) -> int | None:
    archive: object = route.archive if context.report.dry_run else route.destination
    if not isinstance(archive, Growing):
        return None
    with route.lock:
        return archive.extent()
