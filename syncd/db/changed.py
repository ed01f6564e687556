"""A name of the catalog that stands for something else than before: what a person is told; an archive filled anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from sqlalchemy import BigInteger, Connection, Row, and_, delete, insert, literal, select, update

from syncd.db.leases import archive_resource
from syncd.db.ledger.archives import ASK
from syncd.db.models import deliveries, extents, leases, routes
from syncd.db.states import DeliveryState

ARCHIVE: Final = "archive"  # the protocol of an account that is an archive as a source; its host is the archive's UUID


def account(known: Row[Any], found: Mapping[str, str]) -> str:
    """Why a job stops whose source is no longer what the ledger has under its name."""
    if known.protocol == found["protocol"] == ARCHIVE:
        return (
            f'archive "{known.name}" was {known.host} when it was read, and is now {found["host"]}: if it was filled'
            " anew with the same mail, run once with --rebind; if it is another one, give it a name of its own"
        )
    return (
        f'account "{known.name}" was {known.fingerprint} and is now {found["fingerprint"]}: if that is the same'
        " mailbox, run once with --rebind; if it is another one, give it a name of its own"
    )


def archive(name: str, path: str, known: UUID, found: UUID | None) -> str:
    """Why a job stops that writes to an archive which is not at its path, or another one is."""
    what = "is not there" if found is None else f"is another one ({found}) there"
    return (
        f'archive "{name}" ({known}) at {path}: it {what}. Mount its disk or correct its path; to begin anew at this'
        " place and have it filled again: `syncd run JOB --refill`"
    )


def refill(connection: Connection, archive: Row[Any]) -> None:
    """All that was delivered to an archive is pending again: what stands in its place has none of it.

    A run that still writes to the old one loses its lease, so that nothing it commits later counts for the new one.
    """
    resource = archive_resource(UUID(bytes=archive.uuid))
    revoked = {"generation": leases.c.generation + 1, "holder": "", "expires_at": 0.0}
    connection.execute(update(leases).where(leases.c.resource == resource).values(revoked))
    reset(connection, archive.id)


def reset(connection: Connection, archive_id: int) -> None:
    """All that was delivered to an archive is pending again, until the archive is asked what it holds (`seeding`)."""
    ours = select(routes.c.id).where(routes.c.archive_id == archive_id)
    delivered = and_(deliveries.c.route_id.in_(ours), deliveries.c.state == DeliveryState.DELIVERED)
    connection.execute(update(deliveries).where(delivered).values(state=DeliveryState.PENDING, at=None, receipt=None))
    connection.execute(delete(extents).where(extents.c.route_id.in_(ours)))
    emptied = select(routes.c.id, literal(ASK, BigInteger)).where(routes.c.archive_id == archive_id)
    connection.execute(insert(extents).from_select(["route_id", "octets"], emptied))
