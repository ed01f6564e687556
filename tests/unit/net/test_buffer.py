from __future__ import annotations

import random

import pytest

from syncd.net.buffer import RECEIVE_OCTETS, ReceiveBuffer

HOLD = 1 << 20


def fill(buffer: ReceiveBuffer, octets: bytes) -> None:
    while octets:
        target = buffer.target()
        step = min(len(target), len(octets))
        target[:step] = octets[:step]
        buffer.received(step)
        octets = octets[step:]


def test_octets_come_out_as_they_went_in():
    buffer = ReceiveBuffer(HOLD)
    fill(buffer, b"hello")
    fill(buffer, b" world")
    assert len(buffer) == 11
    assert buffer.take(buffer.start + 6) == b"hello "
    assert buffer.peek(100) == b"world"
    buffer.drop(buffer.end)
    assert len(buffer) == 0


def test_find_goes_on_where_it_ended_and_sees_a_token_that_comes_in_two_pieces():
    buffer = ReceiveBuffer(HOLD)
    fill(buffer, b"abc\r")
    assert buffer.find(b"\r\n") == -1
    fill(buffer, b"\ndef")
    assert buffer.find(b"\r\n") == 3


def test_there_is_always_room_for_a_whole_receive_whatever_waits():
    buffer = ReceiveBuffer(HOLD)
    for _ in range(50):
        fill(buffer, b"x" * (HOLD - len(buffer)))
        assert len(buffer.target()) == RECEIVE_OCTETS
        buffer.drop(buffer.end - 1000)


def test_a_move_to_the_front_keeps_octets_and_search():
    rng = random.Random(1)
    buffer, sent, got = ReceiveBuffer(HOLD), bytearray(), bytearray()
    for _ in range(200):
        piece = rng.randbytes(rng.randint(1, 3 * RECEIVE_OCTETS // 2)).replace(b"\n", b"-")
        sent += piece + b"\n"
        fill(buffer, piece)
        assert buffer.find(b"\n") == -1
        fill(buffer, b"\n")
        end = buffer.find(b"\n")
        assert end >= 0
        got += buffer.take(end + 1)
    assert got == sent


@pytest.mark.parametrize("gap", [0, 1, 2, 3, (16 << 10) - 2, (16 << 10) - 1, 16 << 10, (16 << 10) + 1, 100_000])
@pytest.mark.parametrize("filler", [b"x", b".", b"x.", b"\r\n"])
def test_the_first_dot_line_is_found_wherever_it_begins(gap: int, filler: bytes):
    octets = (filler * gap)[:gap] + b"x\r\n.end"
    buffer = ReceiveBuffer(HOLD)
    fill(buffer, octets)
    assert buffer.find_dot_line() == octets.find(b"\r\n.")


def test_a_dot_line_is_found_in_pieces_and_a_second_time():
    for cut in range(1, 8):
        buffer, octets = ReceiveBuffer(HOLD), b"a.b\r\n.\r\n"
        fill(buffer, octets[:cut])
        early = buffer.find_dot_line()
        assert early == (3 if cut >= 6 else -1)
        fill(buffer, octets[cut:])
        assert buffer.find_dot_line() == 3
        assert buffer.find_dot_line() == 3


def test_the_dot_line_of_something_handed_out_is_not_found_again():
    buffer = ReceiveBuffer(HOLD)
    fill(buffer, b"a\r\n.b")
    buffer.drop(buffer.start + 3)
    assert buffer.find_dot_line() == -1
