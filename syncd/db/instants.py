"""Instants as the ledger keeps them: whole microseconds since 1970 UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

SECOND: Final = 1_000_000  # microseconds
SLACK: Final = timedelta(minutes=1)  # by which clocks may differ; an instant further ahead was set by a wrong clock
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)


def to_microseconds(instant: datetime) -> int:
    """An aware instant as an integer; exact."""
    return (instant - _EPOCH) // MICROSECOND


def believed(instant: datetime, now: datetime, longest: timedelta) -> datetime:
    """Returns `instant`; `now` where no rule that waits for `longest` could have set it: the clock was ahead then."""
    return now if instant - now > longest + SLACK else instant


def from_microseconds(number: int) -> datetime:
    """The instant, UTC."""
    return _EPOCH + timedelta(microseconds=number)
