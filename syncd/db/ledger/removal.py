"""Removal at the source: which messages may go, and what is noted of it.

A message may go when every enabled route of every enabled job on its account that reads its mailbox is done with it, at
least one has it, and none has only a damaged copy, or one that its server said to take and did not show. `removing` is
committed before the act and `removed` after it; a crash in between leaves the question to the next listing. An anomaly
freezes the mailbox, something odd about one message that message; both wait for a person.

How long ago a message was delivered is asked of a clock that may be wrong. A machine without a battery begins in 1970,
a typing error is a year: by such a clock mail is old enough to be removed that came yesterday. Runs of an account
happened in the order of their rows; where one began LEAP or more after the one before it, by the clock, that time does
not count: it may never have passed. If it did, because nobody ran the job, mail stays longer than it must, by no more
than the age that is asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    not_,
    or_,
    select,
    true,
)

from syncd import clock
from syncd.db.bulk import many, number, pieces
from syncd.db.instants import MICROSECOND, from_microseconds, to_microseconds
from syncd.db.ledger import mailboxes as boxes
from syncd.db.ledger.comparison import matched, scratch
from syncd.db.ledger.damaged import messages_of
from syncd.db.ledger.outcomes import CLEAR, WRITE
from syncd.db.ledger.scopes import in_present_epoch, of
from syncd.db.models import ABOUT_MESSAGE, deliveries, jobs, mailboxes, messages, problems, routes, runs
from syncd.db.rows import MailboxScope, ProblemKind, RemovalRow, RunScope
from syncd.db.states import FINAL, DeliveryState, Disposal, MessageState, move, moved
from syncd.errors import Conflict, RemovalsFrozen, printable
from syncd.mail.message import ALTERED, Key
from syncd.mail.outcome import Repeat

LEAP: Final = timedelta(days=40)  # longer than a job that runs once a month, or a holiday, leaves between two runs
Apart = Mapping[int, Collection[int]]  # job → mailboxes that it does not read
NOTHING_APART: Final[Apart] = MappingProxyType({})
_FROZEN: Final = messages.c.disposal == number(Disposal.FROZEN)  # word for word the condition of ix_messages_frozen


def removable(  # noqa: PLR0917  what narrows the page
    connection: Connection,
    scope: MailboxScope,
    after_number: int,
    limit: int,
    delivered_before: datetime | None,
    apart: Apart,
) -> list[RemovalRow]:
    """The next messages of the listing in `scratch` that may be removed; none while the mailbox is frozen.

    With `delivered_before` only messages that were delivered for the first time before it.
    """
    wanted = _reading(_wanted_routes(connection, scope.run), scope.mailbox_id, apart)
    if not wanted or boxes.frozen_reason(connection, scope.mailbox_id) is not None:
        return []
    page = (
        _done_with(
            wanted, _told_where(connection, wanted), delivered_before, matched(), scratch.c.number, scratch.c.octets
        )
        .where(
            messages.c.mailbox_id == scope.mailbox_id, messages.c.epoch == scope.epoch, scratch.c.number > after_number
        )
        .group_by(scratch.c.number)
        .order_by(scratch.c.number)
        .limit(limit)
        .subquery("page")
    )
    columns = (
        messages.c.id,
        page.c.number,
        messages.c.uid,
        page.c.octets,
        messages.c.octets,
        messages.c.header_hash,
        messages.c.sha256,
    )
    joined = page.join(messages, messages.c.id == page.c.id)
    rows = connection.execute(select(*columns).select_from(joined).order_by(page.c.number))
    return [RemovalRow(*row) for row in rows]


def due(connection: Connection, scope: RunScope, delivered_before: datetime | None, apart: Apart) -> dict[int, int]:
    """Mailbox → messages of its last listing that may be removed, where there are any; also of frozen mailboxes."""
    wanted = _wanted_routes(connection, scope)
    if not wanted:
        return {}
    special = sorted({mailbox_id for mailbox_ids in apart.values() for mailbox_id in mailbox_ids})
    alike: dict[tuple[int, ...], list[int]] = {}  # routes → the mailboxes that wait for these
    for mailbox_id in special:
        alike.setdefault(tuple(_reading(wanted, mailbox_id, apart)), []).append(mailbox_id)
    others = messages.c.mailbox_id.not_in(special) if special else true()
    counted = _due(connection, scope, list(wanted), delivered_before, others)
    for route_ids, mailbox_ids in alike.items():
        for piece in pieces(mailbox_ids) if route_ids else ():
            here = messages.c.mailbox_id.in_(piece)
            counted |= _due(connection, scope, list(route_ids), delivered_before, here)
    return counted


def waits(connection: Connection, scope: RunScope, delivered_before: datetime | None, apart: Apart) -> dict[str, int]:
    """Other job on the account → messages that it has to be done with first; without them they might be removed."""
    wanted = _wanted_routes(connection, scope)
    own = [route_id for route_id, job_id in wanted.items() if job_id == scope.job_id]
    others = sorted({*wanted.values()} - {scope.job_id})
    found = {}
    for name, job_id in connection.execute(
        select(jobs.c.name, jobs.c.id).where(jobs.c.id.in_(others)).order_by("name")
    ):
        both = [route_id for route_id in wanted if wanted[route_id] in {scope.job_id, job_id}]
        here = messages.c.mailbox_id.not_in(sorted(apart.get(job_id, ())))
        free, free_of_both = (_due(connection, scope, routes, delivered_before, here) for routes in (own, both))
        if waiting := sum(free.values()) - sum(free_of_both.values()):
            found[name] = waiting
    return found


def _due(
    connection: Connection,
    scope: RunScope,
    route_ids: Sequence[int],
    delivered_before: datetime | None,
    where: ColumnElement[bool],
) -> dict[int, int]:
    columns = _done_with(
        route_ids, _told_where(connection, route_ids), delivered_before, messages, messages.c.mailbox_id
    )
    found = columns.where(of(scope), in_present_epoch(), where).subquery("due")
    rows = connection.execute(select(found.c.mailbox_id, func.count().label("messages")).group_by(found.c.mailbox_id))
    return {row.mailbox_id: row.messages for row in rows}


def old_enough(connection: Connection, scope: RunScope, age: timedelta) -> datetime:
    """Returns an instant: what was delivered before it has surely been so for `age`."""
    now = clock.now()
    began = func.coalesce(runs.c.started_at, runs.c.queued_at)
    pairs = (
        select(runs.c.id, began.label("at"), func.lag(began).over(order_by=runs.c.id).label("before"))
        .join(jobs, jobs.c.id == runs.c.job_id)
        .where(jobs.c.account_id == scope.account_id)
        .subquery("pairs")
    )
    leap = LEAP // MICROSECOND
    leaps = select(func.min(pairs.c.before)).where(
        pairs.c.at - pairs.c.before >= leap, pairs.c.at <= to_microseconds(now), pairs.c.at > to_microseconds(now - age)
    )
    begun = [instant for instant in [connection.execute(leaps).scalar()] if instant is not None]
    last = connection.execute(select(pairs.c.at).order_by(pairs.c.id.desc()).limit(1)).scalar()
    if last is not None and to_microseconds(now) - last >= leap:  # in the middle of this run
        begun.append(last)
    return min([now, *map(from_microseconds, begun)]) - age


def mark_removing(connection: Connection, scope: MailboxScope, keys: Sequence[Key]) -> None:
    """The intent. Raises RemovalsFrozen when the mailbox is frozen, Conflict when a message may not be removed."""
    reason = boxes.frozen_reason(connection, scope.mailbox_id)
    if reason is not None:
        raise RemovalsFrozen(f"removals from this mailbox are frozen: {reason}; nothing was removed")
    _dispose(connection, Disposal.REMOVING, keys)


def mark_removed(connection: Connection, keys: Sequence[Key]) -> None:
    """The server agreed to the end of the session. Raises Conflict for a message that was not `removing`."""
    _dispose(connection, Disposal.REMOVED, keys)


def mark_frozen(connection: Connection, scope: RunScope, keys: Sequence[Key], reason: str) -> None:
    """These messages are not removed until a person says so; `reason` is among the problems."""
    _dispose(connection, Disposal.FROZEN, keys)
    now = to_microseconds(clock.now())
    facts = (int(ProblemKind.KEPT), "", False, printable(reason), 1, now, now, None, scope.run_id)
    many(connection, CLEAR, [(key, ABOUT_MESSAGE) for key in keys])
    many(connection, WRITE, [(key, ABOUT_MESSAGE, *facts) for key in keys])


def mark_missing(connection: Connection, keys: Sequence[Key]) -> None:
    """Their ids name other messages by now: the next listing finds those, and what became of these messages.

    Each gets an epoch of its own, a negative number: no line of a listing is taken for it any more, not even from a
    server that shows no headers. Found under another id it is bound again.
    """
    many(connection, _MISS, [(key,) for key in keys])


def thaw(connection: Connection, account_id: int, mailbox_ids: Collection[int] | None = None) -> None:
    """A person lifts the freezes of mailboxes, by default of all that an account has.

    Rows of other epochs stay candidates to be bound again.
    """
    of_account = select(mailboxes.c.id).where(mailboxes.c.account_id == account_id)
    known = set(connection.execute(of_account).scalars())
    chosen = known if mailbox_ids is None else known.intersection(mailbox_ids)
    boxes.thaw(connection, chosen)
    keys: list[Key] = []
    for piece in pieces(list(chosen)):
        frozen = (
            select(messages.c.id)
            .join(mailboxes, mailboxes.c.id == messages.c.mailbox_id)
            .where(mailboxes.c.id.in_(piece), messages.c.epoch == mailboxes.c.epoch, _FROZEN)
        )
        keys += map(Key, connection.execute(frozen).scalars())
    for piece in pieces(keys):
        notes = (problems.c.route_id == ABOUT_MESSAGE, problems.c.kind == number(ProblemKind.KEPT))
        connection.execute(delete(problems).where(problems.c.message_id.in_(piece), *notes))
    _dispose(connection, Disposal.KEPT, keys)


# --- statements ----------------------------------------------------------------------------------------


_MISS: Final = (
    move(messages.c.state, MessageState.MISSING, only=(MessageState.FETCHED,))
    .values(disposal=moved(messages.c.disposal, Disposal.FROZEN), epoch=-messages.c.id)
    .where(messages.c.id == bindparam("key"))
)
_DISPOSE: Final = {
    target: move(messages.c.disposal, target).where(messages.c.id == bindparam("key"))
    for target in (Disposal.KEPT, Disposal.REMOVING, Disposal.REMOVED, Disposal.FROZEN)
}


def _dispose(connection: Connection, target: Disposal, keys: Sequence[Key]) -> None:
    if many(connection, _DISPOSE[target], [(key,) for key in keys]) != len(keys):
        raise Conflict(f"a message that should be {target.name} is in a state that does not allow it; run again")


def _wanted_routes(connection: Connection, scope: RunScope) -> dict[int, int]:
    """Every enabled route of every enabled job on the account → its job; none where the scope's job is not enabled."""
    rows = connection.execute(
        select(routes.c.id, routes.c.job_id)
        .join(jobs, jobs.c.id == routes.c.job_id)
        .where(jobs.c.account_id == scope.account_id, jobs.c.enabled, routes.c.enabled)
    ).all()
    return {row.id: row.job_id for row in rows} if any(row.job_id == scope.job_id for row in rows) else {}


