"""The fuzz harness of the IMAP core, for a moment here and for long in `make soak`; inputs that failed are kept."""

from __future__ import annotations

import pytest

from tests.fuzz.imap import cases, check

FOUND = [
    b"a)1 bad\rNISHED 405\r\n* 1 FETCH (UID 7 )\r\n",  # what looks like the end of a command, and is none
    b"* 1 FETCH (UID 7)\r\n* FLAGS NIL\r\n* ENABLED\r\n",  # cut before ")": what came behind it was not read
    b"* 12 FETCH (FLAGS (\\See\r\nn) UID 7)\r\n",  # a line end among flags
    b'* ESEARCH (TAG "a1") UID ALL ' + b"4:18,21," * 5000 + b"17 ALL 3\r\n",  # the same twice, in one line or in parts
]


@pytest.mark.parametrize("octets", FOUND)
def test_found_inputs(octets: bytes):
    for seed in range(100 if len(octets) < 100 else 10):
        check(octets, seed)


def test_whatever_octets_come_in_whatever_pieces():
    for number, octets in enumerate(cases(7, 150)):
        check(octets, number)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1000, 1040))
def test_many_more(seed: int):
    for number, octets in enumerate(cases(seed, 500)):
        check(octets, number)
