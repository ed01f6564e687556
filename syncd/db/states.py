"""States of deliveries, messages, removals and runs, and every legal move between them, as tables.

    delivery   pending ──▶ delivered                               repeat-safe destinations
               pending ──▶ sending ──▶ delivered | deferred | rejected | uncertain | pending (surely not sent)
               pending ──▶ deferred | rejected                     decided before sending: too large, not permitted
               pending ◀─▶ skipped                                 a filter, a duplicate, no octets; the rule changed
               pending, sending, deferred ──▶ skipped              its message has a new row, which goes on with it
               deferred ─▶ pending                                 its time has come; one UPDATE may go straight on
               uncertain ▶ delivered | pending | held              the policy of the route
               pending, deferred ──▶ held                          another destination may have delivered it
               held, rejected ──▶ delivered | pending | dropped    a person
               rejected ─▶ pending                                 everything was refused: no verdict on a message
               pending, deferred, uncertain ──▶ dropped            a person, who does not want it tried any more
               delivered ▶ pending                                 a person, who has an archive filled again
               delivered ▶ dropped                                 a person, who gives a damaged copy up

    message    listed ──▶ fetched | unfetchable                    fetched: once at least; else backed off
               unfetchable ▶ fetched
               listed, fetched, unfetchable ──▶ missing ──▶ gone   absent from one complete listing; from two
               missing, gone ──▶ listed | fetched | unfetchable    listed again
               fetched ─▶ gone                                     recognised under another id: that row goes on

    removal    kept ◀─▶ due;  kept, due ──▶ removing ──▶ removed   the identity is verified in between
               removing ─▶ due | kept                              the session ended without removing it
               removed ──▶ kept                                    the server lists it again
               removing, removed ──▶ removing                      tried again, as the server still lists it
               all but removed ──▶ frozen ──▶ kept                 an anomaly; a person

    run        queued ──▶ running ──▶ done | failed | stopped | abandoned (after too many deaths)
               running ─▶ running                                  taken over from a dead owner: generation + 1
               running ─▶ queued                                   the next slice
               queued ──▶ failed | stopped                         it could not begin

The numbers stand in the database: they are never given another meaning.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sqlalchemy import Column, ColumnElement, Update


class DeliveryState(IntEnum):
    """The state of one message on its way to one destination."""

    PENDING = 0
    SENDING = 1
    DELIVERED = 2
    DEFERRED = 3
    REJECTED = 4
    UNCERTAIN = 5
    HELD = 6
    SKIPPED = 7
    DROPPED = 8


class MessageState(IntEnum):
    """The state of one message at its source, as far as it is known."""

    LISTED = 0
    FETCHED = 1
    UNFETCHABLE = 2
    MISSING = 3
    GONE = 4


class Disposal(IntEnum):
    """The state of the removal of one message at its source."""

    KEPT = 0
    DUE = 1
    REMOVING = 2
    REMOVED = 3
    FROZEN = 4


class RunState(IntEnum):
    """The state of one execution of a job."""

    QUEUED = 0
    RUNNING = 1
    DONE = 2
    FAILED = 3
    STOPPED = 4
    ABANDONED = 5


_D, _M, _R, _X = DeliveryState, MessageState, RunState, Disposal

DELIVERY_MOVES: Final[Mapping[DeliveryState, frozenset[DeliveryState]]] = {
    _D.PENDING: frozenset({_D.SENDING, _D.DELIVERED, _D.DEFERRED, _D.REJECTED, _D.HELD, _D.SKIPPED, _D.DROPPED}),
    _D.SENDING: frozenset({_D.DELIVERED, _D.DEFERRED, _D.REJECTED, _D.UNCERTAIN, _D.PENDING, _D.SKIPPED}),
    _D.DEFERRED: frozenset(
        {_D.PENDING, _D.SENDING, _D.DELIVERED, _D.DEFERRED, _D.REJECTED, _D.HELD, _D.SKIPPED, _D.DROPPED}
    ),
    _D.UNCERTAIN: frozenset({_D.DELIVERED, _D.PENDING, _D.HELD, _D.DROPPED}),
    _D.HELD: frozenset({_D.DELIVERED, _D.PENDING, _D.DROPPED}),
    _D.REJECTED: frozenset({_D.DELIVERED, _D.PENDING, _D.DROPPED}),
    _D.SKIPPED: frozenset({_D.PENDING}),
    _D.DELIVERED: frozenset({_D.PENDING, _D.DROPPED}),
    _D.DROPPED: frozenset(),
}

MESSAGE_MOVES: Final[Mapping[MessageState, frozenset[MessageState]]] = {
    _M.LISTED: frozenset({_M.FETCHED, _M.UNFETCHABLE, _M.MISSING}),
    _M.FETCHED: frozenset({_M.MISSING, _M.GONE}),
    _M.UNFETCHABLE: frozenset({_M.FETCHED, _M.MISSING}),
    _M.MISSING: frozenset({_M.GONE, _M.LISTED, _M.FETCHED, _M.UNFETCHABLE}),
    _M.GONE: frozenset({_M.LISTED, _M.FETCHED, _M.UNFETCHABLE}),
}

DISPOSAL_MOVES: Final[Mapping[Disposal, frozenset[Disposal]]] = {
    _X.KEPT: frozenset({_X.DUE, _X.REMOVING, _X.FROZEN}),
    _X.DUE: frozenset({_X.KEPT, _X.REMOVING, _X.FROZEN}),
    _X.REMOVING: frozenset({_X.REMOVING, _X.REMOVED, _X.DUE, _X.KEPT, _X.FROZEN}),
    _X.REMOVED: frozenset({_X.KEPT, _X.REMOVING}),
    _X.FROZEN: frozenset({_X.KEPT}),
}

RUN_MOVES: Final[Mapping[RunState, frozenset[RunState]]] = {
    _R.QUEUED: frozenset({_R.RUNNING, _R.FAILED, _R.STOPPED}),
    _R.RUNNING: frozenset({_R.RUNNING, _R.QUEUED, _R.DONE, _R.FAILED, _R.STOPPED, _R.ABANDONED}),
    _R.DONE: frozenset(),
    _R.FAILED: frozenset(),
    _R.STOPPED: frozenset(),
    _R.ABANDONED: frozenset(),
}

_TABLES: Final[Mapping[type[IntEnum], Mapping[Any, frozenset[Any]]]] = {
    DeliveryState: DELIVERY_MOVES,
    MessageState: MESSAGE_MOVES,
    Disposal: DISPOSAL_MOVES,
    RunState: RUN_MOVES,
}

# Full accounting: every delivery is in exactly one of these four.
FINAL: Final = frozenset({_D.DELIVERED, _D.SKIPPED, _D.DROPPED})
WAITS_FOR_TIME: Final = frozenset({_D.DEFERRED})
WAITS_FOR_PERSON: Final = frozenset({_D.REJECTED, _D.UNCERTAIN, _D.HELD})
OPEN: Final = frozenset({_D.PENDING, _D.SENDING})  # work of this run; none is left when it is complete

GOES_ON: Final = OPEN | WAITS_FOR_TIME  # may still be attempted without a person


def origins(target: IntEnum, only: Collection[IntEnum] | None = None) -> list[int]:
    """Returns the states that may become `target`, ascending; `only` narrows them to some of these."""
    legal = {before for before, reachable in _TABLES[type(target)].items() if target in reachable}
    assert only is None or legal.issuperset(only), f"{set(only) - legal} may not become {target!r}"
    return sorted(int(state) for state in (legal if only is None else only))


def move(column: Column[int], target: IntEnum, only: Collection[IntEnum] | None = None) -> Update:
    """Returns the UPDATE that moves `column` to `target`, of the rows whose state may become `target`.

    Add what it is about: `.where(…)`, further `.values(…)`. Every change of a state column is made by this function
    or by `moved`.
    """
    from sqlalchemy import update

    return update(column.table).values({column.name: _literal(target)}).where(_may_move(column, target, only))


def moved(column: Column[int], target: IntEnum, only: Collection[IntEnum] | None = None) -> ColumnElement[int]:
    """Returns what `column` is after a move to `target`: `target` where the move is legal, otherwise as it was.

    For an UPDATE that has more to write than the state, also where the state does not change.
    """
    from sqlalchemy import case

    return case((_may_move(column, target, only), _literal(target)), else_=column)


def _may_move(column: Column[int], target: IntEnum, only: Collection[IntEnum] | None) -> ColumnElement[bool]:
    return column.in_([_literal(state) for state in origins(target, only)])


def _literal(state: int) -> ColumnElement[int]:
    """A number in the SQL text: partial indexes are only used where a statement names their states like this."""
    from sqlalchemy import Integer, literal_column

    return literal_column(str(int(state)), Integer)
