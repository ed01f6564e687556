"""Writes what became of a batch: messages stored, deliveries moved, problems written and cleared; in one transaction.

Every UPDATE names the states it may come from (`states.move`), so no row makes an illegal move; where fewer rows moved
than were given, the rest must stand where they were to go (an outcome that is told twice), or it is a Conflict.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import Connection, Text, Update, bindparam, delete, func, insert, select, update

from syncd import clock
from syncd.db.bulk import many, pieces
from syncd.db.instants import from_microseconds, to_microseconds
from syncd.db.ledger import intents
from syncd.db.ledger.backoff import DELIVERY, FETCH_STEPS, Steps, next_try
from syncd.db.models import ABOUT_MESSAGE, deliveries, messages, problems, uncertain_outcomes
from syncd.db.rows import ProblemKind, RunScope
from syncd.db.states import DELIVERY_MOVES, GOES_ON, DeliveryState, MessageState, move, moved
from syncd.errors import Conflict, Scope, SyncdError, printable
from syncd.mail.message import Key
from syncd.mail.outcome import Outcome, Verdict

Stored = tuple[Key, int, bytes, bytes]  # key, octets, sha256, header_hash
Place = tuple[Key, int]  # message, route or ABOUT_MESSAGE
_Row = tuple[int | None, str | None, Key, int]  # at, hint, key, route

MAX_REASON: Final = 500  # characters

_TARGETS: Final = {
    Verdict.SENDING: DeliveryState.SENDING,
    Verdict.DELIVERED: DeliveryState.DELIVERED,
    Verdict.DEFERRED: DeliveryState.DEFERRED,
    Verdict.REJECTED: DeliveryState.REJECTED,
    Verdict.UNCERTAIN: DeliveryState.UNCERTAIN,
    Verdict.SKIPPED: DeliveryState.SKIPPED,
    Verdict.NOT_SENT: DeliveryState.PENDING,
}
_BY_A_RUN: Final = GOES_ON | {DeliveryState.UNCERTAIN}  # the moves from other states are a person's

NEVER_FETCHED: Final = (MessageState.LISTED, MessageState.UNFETCHABLE)
STORE: Final = (
    update(messages)
    .values(
        # a message that was read from an archive may be listed or not
        state=moved(messages.c.state, MessageState.FETCHED, only=NEVER_FETCHED),
        octets=bindparam("size"),
        sha256=bindparam("digest"),
        header_hash=bindparam("header"),
    )
    .where(messages.c.id == bindparam("key"))
)
_FAIL: Final = move(messages.c.state, MessageState.UNFETCHABLE, only=(MessageState.LISTED,)).where(
    messages.c.id == bindparam("key")
)
CLEAR: Final = delete(problems).where(
    problems.c.message_id == bindparam("key"), problems.c.route_id == bindparam("route")
)
_KNOWN: Final = select(
    problems.c.message_id,
    problems.c.route_id,
    problems.c.kind,
    problems.c.insisted,
    problems.c.attempts,
    problems.c.first_at,
).where(problems.c.message_id.between(bindparam("lowest"), bindparam("highest")))
WRITE: Final = insert(problems).values({column.name: bindparam(column.name) for column in problems.c})


def move_delivery(target: DeliveryState, only: Sequence[DeliveryState] | None = None) -> Update:
    """Returns the statement for `many` that moves deliveries: rows of (at, key, route)."""
    return (
        move(deliveries.c.state, target, only)
        .values(at=bindparam("now"))
        .where(deliveries.c.message_id == bindparam("key"), deliveries.c.route_id == bindparam("route"))
    )


def _outcome(target: DeliveryState) -> Update:
    """Rows of (at, hint, key, route). A hint that is not told stays, except of what is delivered."""
    by_a_run = [state for state, reachable in DELIVERY_MOVES.items() if target in reachable and state in _BY_A_RUN]
    hint = bindparam("hint", type_=Text)
    receipt = hint if target is DeliveryState.DELIVERED else func.coalesce(hint, deliveries.c.receipt)
    return (
        move(deliveries.c.state, target, by_a_run)
        .values(at=bindparam("now"), receipt=receipt)
        .where(deliveries.c.message_id == bindparam("key"), deliveries.c.route_id == bindparam("route"))
    )


_OUTCOMES: Final = {target: _outcome(target) for target in _TARGETS.values()}
_RECORD: Final = insert(uncertain_outcomes).values(
    message_id=bindparam("key"),
    route_id=bindparam("route"),
    run_id=bindparam("run"),
    at=bindparam("now"),
    reason=bindparam("why"),
    noted=bindparam("noted"),
)


class _Trouble(NamedTuple):
    """Something to be written to `problems`.

    `named` is a time that a server or a limit of ours has set: no failed attempt. With `at_once` nothing speaks
    against trying again now.
    """

    kind: ProblemKind
    reason: str
    steps: Steps
    code: str = ""
    named: datetime | None = None
    at_once: bool = False


class _Known(NamedTuple):
    """A problem as it stands."""

    kind: ProblemKind
    insisted: bool
    attempts: int
    first_at: datetime


def commit(
    connection: Connection,
    scope: RunScope,
    stored: Sequence[Stored],
    outcomes: Sequence[tuple[int, Outcome]],
    failures: Sequence[tuple[Key, SyncdError]],
) -> None:
    """Write what became of a batch, see `Ledger.commit`."""
    now = clock.now()
    store(connection, stored)
    _record_uncertain(connection, scope, now, outcomes)
    intents.write(connection, outcomes)
    for target, rows in _by_target(outcomes, int(now.timestamp())).items():
        _move_all(connection, target, rows)
    many(connection, _FAIL, [(key,) for key, _ in failures])
    troubles = {(key, ABOUT_MESSAGE): _fetch_trouble(error) for key, error in failures}
    for route_id, outcome in outcomes:
        if outcome.verdict not in {Verdict.DELIVERED, Verdict.SENDING, Verdict.SKIPPED}:
            troubles[outcome.key, route_id] = _delivery_trouble(outcome)
    keys = [row[0] for row in stored] + [outcome.key for _, outcome in outcomes] + [key for key, _ in failures]
    known = _known_problems(connection, keys)
    if known:  # seldom: what went well is not looked through for nothing
        over = ((o.key, route_id) for route_id, o in outcomes if o.verdict is not Verdict.SENDING)
        about = {(key, ABOUT_MESSAGE) for key, *_ in stored}.union(over)
        known = {place: row for place, row in known.items() if place in about or place in troubles}
    _write_problems(connection, scope.run_id, now, known, troubles)


def store(connection: Connection, stored: Sequence[Stored]) -> None:
    """Note what was received. Raises Conflict for a message that is not in the ledger."""
    rows = [(octets, sha256, header_hash, key) for key, octets, sha256, header_hash in stored]
    if many(connection, STORE, rows) != len(rows):
        raise Conflict("the ledger has no row for a message that was fetched; run again")


def delivery_states(connection: Connection, keys: Sequence[Key]) -> dict[Place, DeliveryState]:
    """Message and route → state."""
    columns = (deliveries.c.message_id, deliveries.c.route_id, deliveries.c.state)
    return {
        (Key(key), route_id): DeliveryState(state)
        for piece in pieces(keys)
        for key, route_id, state in connection.execute(select(*columns).where(deliveries.c.message_id.in_(piece)))
    }


def _by_target(outcomes: Sequence[tuple[int, Outcome]], now: int) -> dict[DeliveryState, list[_Row]]:
    """Rows for the statements of `_OUTCOMES`."""
    rows: dict[DeliveryState, list[_Row]] = defaultdict(list)
    for route_id, (key, verdict, receipt, *_) in outcomes:
        hint = (receipt.hint or None) if receipt is not None else None
        rows[_TARGETS[verdict]].append((None if verdict is Verdict.NOT_SENT else now, hint, key, route_id))
    return rows


def _move_all(connection: Connection, target: DeliveryState, rows: Sequence[_Row]) -> None:
    if many(connection, _OUTCOMES[target], rows) == len(rows):
        return
    states = delivery_states(connection, [key for _, _, key, _ in rows])
    for _, _, key, route_id in rows:
        state = states.get((key, route_id))
        if state is not target:
            was = "is not planned" if state is None else f"is {state.name}"
            raise Conflict(f"message {key} on route {route_id} {was} and may not become {target.name}; run again")


# --- problems ------------------------------------------------------------------------------------------


def _record_uncertain(
    connection: Connection, scope: RunScope, now: datetime, outcomes: Sequence[tuple[int, Outcome]]
) -> None:
    """One row for each delivery that becomes uncertain; told twice is told once."""
    uncertain = [(route_id, outcome) for route_id, outcome in outcomes if outcome.verdict is Verdict.UNCERTAIN]
    if not uncertain:
        return
    states = delivery_states(connection, [outcome.key for _, outcome in uncertain])
    at = to_microseconds(now)
    rows = [
        (outcome.key, route_id, scope.run_id, at, printable(outcome.reason, MAX_REASON), False)
        for route_id, outcome in uncertain
        if states.get((outcome.key, route_id)) is not DeliveryState.UNCERTAIN
    ]
    many(connection, _RECORD, rows)


def _fetch_trouble(error: SyncdError) -> _Trouble:
    assert error.scope is Scope.MESSAGE, "an error that reaches further says nothing of the message"
    return _Trouble(ProblemKind.FETCH, str(error), FETCH_STEPS[error.retry])


def _delivery_trouble(outcome: Outcome) -> _Trouble:
    goes_on = outcome.verdict in {Verdict.DEFERRED, Verdict.NOT_SENT}
    return _Trouble(
        kind=ProblemKind.LOOP if outcome.loop else ProblemKind.DELIVERY,
        reason=outcome.reason or outcome.verdict.value,
        steps=DELIVERY if goes_on else (),
        code=outcome.code,
        named=outcome.retry_at,
        at_once=outcome.verdict is Verdict.NOT_SENT,
    )


def _write_problems(
    connection: Connection,
    run_id: int,
    now: datetime,
    known: Mapping[Place, _Known],
    troubles: Mapping[Place, _Trouble],
) -> None:
    """Replace the rows of `troubles`, counting their attempts; the other `known` problems are over and go.

    A note that a message is kept at its source is not about fetching and stays.
    """
    over = [place for place, row in known.items() if row.kind is not ProblemKind.KEPT or place in troubles]
    many(connection, CLEAR, over)
    at = to_microseconds(now)
    rows = []
    for (key, route_id), trouble in troubles.items():
        row = known.get((key, route_id))
        if row is None or row.kind is ProblemKind.KEPT:
            row = _Known(trouble.kind, insisted=False, attempts=0, first_at=now)
        first_at = min(row.first_at, now)  # later than now: by a clock that was ahead
        attempts = max(row.attempts, 1) if trouble.named is not None else row.attempts + 1
        retry_at = next_try(
            trouble.steps, attempts, now=now, first_at=first_at, named=trouble.named, at_once=trouble.at_once
        )
        reason = printable(trouble.reason, MAX_REASON)
        when = None if retry_at is None else to_microseconds(retry_at)
        since = to_microseconds(first_at)
        facts = (int(trouble.kind), trouble.code, row.insisted, reason, attempts, since, at, when, run_id)
        rows.append((key, route_id, *facts))
    many(connection, WRITE, rows)


def _known_problems(connection: Connection, keys: Sequence[Key]) -> dict[Place, _Known]:
    """All problems of messages between the lowest and the highest of `keys`."""
    if not keys:
        return {}
    rows = connection.execute(_KNOWN, {"lowest": min(keys), "highest": max(keys)})
    return {
        (Key(key), route): _Known(ProblemKind(kind), insisted, attempts, from_microseconds(first_at))
        for key, route, kind, insisted, attempts, first_at in rows
    }
