"""What is a `From ` line, and which instant it tells."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from syncd.formats.mbox.from_line import parse
from syncd.formats.mboxrd import from_line

WHEN = datetime(2018, 3, 1, 9, 5, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    "line",
    [
        from_line(WHEN),
        b"From - Thu Mar  1 09:05:07 2018\n",  # Thunderbird
        b"From anna@example.org Thu Mar 01 09:05:07 2018\r\n",
        b"From 1593840583923@xxx Thu Mar 01 09:05:07 +0000 2018\n",  # Google Takeout
        b"From ???@??? Thu Mar 01 09:05:07 2018\n",  # Eudora
        b"From anna Thu Mar  1 10:05:07 CET 2018 +0100\n",
        b"From anna Thu Mar  1 04:05:07 EST 2018",
        b"From anna Thu Mar  1 09:05:07 2018 remote from host\n",
        b'From "anna b"@example.org  Thu, 1 Mar 09:05:07 2018\n',
    ],
)
def test_lines_of_many_programs(line: bytes) -> None:
    found = parse(line)
    assert found is not None
    assert found.date == WHEN


@pytest.mark.parametrize(
    "line",
    [
        b"From here on it is text\n",
        b"From the 1 Mar 2018 on\n",
        b"From: anna Thu Mar  1 09:05:07 2018\n",
        b">From - Thu Mar  1 09:05:07 2018\n",
        b"From - Thu Xyz  1 09:05:07 2018\n",
        b"From - Thu Mar  1 09:05:07 2018, he said\n",
        b"From \n",
    ],
)
def test_text(line: bytes) -> None:
    assert parse(line) is None


@pytest.mark.parametrize("date", [b"Feb 30 09:05:07 2018", b"Mar  1 25:05:07 2018", b"Mar  1 09:05:07 0000"])
def test_a_date_that_no_calendar_has_still_begins_a_message(date: bytes) -> None:
    found = parse(b"From - Thu " + date + b"\n")
    assert found is not None
    assert found.date is None
