"""Where everything stands: counts for a run's full accounting."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, exists, func, or_, select

from syncd import clock
from syncd.db.bulk import number
from syncd.db.instants import to_microseconds
from syncd.db.ledger import work as due
from syncd.db.models import ABOUT_MESSAGE, deliveries, messages, problems
from syncd.db.rows import Accounting, Scope
from syncd.db.states import UNSETTLED, WAITS_FOR_PERSON, DeliveryState, Disposal, MessageState

_trouble, _fetching = due.trouble, due.fetching
_D, _M = DeliveryState, MessageState
_not_gone = messages.c.state != number(_M.GONE)  # for ix_messages_present


def accounting(connection: Connection, scope: Scope) -> Accounting:
    """Count; see `Accounting`. Messages that are gone are only counted, however many the years have brought."""
    now = {"now": to_microseconds(clock.now())}
    here = (messages.c.mailbox_id == scope.mailbox_id, messages.c.epoch == scope.epoch)
    states: Counter[MessageState] = Counter()
    groups = [0, 0, 0, 0]
    undelivered = 0
    for state, messages_, lacking, *counts in connection.execute(_grouped(scope, here), now):
        states[MessageState(state)] = messages_
        undelivered += lacking
        groups = [known + more for known, more in zip(groups, counts, strict=True)]
    gone = _count(connection, select(func.count()).where(*here)) - states.total()
    if gone:
        states[_M.GONE] = gone
    to_pass_on = _count(connection, _gone_but_held(scope, here), now) if gone else 0
    asked_for = _count(connection, _gone_but_asked_for(scope, here), now) if gone else 0
    ready, time, person, final = groups
    return Accounting(
        messages=states,
        deliveries=_delivery_states(connection, scope, here),
        undelivered=undelivered,
        due=ready + to_pass_on,
        waiting_time=time,
        waiting_person=person + asked_for,
        final=final + gone - to_pass_on - asked_for,
    )


def any_problem(scope: Scope) -> Select[tuple[int]]:
    """Selects a row if anything went wrong and is not over, with a delivery of the job or a message of its mailbox."""
    routes_ = [route.id for route in due.enabled(scope)]
    here = exists().where(messages.c.id == problems.c.message_id, messages.c.mailbox_id == scope.mailbox_id, _not_gone)
    about_message = and_(problems.c.route_id == ABOUT_MESSAGE, here)
    return select(problems.c.message_id).where(or_(problems.c.route_id.in_(routes_), about_message)).limit(1)


def queues(connection: Connection, scope: Scope) -> dict[str, int]:
    """Mail server (by name) → deliveries to its recipients that go on without a person, where there are any."""
    found: Counter[str] = Counter()
    names = {route.id: route.name for route in due.enabled(scope) if route.kind == "account"}
    joined = deliveries.join(messages, messages.c.id == deliveries.c.message_id).outerjoin(_trouble, due.about_delivery)
    by_itself = or_(deliveries.c.state != number(_D.DEFERRED), _trouble.c.retry_at.is_not(None))
    waiting = (
        select(deliveries.c.route_id, func.count())
        .select_from(joined)
        .where(
            deliveries.c.route_id.in_(names),
            due.is_open,
            deliveries.c.state.in_([number(state) for state in sorted(UNSETTLED)]),
            by_itself,
            messages.c.mailbox_id == scope.mailbox_id,
            messages.c.epoch == scope.epoch,
            or_(_not_gone, due.in_archive(scope)),
        )
        .group_by(deliveries.c.route_id)
    )
    for route_id, count in connection.execute(waiting):
        found[names[route_id]] += count
    return dict(found)


def _count(connection: Connection, query: Select[Any], parameters: Mapping[str, int] | None = None) -> int:
    return int(connection.execute(query, parameters).scalar_one())


def _grouped(scope: Scope, here: tuple[ColumnElement[bool], ...]) -> Select[Any]:
    """State, messages, pairs without a row, and messages in each of the four groups."""
    each = _each_message(scope, here).subquery("each")
    listed = each.c.state != number(_M.MISSING)
    wanted = len(due.enabled(scope))
    lacking = case((listed, number(wanted) - each.c.planned), else_=number(0))
    fetched_now = or_(
        each.c.state.in_([number(_M.LISTED), number(_M.FETCHED)]), each.c.archived > 0, each.c.retry_at <= due.NOW
    )
    fetched_later = or_(each.c.state == number(_M.MISSING), each.c.retry_at > due.NOW)
    group = case(
        (and_(fetched_now, or_(each.c.due > 0, lacking > 0)), 0),
        (and_(fetched_later, or_(each.c.due > 0, lacking > 0)), 1),
        (and_(or_(fetched_now, fetched_later), each.c.later > 0), 1),
        (or_(each.c.due > 0, lacking > 0, each.c.later > 0, each.c.person > 0), 2),
        else_=3,
    )
    counts = [func.count(case((group == nth, 1))) for nth in range(4)]
    return select(each.c.state, func.count(), func.sum(lacking), *counts).group_by(each.c.state)


def _each_message(scope: Scope, here: tuple[ColumnElement[bool], ...]) -> Select[Any]:
    """One row for each message that is not gone: its state, and how many of its deliveries stand how."""
    routes_ = [route.id for route in due.enabled(scope)]
    archives_ = [route.id for route in due.archive_routes(scope)]
    state = deliveries.c.state
    person = or_(
        state.in_([number(value) for value in sorted(WAITS_FOR_PERSON)]),
        and_(state == number(_D.DEFERRED), _trouble.c.retry_at.is_(None)),
        and_(state == number(_D.DELIVERED), _trouble.c.message_id.is_not(None)),
        messages.c.disposal == number(Disposal.FROZEN),
    )
    later = and_(state.in_([number(_D.PENDING), number(_D.DEFERRED)]), _trouble.c.retry_at > due.NOW)
    sound = _trouble.c.message_id.is_(None)  # of what is delivered: an archive can give it back
    in_archive = and_(state == number(_D.DELIVERED), deliveries.c.route_id.in_(archives_), sound)
    joined = (
        messages.outerjoin(
            deliveries, and_(deliveries.c.message_id == messages.c.id, deliveries.c.route_id.in_(routes_))
        )
        .outerjoin(_trouble, due.about_delivery)
        .outerjoin(_fetching, and_(_fetching.c.message_id == messages.c.id, _fetching.c.route_id == ABOUT_MESSAGE))
    )
    counts = {
        "due": or_(due.is_due, state == number(_D.SENDING)),
        "later": later,
        "person": person,
        "archived": in_archive,
    }
    return (
        select(
            messages.c.state,
            func.max(_fetching.c.retry_at).label("retry_at"),
            func.count(deliveries.c.route_id).label("planned"),
            *(func.count(case((condition, 1))).label(name) for name, condition in counts.items()),
        )
        .select_from(joined)
        .where(*here, _not_gone)
        .group_by(messages.c.id)
    )


def _gone_but_held(scope: Scope, here: tuple[ColumnElement[bool], ...]) -> Select[Any]:
    """Messages gone from the server that an archive can still pass on to a route that waits for them."""
    return select(func.count()).select_from(_gone_and_due(scope, here).distinct().subquery())


def _gone_and_due(scope: Scope, here: tuple[ColumnElement[bool], ...]) -> Select[tuple[int]]:
    found = due.stray_deliveries(scope).where(*here, messages.c.state == number(_M.GONE))
    return found.with_only_columns(messages.c.id)


def _gone_but_asked_for(scope: Scope, here: tuple[ColumnElement[bool], ...]) -> Select[Any]:
    """Messages gone from the server of which a person has to say what becomes of a delivery; begins with problems."""
    over = [number(state) for state in (_D.PENDING, _D.SENDING)]
    asked = (
        select(messages.c.id)
        .select_from(_trouble.join(deliveries, due.about_delivery))
        .join(messages, messages.c.id == deliveries.c.message_id)
        .where(
            *here,
            messages.c.state == number(_M.GONE),
            _trouble.c.route_id.in_([route.id for route in due.enabled(scope)]),
            _trouble.c.retry_at.is_(None),
            deliveries.c.state.not_in(over),
            messages.c.id.not_in(_gone_and_due(scope, here)),
        )
    )
    return select(func.count()).select_from(asked.distinct().subquery())


def _delivery_states(
    connection: Connection, scope: Scope, here: tuple[ColumnElement[bool], ...]
) -> dict[DeliveryState, int]:
    rows = connection.execute(
        select(deliveries.c.state, func.count())
        .select_from(messages.join(deliveries, deliveries.c.message_id == messages.c.id))
        .where(*here, _not_gone, deliveries.c.route_id.in_([route.id for route in due.enabled(scope)]))
        .group_by(deliveries.c.state)
    )
    return {DeliveryState(state): count for state, count in rows}
