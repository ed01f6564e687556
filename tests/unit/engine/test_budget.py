from __future__ import annotations

import threading

import pytest

from syncd.engine.budget import Budget
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
