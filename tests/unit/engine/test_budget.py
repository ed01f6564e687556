"""Room for messages: counted as they come, given back to the octet, in turn, and never waited for with hands full."""

from __future__ import annotations

import contextlib
import threading

import pytest

from syncd.engine.budget import (
    BUDGET_OCTETS,
    CROWD_RUNS,
    MESSAGE_OCTETS,
    RUN_OCTETS,
    SESSIONS,
    SHORT_OCTETS,
    Budget,
    Door,
    RunRoom,
)
from syncd.errors import Cancelled
from syncd.mail.body import MEMORY_CAP_OCTETS, Body

KIB = 1 << 10
ALL = 300 * KIB  # of which one message is a third at most
MOST = 100 * KIB - MESSAGE_OCTETS


def body(octets: int, *, in_memory: bool = True) -> Body:
    found = Body.of(b"x")
    found.octets = octets  # the budget only looks at the figure
    if not in_memory:
        found.data = None
    return found


def test_room_runs_out_and_comes_back():
    budget = Budget(ALL)
    room = budget.room()
    for _ in range(3):
        assert room.try_take(MOST)
    assert not room.try_take(0)
    room.give(MOST, 1)
    assert room.try_take(MOST)
    assert budget.free == 0


def test_a_message_takes_more_than_its_octets():
    """Rows and objects of many small messages took as much again, and nobody counted them."""
    room, number = Budget(ALL).room(), 0
    while room.try_take(0):
        number += 1
    assert number == ALL // MESSAGE_OCTETS


def test_a_large_message_takes_a_third_and_gives_as_much_back():
    budget = Budget(ALL)
    room = budget.room()
    room.take(10**12)
    assert budget.free == ALL - 100 * KIB
    room.give(room.taken_by(10**12, body(10**12, in_memory=False)), 1)
    assert budget.free == ALL


def test_a_run_that_ends_gives_back_what_it_took():
    budget = Budget(ALL)
    room = budget.room()
    room.begin()
    room.take(60 * KIB)
    room.take(30 * KIB)
    room.give(30 * KIB, 1)
    room.end()
    room.end()
    assert (budget.free, budget.reserved) == (ALL, 0)


def test_a_wrong_figure_does_not_make_room_out_of_nothing():
    budget = Budget(ALL)
    room = budget.room()
    room.take(KIB)
    room.give(50 * KIB, 1)
    assert budget.free == ALL


# --- a share for each run ----------------------------------------------------------------------------------


def test_each_run_takes_a_share_for_its_connection():
    budget = Budget()
    rooms = [budget.room() for _ in range(8)]
    for room in rooms:
        room.begin()
    assert budget.free == BUDGET_OCTETS - 8 * RUN_OCTETS


def test_the_shares_leave_what_the_largest_message_needs():
    """Otherwise it would wait for ever."""
    budget = Budget()
    rooms = [budget.room() for _ in range(200)]
    for room in rooms:
        room.begin()
    rooms[0].take(10**12)
    assert budget.free == 0
    for room in rooms:
        room.end()
    assert (budget.free, budget.reserved) == (BUDGET_OCTETS, 0)


# --- not as listed -----------------------------------------------------------------------------------------


def test_a_message_longer_than_listed_takes_more_as_it_comes():
    budget = Budget(ALL)
    room = budget.room()
    room.take(0)
    assert room.grow(50 * KIB)
    assert budget.free == ALL - 50 * KIB - MESSAGE_OCTETS
    room.give(room.taken_by(0, body(50 * KIB)), 1)
    assert budget.free == ALL


def test_where_there_is_no_room_it_does_not_wait_and_takes_what_it_is_listed_with():
    budget = Budget(ALL)
    room = budget.room()
    room.take(0)
    for _ in range(2):
        budget.room().take(MOST)
    before = budget.free
    assert not room.grow(before + budget.growth + 1)
    assert budget.free == before
    assert room.taken_by(0, body(200 * KIB, in_memory=False)) == 0


def test_growth_has_a_little_room_of_its_own():
    """A server that counts line ends as one octet is a few percent off with every message."""
    budget = Budget(ALL)
    rooms = [budget.room() for _ in range(3)]
    for room in rooms:
        room.take(MOST)
    assert rooms[0].grow(budget.growth)
    assert not rooms[0].grow(1)
    assert not rooms[0].try_take(0)
    for room in rooms:
        room.release()
    assert budget.free == ALL


def test_a_message_shorter_than_listed_gives_back_the_rest_at_once():
    budget = Budget(ALL)
    room = budget.room()
    room.take(10**9)
    taken = room.taken_by(10**9, body(KIB))
    assert (taken, budget.free) == (KIB, ALL - KIB - MESSAGE_OCTETS)
    room.give(taken, 1)
    assert budget.free == ALL