def _reading(wanted: Mapping[int, int], mailbox_id: int, apart: Apart) -> list[int]:
    """Returns the routes of the jobs that read a mailbox."""
    return [route_id for route_id, job_id in wanted.items() if mailbox_id not in apart.get(job_id, ())]


def _told_where(connection: Connection, route_ids: Sequence[int]) -> list[int]:
    """Returns those of the routes that say where they have a message, if they could find it: IMAP accounts."""
    asked = (routes.c.kind == "account", routes.c.repeat == Repeat.ASKED.value)
    return list(connection.execute(select(routes.c.id).where(routes.c.id.in_(route_ids), *asked)).scalars())


def _done_with(
    wanted: Sequence[int],
    asked: Sequence[int],
    delivered_before: datetime | None,
    source: FromClause,
    *columns: Any,
) -> Select[Any]:
    """Messages of `source` that each of the `wanted` routes is done with, grouped by their id.

    Those of the routes that are `asked` (see `_told_where`) must know where they have it.
    """
    nowhere = or_(deliveries.c.receipt.is_(None), deliveries.c.receipt.startswith(ALTERED, autoescape=True))
    unseen = and_(deliveries.c.route_id.in_(asked), nowhere)
    delivered = deliveries.c.state == number(DeliveryState.DELIVERED)
    done = and_(deliveries.c.state.in_([number(state) for state in sorted(FINAL)]), not_(and_(delivered, unseen)))
    found = (
        select(messages.c.id, *columns)
        .select_from(source.join(deliveries, deliveries.c.message_id == messages.c.id))
        .where(
            messages.c.state != number(MessageState.GONE),  # for ix_messages_present
            messages.c.state == number(MessageState.FETCHED),
            messages.c.disposal != number(Disposal.FROZEN),
            messages.c.id.not_in(messages_of(list(wanted))),
            deliveries.c.route_id.in_(wanted),
        )
        .group_by(messages.c.id)
        .having(func.count(case((done, 1))) == len(wanted), func.count(case((delivered, 1))) > 0)
    )
    if delivered_before is None:
        return found
    first = func.min(case((delivered, deliveries.c.at)))
    return found.having(first < bindparam("before", int(delivered_before.timestamp()), BigInteger))
