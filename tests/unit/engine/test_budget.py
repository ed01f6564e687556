from __future__ import annotations

import contextlib
import threading

import pytest

from syncd.engine.budget import Budget, Door, RunRoom
from syncd.errors import Cancelled


def test_room_runs_out_and_comes_back():
    room = Budget(100).room()
    assert room.try_take(60)
    assert not room.try_take(41)
    room.give([60])
    assert room.try_take(100)


def test_a_message_larger_than_everything_takes_everything_and_gives_as_much_back():
    budget = Budget(100)
    room = budget.room()
    room.take(10**12)
    assert not budget.room().try_take(1)
    room.give([10**12])
    assert budget.room().try_take(100)


def test_a_run_that_ends_gives_back_what_it_held():
    budget = Budget(100)
    room = budget.room()
    room.take(70)
    room.give([30])
    room.release()
    room.release()
    assert budget.room().try_take(100)


def test_waiting_for_room_ends_when_another_run_gives_some_back():
    budget = Budget(100)
    other, room = budget.room(), budget.room()
    other.take(100)
    waiting = threading.Thread(target=room.take, args=(50,))
    waiting.start()
    other.give([100])
    waiting.join(5)
    assert not waiting.is_alive()
    assert not other.try_take(51)


def test_waiting_for_room_ends_when_the_run_is_cancelled():
    budget = Budget(100)
    budget.room().take(100)
    room = budget.room()
    room.cancel()
    with pytest.raises(Cancelled):
        room.take(1)


def test_p27_a_pause_ends_when_the_run_is_cancelled():
    room = Budget(100).room()
    room.pause(0)
    room.cancel()
    with pytest.raises(Cancelled):
        room.pause(3600)


# --- in turn -----------------------------------------------------------------------------------------------


def test_a_message_that_needs_everything_has_its_turn_beside_busy_runs():
    """Two runs that give back little and take it again kept it waiting for ever."""
    budget = Budget(100)
    large, busy, other = budget.room(), budget.room(), budget.room()
    busy.take(50)
    other.take(50)
    waiting = in_line(budget, large, 100)
    for room in (busy, other):
        room.give([50])
        assert not room.try_take(50)  # it hands over what it holds, and waits in line
    waiting.join(5)
    assert not waiting.is_alive()
    after = in_line(budget, busy, 50)
    large.give([100])
    after.join(5)
    assert other.try_take(50)


def test_one_that_is_cancelled_leaves_the_line():
    budget = Budget(100)
    first, second = budget.room(), budget.room()
    budget.room().take(40)
    waiting, behind = in_line(budget, first, 100), in_line(budget, second, 60)
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
    budget = Budget(100)
    budget.room().take(60)
    room = budget.room()
    door = Door(room)
    waiting, behind = in_line(budget, door, 100), in_line(budget, budget.room(), 40)
    door.close()
    for thread in (waiting, behind):
        thread.join(5)
        assert not thread.is_alive()
    assert budget.free == 0
    assert not door.try_take(0)
    assert room.try_take(0)