def test_a_few_octets_less_are_not_worth_a_lock():
    room = Budget(ALL).room()
    room.take(MOST)
    assert room.taken_by(MOST, body(MOST - SHORT_OCTETS)) == MOST


# --- waiting -----------------------------------------------------------------------------------------------


def test_waiting_for_room_ends_when_another_run_gives_some_back():
    budget = Budget(ALL)
    other, room = budget.room(), budget.room()
    for _ in range(3):
        other.take(MOST)
    waiting = threading.Thread(target=room.take, args=(MOST,))
    waiting.start()
    other.give(MOST, 1)
    waiting.join(5)
    assert not waiting.is_alive()
    assert not other.try_take(0)


def test_waiting_for_room_ends_when_the_run_is_cancelled():
    budget = Budget(ALL)
    for _ in range(3):
        budget.room().take(MOST)
    room = budget.room()
    room.cancel()
    with pytest.raises(Cancelled):
        room.take(1)


def test_p27_a_pause_ends_when_the_run_is_cancelled():
    room = Budget(ALL).room()
    room.pause(0)
    room.cancel()
    with pytest.raises(Cancelled):
        room.pause(3600)


def test_a_large_message_has_its_turn_beside_busy_runs():
    """Two runs that give back little and take it again kept it waiting for ever."""
    budget = Budget(ALL)
    large, busy, other = budget.room(), budget.room(), budget.room()
    for _ in range(3):
        busy.take(20 * KIB)
        other.take(76 * KIB)
    waiting = in_line(budget, large, MOST)
    for room, octets in ((busy, 20 * KIB), (other, 76 * KIB)):
        room.give(octets, 1)
        assert not room.try_take(octets)  # it hands over what it has, and waits in line
    busy.give(20 * KIB, 1)
    waiting.join(5)
    assert not waiting.is_alive()
    assert other.try_take(0)


def test_one_that_is_cancelled_leaves_the_line():
    budget = Budget(ALL)
    first, second = budget.room(), budget.room()
    budget.room().take(MOST)
    budget.room().take(MOST)
    budget.room().take(60 * KIB)
    waiting, behind = in_line(budget, first, MOST), in_line(budget, second, 38 * KIB)
    first.cancel()
    for thread in (waiting, behind):
        thread.join(5)
        assert not thread.is_alive()
    assert budget.free == 0


def in_line(budget: Budget, room: RunRoom | Door, octets: int) -> threading.Thread:
    """A thread that waits for so much room, as the last of those that wait; ends when it has it, or is cancelled."""

    def take() -> None:
        with contextlib.suppress(Cancelled):
            room.take(octets)

    there = len(budget.waiting)
    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    while thread.is_alive() and len(budget.waiting) == there:
        pass
    return thread


def test_a_reader_whose_session_is_over_does_not_stand_in_line():
    """It took room when nobody was there to give it back, and kept those behind it waiting until then."""
    budget = Budget(ALL)
    for octets in (MOST, MOST, 60 * KIB):
        budget.room().take(octets)
    room = budget.room()
    door = Door(room)
    waiting, behind = in_line(budget, door, MOST), in_line(budget, budget.room(), 38 * KIB)
    door.close()
    for thread in (waiting, behind):
        thread.join(5)
        assert not thread.is_alive()
    assert budget.free == 0
    budget.total = budget.free = ALL
    assert not door.try_take(0)
    assert not door.grow(0)
    assert room.try_take(0)


def test_bodies_in_memory_are_shorter_while_many_runs_are_under_way():
    budget = Budget(ALL)
    rooms = [budget.room() for _ in range(CROWD_RUNS + 1)]
    for room in rooms[:-1]:
        room.begin()
    assert Door(rooms[0]).longest == MEMORY_CAP_OCTETS
    rooms[-1].begin()
    assert Door(rooms[0]).longest == rooms[0].longest == MEMORY_CAP_OCTETS // 2
    rooms[-1].end()
    rooms[-1].end()
    assert rooms[0].longest == MEMORY_CAP_OCTETS


def test_more_sessions_of_a_run_are_bounded_in_the_process_and_end_with_it():
    budget = Budget()
    room = budget.room()
    room.begin()
    more = [room.another() for _ in range(SESSIONS + 1)]
    assert more[-1] is None
    room.cancel()
    for one in more[:-1]:
        assert one is not None
        assert one.cancelled
        one.end()
        one.end()
    assert room.another() is not None
