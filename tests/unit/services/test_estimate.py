"""How long a run is going to take, by those before it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from syncd.db.runs import RunRow
from syncd.db.states import RunState
from syncd.services.estimate import Rate, waiting_s

BEGAN = datetime(2026, 5, 1, tzinfo=UTC)


def run(seconds: float, messages: int, octets: int, *, slices: int = 1) -> RunRow:
    return RunRow(
        id=1, uuid=UUID(int=1), job_id=1, job="move", state=RunState.DONE, trigger="hand", due_at=None, not_before=None,
        queued_at=BEGAN, started_at=BEGAN, updated_at=None, finished_at=BEGAN + timedelta(seconds=seconds), exit_code=0,
        holder=None, generation=1, slices=slices, phase="", cancel_requested=False,
        counts={"fetched": messages, "fetched_octets": octets}, message="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("runs", "messages", "octets", "seconds"),
    [
        ([run(10, 100, 1000)], 50, 10, 5.0),  # many small messages
        ([run(10, 100, 1000)], 1, 5000, 50.0),  # one large message
        ([run(10, 100, 1000), run(30, 100, 3000)], 100, 0, 20.0),
        ([run(10, 100, 1000), run(900, 2, 20)], 100, 0, 10.0),  # what signing in takes tells nothing
        ([run(10, 100, 1000), run(9000, 100, 1000, slices=7)], 100, 0, 10.0),  # nor waiting between slices
    ],
)
def test_the_rate_of_earlier_runs(runs: list[RunRow], messages: int, octets: int, seconds: float) -> None:
    rate = Rate.of(runs)
    assert rate is not None
    assert rate.seconds(messages, octets) == pytest.approx(seconds)


@pytest.mark.parametrize("runs", [[], [run(3, 0, 0)], [run(3, 2, 200)]])
def test_without_a_run_that_fetched_enough_nobody_knows(runs: list[RunRow]) -> None:
    assert Rate.of(runs) is None


@pytest.mark.parametrize(
    ("octets", "limits", "days"),
    [
        (0, [1], 0),
        (10, [], 0),
        (10, [10], 0),  # a day's worth passes at once
        (11, [10], 1),
        (31, [10], 3),
        (31, [10, 5], 6),  # the strictest
    ],
)
def test_the_days_that_a_daily_limit_takes(octets: int, limits: list[int], days: int) -> None:
    assert waiting_s(octets, limits) == days * 86_400
