"""The list of `syncd errors`: problems, oldest message first; then deliveries that may have happened, perhaps twice.

Streamed in pages: a reader may take its time, a transaction may not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Row,
    Select,
    SmallInteger,
    Subquery,
    Table,
    and_,
    case,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
)

from syncd import clock
from syncd.db.bulk import number
from syncd.db.database import Database
from syncd.db.instants import SECOND, SLACK, from_microseconds
from syncd.db.leases import at_work
from syncd.db.ledger.scopes import is_open
from syncd.db.ledger.uncertain import times
from syncd.db.models import (
    ABOUT_MESSAGE,
    accounts,
    archives,
    deliveries,
    jobs,
    mailboxes,
    messages,
    problems,
    routes,
    uncertain_outcomes,
)
from syncd.db.names import called
from syncd.db.rows import ProblemKind, ProblemRow
from syncd.db.states import DeliveryState, MessageState
from syncd.mail.message import Key, Uid

PAGE: Final = 500
IMAP: Final = "imap"  # the protocol of an account
BROKE_OFF: Final = "a run that broke off may have sent it; the next run records that and goes on"
BROKE_OFF_IMAP: Final = "a run that broke off may have sent it; the next run asks the server whether it arrived"

_owner = accounts.alias("owner")  # of a destination that is an account
_sending = deliveries.c.state == number(DeliveryState.SENDING)
_Place = tuple[int, int]  # message, route


def problem_rows(database: Database, job_id: int | None) -> Iterator[ProblemRow]:
    """Everything of one job, or of all."""
    yield from _pages(database, lambda after: _problems(job_id, after))
    with database.read() as connection:
        busy = at_work(connection)
    yield from _pages(database, lambda after: _broken_off(job_id, busy, after))
    yield from _pages(database, lambda after: _perhaps_twice(job_id, after))


def _pages(database: Database, query: Callable[[_Place], Select[Any]]) -> Iterator[ProblemRow]:
    after: _Place = (0, -1)
    while True:
        with database.read() as connection:
            page = connection.execute(query(after)).all()
            counted = times(connection, [row.message_id for row in page])
        for row in page:
            yield _problem(row, counted.get((row.message_id, row.route_id), 0))
        if len(page) < PAGE:
            return
        after = (page[-1].message_id, page[-1].route_id)


def _problem(row: Row[Any], uncertain: int) -> ProblemRow:
    return ProblemRow(
        key=Key(row.message_id),
        route_id=row.route_id,
        kind=None if row.kind is None else ProblemKind(row.kind),
        account=row.account,
        mailbox=bytes(row.mailbox),
        path=tuple(json.loads(row.path)),
        uid=Uid(bytes(row.uid)),
        occurrence=row.occurrence,
        job=row.job,
        destination=row.destination,
        target=row.target,
        message=MessageState(row.message),
        delivery=None if row.delivery is None else DeliveryState(row.delivery),
        reason=row.reason,
        attempts=row.attempts,
        first_at=from_microseconds(row.first_at),
        last_at=from_microseconds(row.last_at),
        retry_at=_retry_at(row),
        uncertain=uncertain,
        octets=row.octets,
        sha256=None if row.sha256 is None else bytes(row.sha256),
        protocol=row.protocol,
    )


def _retry_at(row: Row[Any]) -> datetime | None:
    """Returns the time of the next try, as `work.retry_at` does."""
    if row.retry_at is None:
        return None
    now = clock.now()
    return now if from_microseconds(row.last_at) > now + SLACK else from_microseconds(row.retry_at)


def _problems(job_id: int | None, after: _Place) -> Select[Any]:
    found = _about(problems, after)
    found = found.where(
        or_(problems.c.route_id != ABOUT_MESSAGE, messages.c.state != number(MessageState.GONE)),
        or_(deliveries.c.state.is_(None), ~_sending),  # under way, or see `_broken_off`
    )
    if job_id is None:
        return found
    source = select(jobs.c.account_id).where(jobs.c.id == job_id).scalar_subquery()
    about_its_mail = and_(problems.c.route_id == ABOUT_MESSAGE, mailboxes.c.account_id == source)
    return found.where(or_(routes.c.job_id == job_id, about_its_mail))


def _broken_off(job_id: int | None, busy: Sequence[int], after: _Place) -> Select[Any]:
    """Deliveries that were left `sending`: nobody works on their job any more, and no run has recorded it yet."""
    at = cast(deliveries.c.at, BigInteger) * literal(SECOND, BigInteger)
    into_imap = select(routes.c.id).join(_owner, _owner.c.id == routes.c.account_id).where(_owner.c.protocol == IMAP)
    left = (
        select(
            deliveries.c.message_id,
            deliveries.c.route_id,
            literal(None, SmallInteger).label("kind"),
            case((deliveries.c.route_id.in_(into_imap), BROKE_OFF_IMAP), else_=BROKE_OFF).label("reason"),
            number(0).label("attempts"),
            at.label("first_at"),
            at.label("last_at"),
            literal(None).label("retry_at"),
        )
        .where(deliveries.c.route_id.in_(select(routes.c.id)), is_open, _sending)
        .subquery("left_sending")
    )
    found = _about(left, after).where(routes.c.job_id.not_in(busy))
    return found if job_id is None else found.where(routes.c.job_id == job_id)


def _perhaps_twice(job_id: int | None, after: _Place) -> Select[Any]:
    """Deliveries with uncertain outcomes that no person has noted, and that are no problem any more.

    The page is cut in the grouping: else each page would group all that are left.
    """
    told = exists().where(
        problems.c.message_id == uncertain_outcomes.c.message_id, problems.c.route_id == uncertain_outcomes.c.route_id
    )
    events = (
        select(
            uncertain_outcomes.c.message_id,
            uncertain_outcomes.c.route_id,
            literal(None, SmallInteger).label("kind"),
            func.max(uncertain_outcomes.c.reason).label("reason"),
            func.count().label("attempts"),
            func.min(uncertain_outcomes.c.at).label("first_at"),
            func.max(uncertain_outcomes.c.at).label("last_at"),
            literal(None).label("retry_at"),
        )
        .where(uncertain_outcomes.c.noted.is_(False), ~told, _behind(uncertain_outcomes, after))
        .group_by(uncertain_outcomes.c.message_id, uncertain_outcomes.c.route_id)
        .order_by(uncertain_outcomes.c.message_id, uncertain_outcomes.c.route_id)
        .limit(PAGE)
        .subquery("events")
    )
    found = _about(events, after)
    return found if job_id is None else found.where(routes.c.job_id == job_id)


def _about(what: Table | Subquery, after: _Place) -> Select[Any]:
    """One page of `what`, whose columns are those of `problems`, with all that says which message it is."""
    return (
        select(
            what.c.message_id,
            what.c.route_id,
            what.c.kind,
            func.coalesce(called("account", accounts.c.id, jobs.c.configuration), accounts.c.name).label("account"),
            mailboxes.c.name.label("mailbox"),
            mailboxes.c.path,
            messages.c.uid,
            messages.c.occurrence,
            jobs.c.name.label("job"),
            func.coalesce(
                called("archive", archives.c.id, jobs.c.configuration),
                called("account", _owner.c.id, jobs.c.configuration),
                archives.c.name,
                _owner.c.name,
            ).label("destination"),
            func.coalesce(routes.c.target, "").label("target"),
            messages.c.state.label("message"),
            deliveries.c.state.label("delivery"),
            what.c.reason,
            what.c.attempts,
            what.c.first_at,
            what.c.last_at,
            what.c.retry_at,
            func.coalesce(messages.c.octets, messages.c.listed_octets).label("octets"),
            messages.c.sha256,
            accounts.c.protocol,
        )
        .select_from(_around(what))
        .where(_behind(what, after))
        .order_by(what.c.message_id, what.c.route_id)
        .limit(PAGE)
    )


def _behind(what: Table | Subquery, after: _Place) -> ColumnElement[bool]:
    """Rows after this one. Said twice, as an index serves no more than the first."""
    key, route_id = after
    return and_(what.c.message_id >= key, or_(what.c.message_id > key, what.c.route_id > route_id))


def _around(what: Table | Subquery) -> FromClause:
    return (
        what.join(messages, messages.c.id == what.c.message_id)
        .join(mailboxes, mailboxes.c.id == messages.c.mailbox_id)
        .join(accounts, accounts.c.id == mailboxes.c.account_id)
        .outerjoin(routes, routes.c.id == what.c.route_id)
        .outerjoin(jobs, jobs.c.id == routes.c.job_id)
        .outerjoin(archives, archives.c.id == routes.c.archive_id)
        .outerjoin(_owner, _owner.c.id == routes.c.account_id)
        .outerjoin(
            deliveries, and_(deliveries.c.message_id == what.c.message_id, deliveries.c.route_id == what.c.route_id)
        )
    )
