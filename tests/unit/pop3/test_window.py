from __future__ import annotations

from syncd.pop3.window import FIRST_COMMANDS, FIRST_OCTETS, MOST_COMMANDS, MOST_OCTETS, Window


def fill(window: Window, octets: int) -> int:
    count = 0
    while window.admits(octets):
        window.asked(octets)
        count += 1
    window.refilled()
    return count


def answer_until_due(window: Window, octets: int) -> int:
    count = 1
    while not window.answered(octets):
        count += 1
    return count


def test_commands_begin_at_64_and_grow_to_1024():
    window = Window(pipelined=True)
    assert fill(window, 1) == FIRST_COMMANDS
    seen = [window.waiting]
    for _ in range(10):
        answer_until_due(window, 1)
        fill(window, 1)
        seen.append(window.waiting)
    assert seen[:5] == [64, 128, 256, 512, 1024]
    assert max(seen) == MOST_COMMANDS


def test_a_refill_is_due_when_half_is_answered():
    window = Window(pipelined=True)
    fill(window, 1)
    assert answer_until_due(window, 1) == FIRST_COMMANDS // 2


def test_octets_bound_it_too_and_grow_to_16_mib():
    window = Window(pipelined=True)
    assert fill(window, 1 << 20) == FIRST_OCTETS >> 20
    for _ in range(10):
        answer_until_due(window, 1 << 20)
        fill(window, 1 << 20)
        assert window.outstanding <= MOST_OCTETS
    assert window.outstanding == MOST_OCTETS


def test_a_large_one_that_was_answered_makes_a_refill_due():
    window = Window(pipelined=True)
    window.asked(3 << 20)
    for _ in range(40):
        window.asked(1000)
    window.refilled()
    assert window.answered(3 << 20)


def test_one_larger_than_the_window_goes_alone():
    window = Window(pipelined=True)
    assert window.admits(1 << 30)
    window.asked(1 << 30)
    assert not window.admits(0)


def test_without_pipelining_it_is_one_at_a_time_for_ever():
    window = Window(pipelined=False)
    for _ in range(10):
        assert fill(window, 1) == 1
        assert window.answered(1)
