"""Counts messages that were sent to a mail server lately: limits such as "2000 a day" are counted against it.

Messages that were delivered or are being sent count, and each uncertain outcome, whatever became of it since. Messages
that are only held, deferred or rejected never left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import select, union_all

from syncd import clock
from syncd.db.bulk import number
from syncd.db.database import Database
from syncd.db.instants import SECOND, SLACK
from syncd.db.models import deliveries, routes, uncertain_outcomes
from syncd.db.states import DeliveryState

_LEFT: Final = (DeliveryState.DELIVERED, DeliveryState.SENDING)


def sent_since(database: Database, account_id: int, since: float, limit: int) -> Sequence[float]:
    """When messages were sent to this account by any job, since then: seconds, ascending, the newest `limit` of them.

    Messages that are dated ahead, by a clock that was wrong, do not count: they would for years.
    Reads every delivery there is (about a second for ten million): ask once a run, and only where there is a limit.
    """
    last = int((clock.now() + SLACK).timestamp())
    ours = select(routes.c.id).where(routes.c.account_id == account_id)
    left = select(deliveries.c.at.label("at")).where(
        deliveries.c.route_id.in_(ours),
        deliveries.c.state.in_([number(state) for state in _LEFT]),
        deliveries.c.at.between(int(since), last),
    )
    may_have = select((uncertain_outcomes.c.at // SECOND).label("at")).where(
        uncertain_outcomes.c.route_id.in_(ours), uncertain_outcomes.c.at.between(int(since) * SECOND, last * SECOND)
    )
    both = union_all(left, may_have).subquery("left_at")
    found = select(both.c.at).order_by(both.c.at.desc()).limit(limit)
    with database.read() as connection:
        return [float(at) for at in reversed(connection.execute(found).scalars().all())]
