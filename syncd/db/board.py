"""Reads the overview of the page: due jobs, suspensions, messages that wait. No statement grows with messages."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import Text, and_, cast, exists, func, literal, or_, select

from syncd.db.database import Database
from syncd.db.instants import from_microseconds, to_microseconds
from syncd.db.lateness import APPLIED
from syncd.db.models import (
    ABOUT_MESSAGE,
    accounts,
    archives,
    definitions,
    jobs,
    mailboxes,
    messages,
    names,
    problems,
    routes,
    suspensions,
)

COUNTED: Final = 1_000  # waiting messages are counted up to here: beyond it "more than 1,000" says enough


class SuspendedRow(NamedTuple):
    """An account, or a destination of a `job`, that is not contacted before a time."""

    name: str
    job: str  # "": an account, whatever it is used for
    until: datetime
    reason: str


class Waiting(NamedTuple):
    """Counts of messages that wait for a time, and that wait for a person. Together at most COUNTED."""

    for_time: int
    for_person: int

    @property
    def is_whole(self) -> bool:
        """Returns whether all of them were counted."""
        return self.for_time + self.for_person < COUNTED


def coming(database: Database, configuration: str, limit: int) -> tuple[list[tuple[str, datetime]], int]:
    """Returns the jobs that are due next by their schedules, the soonest first, and how many there are in all."""
    due = (definitions.c.next_due.is_not(None), jobs.c.paused_since.is_(None), jobs.c.configuration == configuration)
    first = select(jobs.c.name, definitions.c.next_due).select_from(APPLIED).where(*due)
    counted = select(func.count()).select_from(APPLIED).where(*due)
    with database.read() as connection:
        rows = connection.execute(first.order_by(definitions.c.next_due, jobs.c.id).limit(limit)).all()
        return [(row.name, from_microseconds(row.next_due)) for row in rows], connection.execute(counted).scalar_one()


def pulse(database: Database, configuration: str) -> str:
    """Returns a text that changes when a job is paused, resumed, or gets into or out of trouble."""
    facts = select(
        func.count(jobs.c.paused_since), func.sum(jobs.c.paused_since), func.sum(jobs.c.trouble_since), func.count()
    ).where(jobs.c.configuration == configuration)
    with database.read() as connection:
        return " ".join(str(fact) for fact in connection.execute(facts).one())


def suspended(database: Database, configuration: str, now: datetime) -> list[SuspendedRow]:
    """Returns what a configuration's jobs do not contact now, the soonest that ends first."""
    at = to_microseconds(now)
    of_route = (
        select(func.coalesce(accounts.c.name, archives.c.name).label("name"), jobs.c.name.label("job"), suspensions)
        .select_from(suspensions)
        .join(routes, suspensions.c.subject == literal("route ").concat(cast(routes.c.id, Text)))
        .join(jobs, jobs.c.id == routes.c.job_id)
        .outerjoin(accounts, accounts.c.id == routes.c.account_id)
        .outerjoin(archives, archives.c.id == routes.c.archive_id)
        .where(suspensions.c.until > at, routes.c.enabled, jobs.c.configuration == configuration)
    )
    called = and_(names.c.kind == "account", names.c.target == accounts.c.id, names.c.configuration == configuration)
    of_account = (
        select(names.c.name.label("name"), literal("").label("job"), suspensions)
        .select_from(suspensions)
        .join(accounts, suspensions.c.subject == literal("account ").concat(cast(accounts.c.id, Text)))
        .join(names, called)
        .where(suspensions.c.until > at)
    )
    with database.read() as connection:
        rows = [*connection.execute(of_route), *connection.execute(of_account)]
    found = [SuspendedRow(row.name, row.job, from_microseconds(row.until), row.reason) for row in rows]
    return sorted(found, key=lambda it: (it.until, it.name))


def waiting(database: Database, configuration: str) -> Waiting:
    """Returns how many messages of a configuration's jobs wait because something went wrong, counted up to COUNTED."""
    mine = exists().where(routes.c.id == problems.c.route_id, jobs.c.id == routes.c.job_id)
    about_mine = exists().where(
        messages.c.id == problems.c.message_id,
        mailboxes.c.id == messages.c.mailbox_id,
        jobs.c.account_id == mailboxes.c.account_id,
        jobs.c.configuration == configuration,
    )
    some = (
        select(problems.c.retry_at.is_(None).label("person"))
        .where(
            or_(
                mine.where(jobs.c.configuration == configuration),
                and_(problems.c.route_id == ABOUT_MESSAGE, about_mine),
            )
        )
        .limit(COUNTED)
        .subquery()
    )
    with database.read() as connection:
        counted = {
            bool(person): count
            for person, count in connection.execute(select(some.c.person, func.count()).group_by(some.c.person))
        }
    return Waiting(counted.get(False, 0), counted.get(True, 0))
