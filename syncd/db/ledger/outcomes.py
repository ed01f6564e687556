"""What became of a batch: messages stored, deliveries moved, problems written and cleared; all in one transaction.

Every UPDATE names the states it may come from (`states.py`), so no row makes an illegal move; where fewer rows moved
than were given, the rest must stand where they were to go (an outcome that is told twice), or it is a Conflict.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from sqlalchemy import Connection, Text, Update, bindparam, case, delete, func, insert, select, update

from syncd import clock
from syncd.db.bulk import many, number, pieces
from syncd.db.instants import to_microseconds
from syncd.db.models import ABOUT_MESSAGE, deliveries, doubts, messages, problems
from syncd.db.rows import Scope
from syncd.db.states import DELIVERY_MOVES, UNSETTLED, DeliveryState, MessageState, origins
from syncd.destinations.base import Outcome, Verdict
from syncd.errors import Conflict, Retry, SyncdError, printable
from syncd.errors import Scope as ErrorScope

Stored = tuple[int, int, bytes, bytes]  # key, octets, sha256, header_hash
_Row = tuple[int | None, str | None, int, int]  # at, hint, key, route

# After the first failure five minutes, and so on; when they are used up a person decides. A broken mailbox is seldom
# mended within the hour.
BACKOFF: Final = (timedelta(minutes=5), timedelta(hours=1), timedelta(days=1), timedelta(days=1))
_STEPS: Final = {Retry.NOW: (timedelta(), *BACKOFF), Retry.LATER: BACKOFF, Retry.NEVER: ()}
# Of deliveries: five days and more in all (RFC 5321 §4.5.4.1 asks for four to five), the first steps for greylisting,
# which lets a message in after 5 to 15 minutes (RFC 6647 §4.1).
DELIVERY_BACKOFF: Final = (
    *(timedelta(minutes=minutes) for minutes in (5, 15, 30)),
    *(timedelta(hours=hours) for hours in (1, 2, 4, 8, 12, 24, 24, 24, 24)),
)
MAX_REASON: Final = 500  # characters

_TARGETS: Final = {
    Verdict.SENDING: DeliveryState.SENDING,
    Verdict.DELIVERED: DeliveryState.DELIVERED,
    Verdict.DEFERRED: DeliveryState.DEFERRED,
    Verdict.REJECTED: DeliveryState.REJECTED,
    Verdict.UNCERTAIN: DeliveryState.UNCERTAIN,
    Verdict.NOT_SENT: DeliveryState.PENDING,
}
_BY_A_RUN: Final = UNSETTLED | {DeliveryState.UNCERTAIN}  # the moves from other states are a person's

_fetched = case(
    (
        messages.c.state.in_([number(MessageState.LISTED), number(MessageState.UNFETCHABLE)]),
        number(MessageState.FETCHED),
    ),
    else_=messages.c.state,  # read from an archive: whether it is listed is not known from that
)
STORE: Final = (
    update(messages)
    .values(state=_fetched, octets=bindparam("size"), sha256=bindparam("digest"), header_hash=bindparam("header"))
    .where(messages.c.id == bindparam("key"))
)
_FAIL: Final = (
    update(messages)
    .values(state=number(MessageState.UNFETCHABLE))
    .where(messages.c.id == bindparam("key"), messages.c.state == number(MessageState.LISTED))
)
CLEAR: Final = delete(problems).where(
    problems.c.message_id == bindparam("key"), problems.c.route_id == bindparam("route")
)
_KNOWN: Final = select(problems.c.message_id, problems.c.route_id, problems.c.attempts, problems.c.first_at).where(
    problems.c.message_id.between(bindparam("lowest"), bindparam("highest"))
)
WRITE: Final = insert(problems).values({column.name: bindparam(column.name) for column in problems.c})


def _move(target: DeliveryState) -> Update:
    before = origins(DELIVERY_MOVES, target) & _BY_A_RUN
    hint = bindparam("hint", type_=Text)
    receipt = hint if target is DeliveryState.DELIVERED else func.coalesce(hint, deliveries.c.receipt)
    return (
        update(deliveries)
        .values(state=number(target), at=bindparam("now"), receipt=receipt)
        .where(
            deliveries.c.message_id == bindparam("key"),
            deliveries.c.route_id == bindparam("route"),
            deliveries.c.state.in_([number(state) for state in sorted(before)]),
        )
    )


_MOVES: Final = {target: _move(target) for target in _TARGETS.values()}
_DOUBT: Final = insert(doubts).values(
    message_id=bindparam("key"),
    route_id=bindparam("route"),
    run_id=bindparam("run"),
    at=bindparam("now"),
    reason=bindparam("why"),
    noted=bindparam("noted"),
)


class _Trouble(NamedTuple):
    """Something to be written to `problems`. `retry_at` (microseconds) stands for the next of the `steps`.

    When there is no step left, it waits for a person. One that waits for a time that the server named, or until a
    limit allows more, has taken none: it waits for a person when the steps would have been over.
    """

    reason: str
    steps: Sequence[timedelta]
    retry_at: int | None = None
    told: bool = False  # `retry_at` is not ours to choose


def commit(
    connection: Connection,
    scope: Scope,
    stored: Sequence[Stored],
    outcomes: Sequence[tuple[int, Outcome]],
    failures: Sequence[tuple[int, SyncdError]],
) -> None:
    """Write what became of a batch, see `Ledger.commit`."""
    now = clock.now()
    store(connection, stored)
    _record_doubts(connection, scope, to_microseconds(now), outcomes)
    moved = _by_target(outcomes, int(now.timestamp()))
    for target, rows in moved.items():
        _settle(connection, target, rows)
    many(connection, _FAIL, [(key,) for key, _ in failures])
    troubles = {(key, ABOUT_MESSAGE): _fetch_trouble(error) for key, error in failures}
    for route_id, outcome in outcomes:
        if outcome.verdict not in {Verdict.DELIVERED, Verdict.SENDING}:
            troubles[outcome.key, route_id] = _delivery_trouble(outcome)
    known = _known_problems(
        connection, [row[0] for row in stored] + [o.key for _, o in outcomes] + [f[0] for f in failures]
    )
    if known:  # seldom: what went well is not looked through for nothing
        over = ((o.key, route_id) for route_id, o in outcomes if o.verdict is not Verdict.SENDING)
        about = {(key, ABOUT_MESSAGE) for key, *_ in stored}.union(over)
        known = {row: tries for row, tries in known.items() if row in about or row in troubles}
    _write_problems(connection, scope.run_id, to_microseconds(now), known, troubles)


def store(connection: Connection, stored: Sequence[Stored]) -> None:
    """Note what was received. Raises Conflict for a message that is not in the ledger."""
    rows = [(octets, sha256, header_hash, key) for key, octets, sha256, header_hash in stored]
    if many(connection, STORE, rows) != len(rows):
        raise Conflict("the ledger has no row for a message that was fetched; run again")


def _by_target(outcomes: Sequence[tuple[int, Outcome]], now: int) -> dict[DeliveryState, list[_Row]]:
    """Rows for the statements of `_MOVES`."""
    moved: dict[DeliveryState, list[_Row]] = defaultdict(list)
    for route_id, (key, verdict, receipt, *_) in outcomes:
        hint = (receipt.hint or None) if receipt is not None else None
        moved[_TARGETS[verdict]].append((None if verdict is Verdict.NOT_SENT else now, hint, key, route_id))
    return moved


def _settle(connection: Connection, target: DeliveryState, rows: Sequence[_Row]) -> None:
    if many(connection, _MOVES[target], rows) == len(rows):
        return
    states = delivery_states(connection, [key for _, _, key, _ in rows])
    for _, _, key, route_id in rows:
        state = states.get((key, route_id))
        if state is not target:
            was = "is not planned" if state is None else f"is {state.name}"
            raise Conflict(f"message {key} on route {route_id} {was} and may not become {target.name}; run again")


def delivery_states(connection: Connection, keys: Sequence[int]) -> dict[tuple[int, int], DeliveryState]:
    """Message and route → state."""
    columns = (deliveries.c.message_id, deliveries.c.route_id, deliveries.c.state)
    return {
        (key, route_id): DeliveryState(state)
        for piece in pieces(keys)
        for key, route_id, state in connection.execute(select(*columns).where(deliveries.c.message_id.in_(piece)))
    }


# --- problems ------------------------------------------------------------------------------------------


def _record_doubts(connection: Connection, scope: Scope, now: int, outcomes: Sequence[tuple[int, Outcome]]) -> None:
    """One row for each delivery that becomes uncertain; told twice is told once."""
    uncertain = [(route_id, outcome) for route_id, outcome in outcomes if outcome.verdict is Verdict.UNCERTAIN]
    if not uncertain:
        return
    states = delivery_states(connection, [outcome.key for _, outcome in uncertain])
    rows = [
        (outcome.key, route_id, scope.run_id, now, printable(outcome.reason, MAX_REASON), False)
        for route_id, outcome in uncertain
        if states.get((outcome.key, route_id)) is not DeliveryState.UNCERTAIN
    ]
    many(connection, _DOUBT, rows)


def _fetch_trouble(error: SyncdError) -> _Trouble:
    assert error.scope is ErrorScope.MESSAGE, "an error that reaches further says nothing of the message"
    return _Trouble(str(error), _STEPS[error.retry])


def _delivery_trouble(outcome: Outcome) -> _Trouble:
    steps = DELIVERY_BACKOFF if outcome.verdict in {Verdict.DEFERRED, Verdict.NOT_SENT} else ()
    when, told = outcome.retry_at, outcome.retry_at is not None
    if when is None and outcome.verdict is Verdict.NOT_SENT:
        when = clock.now()  # surely not sent: nothing speaks against trying at once
    return _Trouble(
        outcome.reason or outcome.verdict.value, steps, None if when is None else to_microseconds(when), told
    )


def _write_problems(
    connection: Connection,
    run_id: int,
    now: int,
    known: Mapping[tuple[int, int], tuple[int, int]],
    troubles: Mapping[tuple[int, int], _Trouble],
) -> None:
    """Replace the rows of `troubles`, counting their attempts; the other `known` ones are over and go.

    A note on a frozen removal (no attempts) is not about fetching and stays.
    """
    many(connection, CLEAR, [about for about, (attempts, _) in known.items() if attempts or about in troubles])
    rows = []
    for (key, route_id), trouble in troubles.items():
        attempts, first_at = known.get((key, route_id), (0, now))
        attempts = max(attempts, 1) if trouble.told else attempts + 1
        retry_at = _next_try(trouble, attempts, now, first_at)
        reason = printable(trouble.reason, MAX_REASON)
        rows.append((key, route_id, reason, attempts, first_at, now, retry_at, run_id))
    many(connection, WRITE, rows)


def _known_problems(connection: Connection, keys: Sequence[int]) -> dict[tuple[int, int], tuple[int, int]]:
    """Attempts and first instant of all problems of messages between the lowest and the highest of `keys`."""
    if not keys:
        return {}
    rows = connection.execute(_KNOWN, {"lowest": min(keys), "highest": max(keys)})
    return {(key, route): (attempts, first) for key, route, attempts, first in rows}


def _next_try(trouble: _Trouble, attempts: int, now: int, first_at: int) -> int | None:
    """When to try again after so many failures, in microseconds; None when it is for a person to say."""
    if attempts > len(trouble.steps):
        return None
    if trouble.told and now - first_at > sum(trouble.steps, timedelta()) // timedelta(microseconds=1):
        return None
    return trouble.retry_at or now + trouble.steps[attempts - 1] // timedelta(microseconds=1)
