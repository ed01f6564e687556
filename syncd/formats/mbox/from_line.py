"""The `From ` line before each message of an mbox, as programs write it (pure).

    From <anything> [Www[,]] Mmm dd hh:mm[:ss] [zone] yyyy [zone] [remote from <host>]      asctime(3), RFC 4155
    From <anything> [Www[,]] dd Mmm …                                                       some write RFC 5322's order

A line is a `From ` line only if it ends in such a date: text that begins with "From " does not. RFC 4155 wants UTC, and
a date without a zone is taken for that. Thunderbird has written "From " alone since 2023: such a line counts where a
field of a header follows, and a further field, the rest of this one or an empty line behind it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final, NamedTuple

START: Final = b"From "
MOST_OCTETS: Final = 1_024  # of such a line; senders' addresses have at most 254 characters
_MONTHS: Final = {
    name: number
    for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)
}  # fmt: skip
_ZONES: Final = {
    b"EST": -5,
    b"EDT": -4,
    b"CST": -6,
    b"CDT": -5,
    b"MST": -7,
    b"MDT": -6,
    b"PST": -8,
    b"PDT": -7,
}  # hours
_ZONE: Final = rb"(?:[A-Z]{1,5}|[+-]\d{4})"
_LINE: Final = re.compile(
    rb"From (?:.* )?(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? +)?"
    rb"(?:(?P<month>[A-Z][a-z]{2}) +(?P<day>\d{1,2})|(?P<day2>\d{1,2}) +(?P<month2>[A-Z][a-z]{2}))"
    rb" +(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d))?"
    rb"(?: +(?P<zone>%b))?(?: +(?P<zone2>%b))? +(?P<year>\d{4})(?: +(?P<zone3>%b))?(?: remote from \S+)? *\r?\n?"
    % (_ZONE, _ZONE, _ZONE)
)


_ALONE: Final = re.compile(rb"From \r?\n(?=[!-9;-~]+[ \t]*:[^\n]*(?:\Z|\n(?:\Z|\r?\n|[ \t]|[!-9;-~]+(?:[ \t]*:|\Z))))")


class FromLine(NamedTuple):
    """A `From ` line; `date` is None where it has none, or one that is not in the calendar."""

    date: datetime | None


def at_start(octets: bytes) -> FromLine | None:
    """Returns what the line says that MOST_OCTETS of a file begin with, None where it is no `From ` line."""
    if _ALONE.match(octets):
        return FromLine(None)
    return parse(octets[: octets.find(b"\n") + 1] or octets)


def parse(line: bytes) -> FromLine | None:
    """Returns what a line says, None where it is no `From ` line."""
    found = _LINE.fullmatch(line)
    if found is None:
        return None
    month = _MONTHS.get(found["month"] or found["month2"])
    return None if month is None else FromLine(_date(found, month))


def _date(found: re.Match[bytes], month: int) -> datetime | None:
    zone = next((_zone(found[name]) for name in ("zone3", "zone2", "zone") if found[name]), UTC)
    day, year = int(found["day"] or found["day2"]), int(found["year"])
    try:
        return datetime(
            year, month, day, int(found["hour"]), int(found["minute"]), min(int(found["second"] or 0), 59), tzinfo=zone
        )
    except ValueError:
        return None


def _zone(text: bytes) -> timezone:
    """Returns a zone; UTC for the names that RFC 5322 §4.3 does not know."""
    if text[:1] in {b"+", b"-"}:
        ahead = timedelta(hours=int(text[1:3]), minutes=int(text[3:5]))
        return timezone(-ahead if text[:1] == b"-" else ahead) if ahead < timedelta(days=1) else UTC
    return timezone(timedelta(hours=_ZONES[text])) if text in _ZONES else UTC
