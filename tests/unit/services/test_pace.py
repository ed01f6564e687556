"""How fast runs fetch, from what their rows say at several times."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from syncd.services.overview import RunSummary
from syncd.services.pace import MAX_RUNS, WINDOW_S, Pace, Paces

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
FIRST = RunSummary(
    job="road",
    run_id=1,
    outcome="running",
    phase="fetching",
    queued_at=BEGAN,
    started_at=BEGAN,
    finished_at=None,
    not_before=None,
    exit_code=None,
    counts={},
    message="",
    slices=1,
)


def at(seconds: float, fetched: int, run: RunSummary = FIRST) -> RunSummary:
    counts = {"fetched_octets": fetched, "to_fetch_octets": 10_000}
    return replace(run, updated_at=BEGAN + timedelta(seconds=seconds), counts=counts)


def test_the_first_look_tells_the_rate_since_the_start():
    assert Paces().of([at(10, 1000)]) == {1: Pace(100, 90)}


def test_later_looks_tell_the_rate_of_the_last_half_minute():
    paces = Paces()
    for second in range(1, 61):
        found = paces.of([at(second, second * 10 if second < 20 else 200 + (second - 20) * 100)])
    assert found[1].octets_per_second == 100
    assert found[1].seconds_left == (10_000 - 4200) / 100
    assert WINDOW_S <= 40


def test_two_looks_at_the_same_row_tell_the_same():
    paces = Paces()
    assert paces.of([at(10, 1000)]) == paces.of([at(10, 1000)])


def test_a_later_slice_has_no_rate_until_its_row_was_written_twice():
    paces, slice2 = Paces(), replace(FIRST, slices=2)
    assert paces.of([at(9000, 1000, slice2)]) == {}
    assert paces.of([at(9001, 1500, slice2)])[1].octets_per_second == 500


def test_another_process_that_goes_on_with_the_run_begins_anew():
    paces = Paces()
    paces.of([at(10, 5000)])
    assert paces.of([at(11, 4000)])[1].octets_per_second == 4000 / 11


def test_nobody_can_tell_of_a_run_that_has_fetched_nothing_or_that_is_over():
    paces = Paces()
    assert paces.of([at(10, 0), replace(at(10, 100), run_id=2, outcome="done"), replace(FIRST, run_id=3)]) == {}


def test_what_stands_still_has_no_end():
    paces, later = Paces(), replace(FIRST, slices=3)
    paces.of([at(10, 1000, later)])
    assert paces.of([at(11, 1000, later)]) == {1: Pace(0, None)}


def test_runs_that_nobody_asks_about_are_forgotten():
    paces = Paces()
    for number in range(MAX_RUNS + 10):
        paces.of([replace(at(10, 100), run_id=number)])
    assert len(paces._seen) == MAX_RUNS
