from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.sql.elements import ClauseElement

from syncd import db
from syncd.db.database import Database
from syncd.db.models import deliveries, messages
from syncd.db.states import (
    DELIVERY_MOVES,
    DISPOSAL_MOVES,
    FINAL,
    GOES_ON,
    MESSAGE_MOVES,
    OPEN,
    RUN_MOVES,
    WAITS_FOR_PERSON,
    WAITS_FOR_TIME,
    DeliveryState,
    Disposal,
    MessageState,
    RunState,
    move,
    moved,
    origins,
)
from tests.support.ledger import Bench, uids

TABLES: list[tuple[type[IntEnum], Mapping[Any, frozenset[Any]], IntEnum]] = [
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
    reached: set[IntEnum] = {first}
    seen: set[IntEnum] = set()
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
    assert GOES_ON == OPEN | WAITS_FOR_TIME


def test_only_a_person_undoes_what_is_delivered_or_dropped() -> None:
    assert DELIVERY_MOVES[DeliveryState.DELIVERED] == {DeliveryState.PENDING, DeliveryState.DROPPED}  # refill, damaged
    assert DELIVERY_MOVES[DeliveryState.DROPPED] == frozenset()


def test_an_uncertain_delivery_is_never_sent_again_without_a_decision() -> None:
    assert DeliveryState.SENDING not in DELIVERY_MOVES[DeliveryState.UNCERTAIN]
    assert origins(DeliveryState.UNCERTAIN) == [DeliveryState.SENDING]


def test_nothing_is_removed_that_was_not_being_removed() -> None:
    assert origins(Disposal.REMOVED) == [Disposal.REMOVING]
    assert Disposal.REMOVING not in DISPOSAL_MOVES[Disposal.FROZEN]


def test_absence_once_is_not_gone() -> None:
    """A fetched message goes at once only where it was recognised under another id."""
    assert origins(MessageState.GONE) == [MessageState.FETCHED, MessageState.MISSING]


def test_a_run_is_taken_over_and_a_queued_one_may_fail() -> None:
    assert RunState.RUNNING in RUN_MOVES[RunState.RUNNING]
    assert RunState.FAILED in RUN_MOVES[RunState.QUEUED]
    closed = [RunState.DONE, RunState.FAILED, RunState.STOPPED, RunState.ABANDONED]
    assert not any(RUN_MOVES[state] for state in closed)


# --- the builder -------------------------------------------------------------------------------------------


def sql(statement: ClauseElement) -> str:
    return " ".join(str(statement).split())


def test_a_move_names_the_states_it_comes_from() -> None:
    where = "WHERE deliveries.state IN (0, 1, 3, 4, 5, 6)"
    assert sql(move(deliveries.c.state, DeliveryState.DELIVERED)) == f"UPDATE deliveries SET state=2 {where}"
    some = move(deliveries.c.state, DeliveryState.DELIVERED, only=[DeliveryState.SENDING])
    assert sql(some) == "UPDATE deliveries SET state=2 WHERE deliveries.state IN (1)"
    where = "WHERE messages.disposal IN (0, 1, 2)"
    assert sql(move(messages.c.disposal, Disposal.FROZEN)) == f"UPDATE messages SET disposal=4 {where}"


def test_a_move_that_is_not_in_the_table_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match="may not become"):
        move(deliveries.c.state, DeliveryState.SENDING, only=[DeliveryState.UNCERTAIN])


def test_a_move_that_is_illegal_leaves_the_state_as_it_was() -> None:
    state = moved(messages.c.state, MessageState.FETCHED, only=[MessageState.LISTED])
    assert sql(state) == "CASE WHEN (messages.state IN (0)) THEN 1 ELSE messages.state END"


STATE_COLUMNS = ("state", "disposal")
SOURCES = [path for path in Path(db.__file__).parent.rglob("*.py") if "migrations" not in path.parts]


def updates(tree: ast.AST) -> list[ast.Call]:
    """Calls of `update(…)`, and of `.values(…)` behind one."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "values"
        and any(
            isinstance(inner, ast.Call) and isinstance(inner.func, ast.Name) and inner.func.id == "update"
            for inner in ast.walk(node.func.value)
        )
    ]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_update_of_a_state_is_built_by_a_move(source: Path) -> None:
    """`moved(…)` may stand among the values of an UPDATE, and nothing else for a column of states."""
    text = source.read_text()
    if source.name == "states.py":
        assert len(re.findall(r"\bupdate\(", text)) == 1, "the one that `move` makes"
        return
    assert not re.search(r"UPDATE\s+(deliveries|messages|runs)\b", text), "written out"
    for call in updates(ast.parse(text)):
        for keyword in call.keywords:
            if keyword.arg in STATE_COLUMNS:
                assert ast.unparse(keyword.value).startswith("moved("), ast.unparse(call)
        for argument in call.args:
            assert not any(f"'{name}'" in ast.unparse(argument) for name in STATE_COLUMNS), ast.unparse(call)


def test_a_run_of_the_ledger_moves_states_by_legal_moves_alone(tmp_path: Path) -> None:
    """The rule that the sources follow is checked once more in the SQL of a whole life of messages."""
    seen: set[str] = set()
    with Database.open(None, tmp_path) as database:
        event.listen(database.engine, "before_cursor_execute", lambda *args: seen.add(args[2]))
        bench = Bench(database)
        scope = bench.job("as")
        bench.pull(scope, uids("a", "b"))
        bench.listed(scope, uids("b"))
        bench.listed(scope, uids("b"))
        bench.pull(scope, uids("a", "b"))
    moves = [
        statement for statement in seen if re.match(r"UPDATE (deliveries|messages|runs) SET .*\bstate=\d", statement)
    ]
    assert moves
    for statement in moves:
        assert re.search(r"WHERE .*\bstate IN \(", statement, re.DOTALL), statement
