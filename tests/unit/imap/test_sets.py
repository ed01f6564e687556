from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.imap.sets import LAST, SeqSet, UidSet

NUMBERS = st.frozensets(st.integers(1, 60))


@pytest.mark.parametrize(
    ("octets", "ranges"),
    [
        (b"1", ((1, 1),)),
        (b"1:5,9", ((1, 5), (9, 9))),
        (b"9,1:5,6", ((1, 6), (9, 9))),
        (b"5:1", ((1, 5),)),
        (b"1:4294967295", ((1, LAST),)),
        (b"3,3,3:3", ((3, 3),)),
    ],
)
def test_a_set_is_read_in_any_order(octets: bytes, ranges: tuple[tuple[int, int], ...]):
    assert UidSet.parse(octets).ranges == ranges


@pytest.mark.parametrize(
    "octets", [b"", b",", b"1,", b"0", b"0:3", b"1:", b"*", b"1:*", b"4294967296", b"1 2", b"-1", b"12345678901"]
)
def test_what_is_no_set(octets: bytes):
    with pytest.raises(ValueError, match=r"no (set|range) of numbers"):
        UidSet.parse(octets)


@given(NUMBERS, NUMBERS)
def test_a_set_behaves_as_a_set_of_numbers(some: frozenset[int], others: frozenset[int]):
    ours, theirs = UidSet.of(some), UidSet.of(others)
    assert list(ours) == sorted(some)
    assert len(ours) == len(some)
    assert set(ours | theirs) == some | others
    assert set(ours & theirs) == some & others
    assert set(ours - theirs) == some - others
    assert [number in ours for number in range(70)] == [number in some for number in range(70)]
    assert (ours == theirs) == (some == others)


@given(NUMBERS.filter(bool))
def test_an_encoded_set_reads_back(numbers: frozenset[int]):
    assert UidSet.parse(UidSet.of(numbers).encode()) == UidSet.of(numbers)


@given(st.lists(st.integers(1, LAST), max_size=300), st.integers(21, 100))
def test_i24_pieces_fit_into_a_line_and_are_the_set(numbers: list[int], limit: int):
    whole = UidSet.of(numbers)
    pieces = list(whole.pieces(limit))
    assert all(len(piece.encode()) <= limit for piece in pieces)
    assert [number for piece in pieces for number in piece.ranges] == list(whole.ranges)


def test_i25_ranges_ascend_and_do_not_meet():
    assert UidSet.of([9, 3, 1, 2, 9, 8]).encode() == b"1:3,8:9"


def test_i111_everything_is_written_without_an_asterisk():
    assert UidSet.everything().encode() == b"1:4294967295"
    assert len(UidSet.everything()) == LAST


def test_uids_and_sequence_numbers_are_not_equal():
    assert UidSet.of([1]) != SeqSet.of([1])
    assert repr(SeqSet.of([1, 2])) == "SeqSet(1:2)"


def test_an_empty_set():
    empty = UidSet()
    assert not empty
    assert not list(empty.pieces())
    assert empty.encode() == b""
