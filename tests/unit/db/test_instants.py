from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from syncd.db.instants import from_microseconds, to_microseconds


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-9, minutes=-30))])))
def test_an_instant_comes_back_exactly(instant: datetime) -> None:
    assert from_microseconds(to_microseconds(instant)) == instant


def test_counts_microseconds_since_1970() -> None:
    assert to_microseconds(datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC)) == 1_000_005
