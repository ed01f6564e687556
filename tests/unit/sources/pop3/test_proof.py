"""What sizes prove of the answers that came before a session broke off."""

from __future__ import annotations

import pytest

from syncd.mail.body import Body
from syncd.mail.listing import LineNumber, Wanted
from syncd.mail.message import Key, Uid
from syncd.pop3.values import Status
from syncd.sources.pop3.proof import Answered, fitting, swapped


def wanted(number: int, octets: int) -> Wanted:
    return Wanted(Key(number), LineNumber(number), Uid(b"%d" % number), octets)


def answered(*octets: tuple[int, int | None]) -> list[Answered]:
    """Octets as listed and as received; None: the server refused."""
    return [
        (
            wanted(number, listed),
            Status(ok=False, code="", text=b"") if got is None else Body.of(b"x" * got),
        )
        for number, (listed, got) in enumerate(octets, 1)
    ]


@pytest.mark.parametrize(
    ("octets", "following", "proven"),
    [
        ([], [5], 0),
        ([(5, 5)], [6], 1),
        ([(5, 5)], [5], 0),
        ([(5, 5)], [6, 5], 0),
        ([(5, 5)], [], 1),
        ([(5, 6)], [6], 0),
        ([(5, 5), (6, 7), (7, 8)], [8], 1),
        ([(5, 5), (5, 6), (6, 7)], [7], 0),
        ([(5, 5), (5, 5), (6, 6)], [7], 3),
        ([(5, None), (6, 6)], [7], 2),
        ([(5, 5), (6, None)], [7], 1),
        ([(1, 5), (1, 6)], [1], 0),
        ([(5, 5), (5, 5)], [7], 0),
        ([(6, 6), (5, 5), (5, 5)], [7], 1),
    ],
)
def test_p31_what_fits_its_size_and_no_other_one_is_proven(
    octets: list[tuple[int, int | None]], following: list[int], proven: int
):
    rest = [wanted(100, size) for size in following]
    assert fitting(answered(*octets), rest) == proven


@pytest.mark.parametrize(
    ("octets", "found"),
    [
        ([], False),
        ([(5, 5), (6, 6)], False),
        ([(5, 6), (6, 5)], True),
        ([(5, 7), (9, 9), (6, 5), (7, 6)], True),
        ([(5, 6), (6, 7), (7, 8)], False),  # a server that counts LF alone
        ([(5, 6), (6, None)], False),
        ([(0, 5), (0, 6)], False),
    ],
)
def test_p31_another_order_shows_where_sizes_differ(octets: list[tuple[int, int | None]], *, found: bool):
    assert swapped(answered(*octets)) is found
