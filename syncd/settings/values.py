"""Reads sizes, durations and rates as people write them: "2 GiB", "30 days", "20/minute".

Pure functions of text. A ValueError says what is wrong; the caller adds an accepted value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

_UNITS: Final = {
    "b": 1, "octet": 1, "octets": 1, "byte": 1, "bytes": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
}  # fmt: skip
_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_NUMBER_AND_WORD: Final = re.compile(r"\s*([0-9]{1,18})(\.[0-9]{1,9})?\s*([A-Za-z]+)\s*\Z")
_GROUPS: Final = re.compile(r"\s*([0-9]{1,3}(?:,[0-9]{3}){1,5})(?![0-9,])(.*)", re.DOTALL)
_RATE: Final = re.compile(r"\s*([0-9]{1,6})\s*/\s*(second|minute|hour|day)\s*\Z", re.IGNORECASE)
MAX_DURATION: Final = timedelta(days=36_500)  # a century: a longer time is a mistake, and dates stay in range


def parse_octets(value: object) -> int:
    """Returns the octets of a size such as "2 GiB" or "2,500 MB", or of a whole number."""
    if isinstance(value, str) and (groups := _GROUPS.fullmatch(value)):
        value = groups[1].replace(",", "") + groups[2]
    if isinstance(value, int) and not isinstance(value, bool):
        octets = value
    elif isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        octets = int(value)
    else:
        octets = _with_unit(value)
    if not 1 <= octets < 1 << 63:
        raise ValueError("must be between 1 octet and 8 EiB")
    return octets


def _with_unit(value: object) -> int:
    match = _NUMBER_AND_WORD.match(value) if isinstance(value, str) else None
    if match is None or match[3].lower() not in _UNITS:
        raise ValueError("is not a size")
    return round(float(match[1] + (match[2] or "")) * _UNITS[match[3].lower()])


def parse_duration(value: object) -> timedelta:
    """Returns the time of "30 days", "12 hours", "2 weeks"; more than 0, at most MAX_DURATION."""
    match = _NUMBER_AND_WORD.match(value) if isinstance(value, str) else None
    seconds = _SECONDS.get(match[3].lower().removesuffix("s")) if match and not match[2] else None
    if match is None or seconds is None:
        raise ValueError("is not a duration")
    if not 0 < int(match[1]) * seconds <= MAX_DURATION.total_seconds():
        raise ValueError("is out of range")
    return timedelta(seconds=int(match[1]) * seconds)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `messages` in any `seconds`; `text` is how it is shown."""

    text: str
    messages: int
    seconds: int

    def __str__(self) -> str:
        return self.text


def parse_rate(value: object) -> Rate:
    """Read "20/minute" or "500 / hour": a number of messages for each second, minute, hour or day."""
    match = _RATE.match(value) if isinstance(value, str) else None
    if match is None or not int(match[1]):
        raise ValueError("is not a rate")
    return Rate(f"{int(match[1])}/{match[2].lower()}", int(match[1]), _SECONDS[match[2].lower()])


def show_octets(octets: int) -> str:
    """Returns the shortest text for a size: 2147483648 is "2 GiB"."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if octets % _UNITS[unit.lower()] == 0:
            return f"{octets // _UNITS[unit.lower()]} {unit}"
    return f"{octets} octets"


def show_duration(duration: timedelta) -> str:
    """Returns the shortest text for a duration: 2592000 s is "30 days"."""
    total = int(duration.total_seconds())
    for unit in ("day", "hour", "minute", "second"):
        count, rest = divmod(total, _SECONDS[unit])
        if rest == 0:
            return f"{count} {unit}" + ("" if count == 1 else "s")
    raise AssertionError(duration)
