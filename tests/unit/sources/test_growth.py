"""A message that turns out longer than listed takes more room as it comes, or goes to a file and takes no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.mail.body import Body, BodyWriter
from syncd.sources.growth import Growth
from tests.contract.pop3_kit import Scarce


def received(room: Scarce, spool: Path, octets: int, listed: int) -> Body:
    growth = Growth(room, listed)
    writer = BodyWriter(spool, growth.fits)
    for start in range(0, octets, 100):
        writer.write(b"x" * min(100, octets - start))
    body = writer.finish()
    growth.end(body)
    return body


@pytest.mark.parametrize(
    ("octets", "listed", "free", "in_memory", "left"),
    [
        (1000, 1000, 0, True, 0),
        (500, 1000, 0, True, 0),
        (1000, 400, 600, True, 0),
        (1000, 0, 1500, True, 500),
        (1000, 400, 599, False, 599),
        (1000, 0, 0, False, 0),
    ],
)
def test_it_takes_what_has_come(  # noqa: PLR0917
    tmp_path: Path,
    octets: int,
    listed: int,
    free: int,
    in_memory: bool,  # noqa: FBT001
    left: int,
):
    room = Scarce(free)
    body = received(room, tmp_path, octets, listed)
    assert (body.octets, body.data is not None, room.free) == (octets, in_memory, left)


def test_one_that_does_not_come_gives_everything_back():
    room = Scarce(100)
    growth = Growth(room, 10)
    assert growth.fits(60)
    growth.end()
    growth.end()
    assert room.free == 100


def test_one_over_what_a_body_may_have_in_memory_goes_to_a_file(tmp_path: Path):
    room = Scarce(0)
    room.longest = 900
    assert received(room, tmp_path, 1000, 1000).data is None
    assert received(room, tmp_path, 900, 1000).data is not None
