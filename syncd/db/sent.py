"""What was sent to a mail server lately: what limits such as "2000 a day" are counted against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import select

from syncd.db.bulk import number
from syncd.db.database import Database
from syncd.db.models import deliveries, routes
from syncd.db.states import DeliveryState

_COUNTED: Final = (DeliveryState.DELIVERED, DeliveryState.UNCERTAIN, DeliveryState.HELD, DeliveryState.SENDING)


def sent_since(database: Database, account_id: int, since: float, limit: int) -> Sequence[float]:
    """When messages were sent to this account by any job, since then: seconds, ascending, the newest `limit` of them.

    Reads every delivery there is (about a second for ten million): ask once a run, and only where there is a limit.
    """
    ours = select(routes.c.id).where(routes.c.account_id == account_id)
    found = (
        select(deliveries.c.at)
        .where(
            deliveries.c.route_id.in_(ours),
            deliveries.c.state.in_([number(state) for state in _COUNTED]),
            deliveries.c.at >= int(since),
        )
        .order_by(deliveries.c.at.desc())
        .limit(limit)
    )
    with database.read() as connection:
        return [float(at) for at in reversed(connection.execute(found).scalars().all())]
