"""Suspensions: destinations and accounts that are not contacted before a time, in later runs too.

    SERVER     the server said for how long
    LIMIT      a limit of ours is used up (`rate`, `per_day`); void when the job sets another
    SIGN_IN    it refused the credentials: trying again and again locks accounts       ┐ our own back-off, which grows
    REFUSED    it refused message after message: trying again blocks accounts          ┘ and which a run by hand ignores

One row for each, which stays when its time is over: the next refusal of the kind doubles it. A success lifts it,
and so does a person.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Final, NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from syncd import clock
from syncd.db.instants import believed, from_microseconds, to_microseconds
from syncd.db.ledger.backoff import LONGEST, SOURCE_LONGEST, suspension
from syncd.db.models import accounts, archives, jobs, routes, suspensions
from syncd.db.names import called
from syncd.db.rows import Cause, Suspension
from syncd.errors import printable

MAX_REASON: Final = 500  # characters
_FIND: Final = select(suspensions).where(suspensions.c.subject.in_(bindparam("subjects", expanding=True)))


def of_route(route_id: int) -> str:
    """A destination of a job."""
    return f"route {route_id}"


def of_account(account_id: int) -> str:
    """An account, whatever it is used for."""
    return f"account {account_id}"


def find(connection: Connection, subjects: Collection[str]) -> dict[str, Suspension]:
    """The suspensions of these subjects, also those whose time is over.

    One that ends later than its rule allows from now was made while a clock was ahead: its time is over.
    """
    now = clock.now()
    found = connection.execute(_FIND, {"subjects": list(subjects)})
    return {
        row.subject: Suspension(
            believed(from_microseconds(row.until), now, _longest(Cause(row.cause), row.tries)),
            row.reason,
            Cause(row.cause),
            row.tries,
            row.limit,
        )
        for row in found
    }


def _longest(cause: Cause, tries: int) -> timedelta:
    """Returns for how long a suspension can be made at most."""
    match cause:
        case Cause.SIGN_IN:
            return suspension(tries)
        case Cause.REFUSED:
            return max(suspension(tries), SOURCE_LONGEST)
        case _:
            return LONGEST


def put(connection: Connection, subject: str, what: Suspension) -> None:
    """Suspend it; the latest word counts."""
    lift(connection, [subject])
    values = what._asdict() | {"until": to_microseconds(what.until), "reason": printable(what.reason, MAX_REASON)}
    connection.execute(insert(suspensions).values(subject=subject, **values))


def back_off(connection: Connection, subject: str, cause: Cause, reason: str) -> Suspension:
    """Suspend it for longer than the last time, see `backoff.suspension`."""
    known = find(connection, [subject]).get(subject)
    tries = known.tries + 1 if known is not None and known.cause is cause else 1
    put(connection, subject, Suspension(clock.now() + suspension(tries), reason, cause, tries))
    return find(connection, [subject])[subject]


def lift(connection: Connection, subjects: Collection[str]) -> None:
    """It may be tried again, and the next refusal is the first."""
    connection.execute(delete(suspensions).where(suspensions.c.subject.in_(subjects)))


def resume(connection: Connection, job_id: int, meant: Callable[[str, str], bool]) -> list[str]:
    """Lift the suspensions of a job's source and destinations that are `meant` (by name and recipient).

    Returns the names of those that were suspended still.
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
    owner = jobs.c.configuration
    name = func.coalesce(called("account", accounts.c.id, owner), accounts.c.name)
    source = select(accounts.c.id, name).join(jobs, jobs.c.account_id == accounts.c.id)
    found = [_Place(of_account(key), name, "") for key, name in connection.execute(source.where(jobs.c.id == job_id))]
    archive = called("archive", archives.c.id, owner)
    destinations = (
        select(routes.c.id, routes.c.account_id, func.coalesce(archive, name, archives.c.name), routes.c.target)
        .join(jobs, jobs.c.id == routes.c.job_id)
        .outerjoin(archives, archives.c.id == routes.c.archive_id)
        .outerjoin(accounts, accounts.c.id == routes.c.account_id)
        .where(routes.c.job_id == job_id)
    )
    for route_id, account_id, name, target in connection.execute(destinations):
        found += [_Place(subject, name, target) for subject in (of_route(route_id), of_account(account_id or 0))]
    return found
