from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

import pytest

from syncd.db.states import (
    DELIVERY_MOVES,
    DISPOSAL_MOVES,
    FINAL,
    MESSAGE_MOVES,
    OPEN,
    RUN_MOVES,
    UNSETTLED,
    WAITS_FOR_PERSON,
    WAITS_FOR_TIME,
    DeliveryState,
    Disposal,
    MessageState,
    RunState,
    origins,
)

TABLES: list[tuple[type[IntEnum], Mapping[IntEnum, frozenset[IntEnum]], IntEnum]] = [
    (DeliveryState, DELIVERY_MOVES, DeliveryState.PENDING),
    (MessageState, MESSAGE_MOVES, MessageState.LISTED),
    (Disposal, DISPOSAL_MOVES, Disposal.KEPT),
    (RunState, RUN_MOVES, RunState.QUEUED),
]


@pytest.mark.parametrize(("states", "moves", "first"), TABLES)
def test_every_state_has_its_line_and_is_reached(
    states: type[IntEnum], moves: Mapping[IntEnum, frozenset[IntEnum]], first: IntEnum
) -> None:
    assert set(moves) == set(states)
    reached, seen = {first}, set()
    while reached - seen:
        state = (reached - seen).pop()
        seen.add(state)
        reached |= moves[state]
    assert reached == set(states)


def test_numbers_in_the_database_never_change() -> None:
    assert [state.name for state in DeliveryState] == [
        "PENDING", "SENDING", "DELIVERED", "DEFERRED", "REJECTED", "UNCERTAIN", "HELD", "SKIPPED", "DROPPED"
    ]  # fmt: skip
    assert [state.name for state in MessageState] == ["LISTED", "FETCHED", "UNFETCHABLE", "MISSING", "GONE"]
    assert [state.name for state in Disposal] == ["KEPT", "DUE", "REMOVING", "REMOVED", "FROZEN"]
    assert [state.name for state in RunState] == ["QUEUED", "RUNNING", "DONE", "FAILED", "STOPPED", "ABANDONED"]
    for states, _, _ in TABLES:
        assert [int(state) for state in states] == list(range(len(states)))


def test_every_delivery_is_final_or_waits_for_exactly_one_thing() -> None:
    groups = [FINAL, WAITS_FOR_TIME, WAITS_FOR_PERSON, OPEN]
    assert sorted(state for group in groups for state in group) == list(DeliveryState)
    assert UNSETTLED == OPEN | WAITS_FOR_TIME


def test_only_a_person_undoes_what_is_settled() -> None:
    assert DELIVERY_MOVES[DeliveryState.DELIVERED] == {DeliveryState.PENDING, DeliveryState.DROPPED}  # refill, damaged
    assert DELIVERY_MOVES[DeliveryState.DROPPED] == frozenset()


def test_an_uncertain_delivery_is_never_sent_again_without_a_decision() -> None:
    assert DeliveryState.SENDING not in DELIVERY_MOVES[DeliveryState.UNCERTAIN]
    assert origins(DELIVERY_MOVES, DeliveryState.UNCERTAIN) == {DeliveryState.SENDING}


def test_nothing_is_removed_that_was_not_being_removed() -> None:
    assert origins(DISPOSAL_MOVES, Disposal.REMOVED) == {Disposal.REMOVING}
    assert Disposal.REMOVING not in DISPOSAL_MOVES[Disposal.FROZEN]


def test_absence_once_is_not_gone() -> None:
    assert origins(MESSAGE_MOVES, MessageState.GONE) == {MessageState.MISSING}
