"""Which messages may be removed at their source, and what is noted of it.

A message may go when every enabled route of every enabled job on its account is done with it and at least one holds
it, and none holds it damaged. `removing` is committed before the act and `removed` after it; in between a crash leaves
the question to the next listing. An anomaly freezes the account, a doubt about one message that message; both wait for
a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, FromClause, Select, bindparam, case, delete, func, select, update

from syncd import clock
from syncd.db.bulk import many, number, pieces
from syncd.db.instants import to_microseconds
from syncd.db.ledger.comparison import matched, scratch
from syncd.db.ledger.damaged import messages_of
from syncd.db.ledger.outcomes import CLEAR, WRITE
from syncd.db.models import ABOUT_MESSAGE, accounts, deliveries, jobs, mailboxes, messages, problems, routes
from syncd.db.rows import RemovalRow, Scope
from syncd.db.states import DISPOSAL_MOVES, FINAL, DeliveryState, Disposal, MessageState, origins
from syncd.errors import Conflict, RemovalsFrozen, printable

_FROZEN: Final = messages.c.disposal == number(Disposal.FROZEN)  # word for word the condition of ix_messages_frozen
# The intent is repeated after a session that failed; what was `removed` and is listed all the same goes again.
_AGAIN: Final = {Disposal.REMOVING: frozenset({Disposal.REMOVING, Disposal.REMOVED})}


def removable(
    connection: Connection, scope: Scope, after_number: int, limit: int, delivered_before: datetime | None
) -> list[RemovalRow]:
    """The next messages of the listing in `scratch` that may be removed; none while the account is frozen.

    With `delivered_before` only those that were delivered for the first time before it.
    """
    wanted = _wanted_routes(connection, scope)
    if not wanted or frozen_reason(connection, scope.account_id) is not None:
        return []
    page = (
        _done_with(scope, wanted, delivered_before, matched(), scratch.c.number, scratch.c.octets)
        .where(scratch.c.number > after_number)
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


def count_due(connection: Connection, scope: Scope, delivered_before: datetime | None) -> int:
    """How many messages present in the last listing may be removed, the account's being frozen not considered."""
    wanted = _wanted_routes(connection, scope)
    if not wanted:
        return 0
    due = _done_with(scope, wanted, delivered_before, messages).subquery("due")
    return connection.execute(select(func.count()).select_from(due)).scalar_one()


def mark_removing(connection: Connection, scope: Scope, keys: Sequence[int]) -> None:
    """The intent. Raises RemovalsFrozen when the account is frozen, Conflict when a message may not be removed."""
    reason = frozen_reason(connection, scope.account_id)
    if reason is not None:
        raise RemovalsFrozen(f"removals at this account are frozen: {reason}; nothing was removed")
    _dispose(connection, Disposal.REMOVING, keys)


def mark_removed(connection: Connection, keys: Sequence[int]) -> None:
    """The server agreed to the end of the session. Raises Conflict for a message that was not `removing`."""
    _dispose(connection, Disposal.REMOVED, keys)


def mark_frozen(connection: Connection, scope: Scope, keys: Sequence[int], reason: str) -> None:
    """These are not removed until a person says so; `reason` stands among the problems."""
    _dispose(connection, Disposal.FROZEN, keys)
    now = to_microseconds(clock.now())
    note = (ABOUT_MESSAGE, printable(reason), 0, now, now, None, scope.run_id)
    many(connection, CLEAR, [(key, ABOUT_MESSAGE) for key in keys])
    many(connection, WRITE, [(key, *note) for key in keys])


def mark_missing(connection: Connection, keys: Sequence[int]) -> None:
    """Their ids name other messages by now: the next listing sees to those, and to what became of these."""
    many(connection, _MISS, [(key,) for key in keys])


def freeze(connection: Connection, account_id: int, reason: str) -> None:
    """Freeze removals at an account. One that is frozen keeps its first reason."""
    connection.execute(
        update(accounts)
        .where(accounts.c.id == account_id, accounts.c.frozen_at.is_(None))
        .values(frozen_at=to_microseconds(clock.now()), frozen_reason=printable(reason))
    )


def thaw(connection: Connection, account_id: int) -> None:
    """A person lifts it, for the account and its messages. Rows of earlier epochs stay candidates to be bound again."""
    connection.execute(update(accounts).where(accounts.c.id == account_id).values(frozen_at=None, frozen_reason=None))
    joined = messages.join(mailboxes, mailboxes.c.id == messages.c.mailbox_id)
    frozen = (
        select(messages.c.id)
        .select_from(joined)
        .where(mailboxes.c.account_id == account_id, messages.c.epoch == mailboxes.c.epoch, _FROZEN)
    )
    keys = list(connection.execute(frozen).scalars())
    for piece in pieces(keys):
        about = (problems.c.message_id.in_(piece), problems.c.route_id == ABOUT_MESSAGE, problems.c.attempts == 0)
        connection.execute(delete(problems).where(*about))
    _dispose(connection, Disposal.KEPT, keys)


def frozen_reason(connection: Connection, account_id: int) -> str | None:
    """Why removals at the account stand still; None if they do not."""
    row = connection.execute(
        select(accounts.c.frozen_reason).where(accounts.c.id == account_id, accounts.c.frozen_at.is_not(None))
    ).first()
    return None if row is None else str(row.frozen_reason)


# --- statements ----------------------------------------------------------------------------------------


def _moves(target: Disposal) -> Any:
    before = origins(DISPOSAL_MOVES, target) | _AGAIN.get(target, frozenset())
    return (
        update(messages)
        .values(disposal=number(target))
        .where(messages.c.id == bindparam("key"), messages.c.disposal.in_([number(state) for state in sorted(before)]))
    )


_MISS: Final = (
    update(messages)
    .values(state=number(MessageState.MISSING))
    .where(messages.c.id == bindparam("key"), messages.c.state == number(MessageState.FETCHED))
)
_DISPOSE: Final = {target: _moves(target) for target in Disposal}


def _dispose(connection: Connection, target: Disposal, keys: Sequence[int]) -> None:
    if many(connection, _DISPOSE[target], [(key,) for key in keys]) != len(keys):
        raise Conflict(f"a message that should be {target.name} is in a state that does not allow it; run again")


def _wanted_routes(connection: Connection, scope: Scope) -> list[int]:
    """Every enabled route of every enabled job on the account; none when the scope's own job is not among them."""
    rows = connection.execute(
        select(routes.c.id, routes.c.job_id)
        .join(jobs, jobs.c.id == routes.c.job_id)
        .where(jobs.c.account_id == scope.account_id, jobs.c.enabled, routes.c.enabled)
    ).all()
    return [row.id for row in rows] if any(row.job_id == scope.job_id for row in rows) else []


def _done_with(
    scope: Scope, wanted: Sequence[int], delivered_before: datetime | None, source: FromClause, *columns: Any
) -> Select[Any]:
    """Messages of `source` that each of the `wanted` routes is done with, grouped by their id."""
    delivered = deliveries.c.state == number(DeliveryState.DELIVERED)
    done = deliveries.c.state.in_([number(state) for state in sorted(FINAL)])
    found = (
        select(messages.c.id, *columns)
        .select_from(source.join(deliveries, deliveries.c.message_id == messages.c.id))
        .where(
            messages.c.mailbox_id == scope.mailbox_id,
            messages.c.state != number(MessageState.GONE),  # for ix_messages_present
            messages.c.state == number(MessageState.FETCHED),
            messages.c.epoch == scope.epoch,
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
