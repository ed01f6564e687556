"""Counts for a run's full accounting: where every message of the account stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, case, exists, func, or_, select

from syncd import clock
from syncd.db.bulk import number
from syncd.db.instants import to_microseconds
from syncd.db.ledger import work
from syncd.db.ledger.scopes import archive_routes, enabled, in_present_epoch, is_open, named, of, of_named
from syncd.db.models import ABOUT_MESSAGE, deliveries, messages, problems
from syncd.db.rows import Accounting, ProblemKind, RunScope
from syncd.db.states import GOES_ON, WAITS_FOR_PERSON, DeliveryState, Disposal, MessageState
from syncd.mail.outcome import Repeat

_trouble, _fetching = work.trouble, work.fetching
_D, _M = DeliveryState, MessageState
_not_gone = messages.c.state != number(_M.GONE)  # for ix_messages_present
_ANY_PROBLEM: Final = (
    select(problems.c.message_id)
    .where(
        or_(
            problems.c.route_id.in_(bindparam("routes", expanding=True)),
            and_(
                problems.c.route_id == ABOUT_MESSAGE,
                exists().where(messages.c.id == problems.c.message_id, of_named(), _not_gone),
            ),
        )
    )
    .limit(1)
)


def accounting(connection: Connection, scope: RunScope) -> Accounting:
    """Count; see `Accounting`. Messages that are gone are only counted, however many the years have brought."""
    now = {"now": to_microseconds(clock.now())}
    here = (of(scope), in_present_epoch())
    states: Counter[MessageState] = Counter()
    groups = [0, 0, 0, 0]
    undelivered = removed = removing = 0
    for state, messages_, lacking, went, going, *counts in connection.execute(_grouped(scope, here), now):
        states[MessageState(state)] = messages_
        undelivered += lacking
        removed += went
        removing += going
        groups = [known + more for known, more in zip(groups, counts, strict=True)]
    gone = _count(connection, select(func.count()).where(*here)) - states.total()
    if gone:
        states[_M.GONE] = gone
    to_backfill = _count(connection, _gone_but_stored(scope, here), now) if gone else 0
    asked_for = _count(connection, _gone_but_asked_for(scope, here), now) if gone else 0
    ready, time, person, final = groups
    return Accounting(
        messages=states,
        deliveries=_delivery_states(connection, scope, here),
        undelivered=undelivered,
        due=ready + to_backfill,
        waiting_time=time,
        waiting_person=person + asked_for,
        final=final + gone - to_backfill - asked_for,
        removed=removed,
        removing=removing,
    )


def any_problem(connection: Connection, scope: RunScope) -> bool:
    """Returns whether something is wrong with a delivery of the job, or a message of its account."""
    values = {"routes": [route.id for route in enabled(scope)], **named(scope)}
    return connection.execute(_ANY_PROBLEM, values).first() is not None


def queues(connection: Connection, scope: RunScope) -> dict[str, int]:
    """Mail server (by name) → deliveries to its recipients that go on without a person, where there are any."""
    found: Counter[str] = Counter()
    names = {route.id: route.name for route in enabled(scope) if route.repeat is not Repeat.SAFE}
    joined = deliveries.join(messages, messages.c.id == deliveries.c.message_id).outerjoin(
        _trouble, work.about_delivery
    )
    by_itself = or_(deliveries.c.state != number(_D.DEFERRED), _trouble.c.retry_at.is_not(None))
    waiting = (
        select(deliveries.c.route_id, func.count())
        .select_from(joined)
        .where(
            deliveries.c.route_id.in_(names),
            is_open,
            deliveries.c.state.in_([number(state) for state in sorted(GOES_ON)]),
            by_itself,
            of(scope),
            in_present_epoch(),
            or_(_not_gone, work.in_archive(scope)),
        )
        .group_by(deliveries.c.route_id)
    )
    for route_id, count in connection.execute(waiting):
        found[names[route_id]] += count
    return dict(found)


def _count(connection: Connection, query: Select[Any], parameters: Mapping[str, int] | None = None) -> int:
    return int(connection.execute(query, parameters).scalar_one())


def _grouped(scope: RunScope, here: tuple[ColumnElement[bool], ...]) -> Select[Any]:
    """State, messages, pairs without a row, messages that we removed or tried to, and in each of the four groups."""
    each = _each_message(scope, here).subquery("each")
    listed = each.c.state != number(_M.MISSING)
    wanted = len(enabled(scope))
    lacking = case((listed, number(wanted) - each.c.planned), else_=number(0))
    fetched_now = or_(
        each.c.state.in_([number(_M.LISTED), number(_M.FETCHED)]), each.c.archived > 0, each.c.retry_at <= work.NOW
    )
    fetched_later = or_(each.c.state == number(_M.MISSING), each.c.retry_at > work.NOW)
    group = case(
        (and_(fetched_now, or_(each.c.due > 0, lacking > 0)), 0),
        (and_(fetched_later, or_(each.c.due > 0, lacking > 0)), 1),
        (and_(or_(fetched_now, fetched_later), each.c.later > 0), 1),
        (or_(each.c.due > 0, lacking > 0, each.c.later > 0, each.c.person > 0), 2),
        else_=3,
    )
    counts = [func.count(case((group == nth, 1))) for nth in range(4)]
    leaving = [
        func.count(case((and_(listed, each.c.disposal == number(disposal)), 1)))
        for disposal in (Disposal.REMOVED, Disposal.REMOVING)
    ]
    return select(each.c.state, func.count(), func.sum(lacking), *leaving, *counts).group_by(each.c.state)


def _each_message(scope: RunScope, here: tuple[ColumnElement[bool], ...]) -> Select[Any]:
    """One row for each message that is not gone: its state, and how many of its deliveries stand how."""
    routes_ = [route.id for route in enabled(scope)]
    archives_ = [route.id for route in archive_routes(scope)]
    state = deliveries.c.state
    person = or_(
        state.in_([number(value) for value in sorted(WAITS_FOR_PERSON)]),
        and_(state == number(_D.DEFERRED), _trouble.c.retry_at.is_(None)),
        and_(state == number(_D.DELIVERED), _trouble.c.message_id.is_not(None)),
        messages.c.disposal == number(Disposal.FROZEN),
    )
    later = and_(state.in_([number(_D.PENDING), number(_D.DEFERRED)]), work.retry_at(_trouble) > work.NOW)
    sound = _trouble.c.message_id.is_(None)  # of what is delivered: an archive can give it back
    in_archive = and_(state == number(_D.DELIVERED), deliveries.c.route_id.in_(archives_), sound)
    joined = (
        messages.outerjoin(
            deliveries, and_(deliveries.c.message_id == messages.c.id, deliveries.c.route_id.in_(routes_))
        )
        .outerjoin(_trouble, work.about_delivery)
        .outerjoin(
            _fetching,
            and_(
                _fetching.c.message_id == messages.c.id,
                _fetching.c.route_id == ABOUT_MESSAGE,
                _fetching.c.kind == number(ProblemKind.FETCH),
            ),
        )
    )
    counts = {
        "due": or_(work.is_due, state == number(_D.SENDING)),
        "later": later,
        "person": person,
        "archived": in_archive,
    }
    return (
        select(
            messages.c.state,
            messages.c.disposal,
            func.max(work.retry_at(_fetching)).label("retry_at"),
            func.count(deliveries.c.route_id).label("planned"),
            *(func.count(case((condition, 1))).label(name) for name, condition in counts.items()),
        )
        .select_from(joined)
        .where(*here, _not_gone)
        .group_by(messages.c.id)
    )


def _gone_but_stored(scope: RunScope, here: tuple[ColumnElement[bool], ...]) -> Select[Any]:
    """Messages gone from the server that an archive can still give to a route that waits for them."""
    return select(func.count()).select_from(_gone_and_due(scope, here).distinct().subquery())


def _gone_and_due(scope: RunScope, here: tuple[ColumnElement[bool], ...]) -> Select[tuple[int]]:
    found = work.backfill_deliveries(scope).where(*here, messages.c.state == number(_M.GONE))
    return found.with_only_columns(messages.c.id)


def _gone_but_asked_for(scope: RunScope, here: tuple[ColumnElement[bool], ...]) -> Select[Any]:
    """Messages gone from the server of which a person has to say what becomes of a delivery; begins with problems."""
    over = [number(state) for state in (_D.PENDING, _D.SENDING)]
    asked = (
        select(messages.c.id)
        .select_from(_trouble.join(deliveries, work.about_delivery))
        .join(messages, messages.c.id == deliveries.c.message_id)
        .where(
            *here,
            messages.c.state == number(_M.GONE),
            _trouble.c.route_id.in_([route.id for route in enabled(scope)]),
            _trouble.c.retry_at.is_(None),
            deliveries.c.state.not_in(over),
            messages.c.id.not_in(_gone_and_due(scope, here)),
        )
    )
    return select(func.count()).select_from(asked.distinct().subquery())


def _delivery_states(
    connection: Connection, scope: RunScope, here: tuple[ColumnElement[bool], ...]
) -> dict[DeliveryState, int]:
    rows = connection.execute(
        select(deliveries.c.state, func.count())
        .select_from(messages.join(deliveries, deliveries.c.message_id == messages.c.id))
        .where(*here, _not_gone, deliveries.c.route_id.in_([route.id for route in enabled(scope)]))
        .group_by(deliveries.c.state)
    )
    return {DeliveryState(state): count for state, count in rows}
