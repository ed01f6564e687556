"""What is left alone for a while, in later runs too: a destination, or an account that refused to let us in.

    SERVER     it said for how long
    LIMIT      our own limit is used up (`rate`, `per_day`); void when the job sets another
    SIGN_IN    it refused the credentials: trying again and again locks accounts       ┐ our own back-off, which grows
    REFUSED    it refused message after message: so does that                          ┘ and which a run by hand ignores

One row for each, which stays when its time is over: the next refusal of the kind doubles it. What succeeds lifts it,
and so does a person.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Final, NamedTuple

from sqlalchemy import Connection, delete, func, insert, select

from syncd import clock
from syncd.db.instants import from_microseconds, to_microseconds
from syncd.db.models import accounts, archives, jobs, routes, suspensions
from syncd.db.rows import Cause, Suspension
from syncd.errors import printable

FIRST: Final = timedelta(minutes=15)
LONGEST: Final = timedelta(days=1)
MAX_REASON: Final = 500  # characters


def of_route(route_id: int) -> str:
    """A destination of a job."""
    return f"route {route_id}"


def of_account(account_id: int) -> str:
    """An account, whatever it is used for."""
    return f"account {account_id}"


def find(connection: Connection, subjects: Collection[str]) -> dict[str, Suspension]:
    """What is known of these, also where its time is over."""
    found = connection.execute(select(suspensions).where(suspensions.c.subject.in_(subjects)))
    return {
        row.subject: Suspension(from_microseconds(row.until), row.reason, Cause(row.cause), row.tries) for row in found
    }


def put(connection: Connection, subject: str, suspension: Suspension) -> None:
    """Leave it alone until then; the latest word counts."""
    lift(connection, [subject])
    values = suspension._asdict() | {
        "until": to_microseconds(suspension.until),
        "reason": printable(suspension.reason, MAX_REASON),
    }
    connection.execute(insert(suspensions).values(subject=subject, **values))


def back_off(connection: Connection, subject: str, cause: Cause, reason: str) -> Suspension:
    """Leave it alone for 15 minutes, or twice as long as the last time, at most for a day."""
    known = find(connection, [subject]).get(subject)
    tries = known.tries + 1 if known is not None and known.cause is cause else 1
    pause = min(FIRST * 2 ** min(tries - 1, 10), LONGEST)
    put(connection, subject, Suspension(clock.now() + pause, reason, cause, tries))
    return find(connection, [subject])[subject]


def lift(connection: Connection, subjects: Collection[str]) -> None:
    """It may be tried again, and the next refusal is the first."""
    connection.execute(delete(suspensions).where(suspensions.c.subject.in_(subjects)))


def resume(connection: Connection, job_id: int, meant: Callable[[str, str], bool]) -> list[str]:
    """Lift all that concerns a job's source and destinations, as far as they are `meant` (by name and recipient).

    Names of what was left alone.
    """
    places = {subject: name for subject, name, target in _places(connection, job_id) if meant(name, target)}
    found = find(connection, places)
    lift(connection, found)
    return sorted({places[subject] for subject, one in found.items() if one.until > clock.now()})


class _Place(NamedTuple):
    subject: str
    name: str
    target: str


def _places(connection: Connection, job_id: int) -> list[_Place]:
    """The source and the destinations of a job, with whatever they are suspended as."""
    source = select(accounts.c.id, accounts.c.name).join(jobs, jobs.c.account_id == accounts.c.id)
    found = [_Place(of_account(key), name, "") for key, name in connection.execute(source.where(jobs.c.id == job_id))]
    destinations = (
        select(routes.c.id, routes.c.account_id, func.coalesce(archives.c.name, accounts.c.name), routes.c.target)
        .outerjoin(archives, archives.c.id == routes.c.archive_id)
        .outerjoin(accounts, accounts.c.id == routes.c.account_id)
        .where(routes.c.job_id == job_id)
    )
    for route_id, account_id, name, target in connection.execute(destinations):
        found += [_Place(subject, name, target) for subject in (of_route(route_id), of_account(account_id or 0))]
    return found
