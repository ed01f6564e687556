"""How long ago something was delivered, as far as clocks can be believed.

A machine without a battery begins in 1970, a typing error is a year: by such a clock mail is old enough to be removed
that came yesterday. Listings are written in the order in which they happened; where one is LEAP or more after the one
before it, by the clock, that time does not count: it may never have passed. If it did, because nobody ran the job, mail
stays longer than it must, by no more than the age that is asked for.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, func, select

from syncd import clock
from syncd.db.instants import from_microseconds, to_microseconds
from syncd.db.models import listings
from syncd.db.rows import Scope

LEAP: Final = timedelta(days=40)  # longer than a job that runs once a month, or a holiday, leaves between two listings


def old_enough(connection: Connection, scope: Scope, age: timedelta) -> datetime:
    """What was delivered before this instant has surely been so for `age`."""
    now = clock.now()
    before = func.lag(listings.c.at).over(order_by=listings.c.id)
    pairs = (
        select(listings.c.id, listings.c.at, before.label("before"))
        .where(listings.c.mailbox_id == scope.mailbox_id)
        .subquery("pairs")
    )
    leap = LEAP // timedelta(microseconds=1)
    leaps = select(func.min(pairs.c.before)).where(
        pairs.c.at - pairs.c.before >= leap,
        pairs.c.at <= to_microseconds(now),
        pairs.c.at > to_microseconds(now - age),
    )
    begun = [instant for instant in [connection.execute(leaps).scalar()] if instant is not None]
    last = connection.execute(select(pairs.c.at).order_by(pairs.c.id.desc()).limit(1)).scalar()
    if last is not None and to_microseconds(now) - last >= leap:  # in the middle of this run
        begun.append(last)
    return min([now, *map(from_microseconds, begun)]) - age
