"""Runs of several jobs in one process: what happens to one of them does not end the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from syncd.crash import CRASH_FILE
from syncd.engine.events import Event, RunFinished
from syncd.engine.exit_codes import ExitCode
from syncd.errors import TransportError
from syncd.services import overview, registry, slices, wiring
from syncd.services.destinations import Destinations
from tests.support.jobs import Jobs

NAMES = ("one", "two", "three")


class Surprise(BaseException):
    """Not even an Exception."""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    return Jobs(tmp_path, NAMES, patch=monkeypatch)


def last(bench: Jobs, name: str) -> overview.RunSummary:
    with wiring.existing_ledger(bench.loaded) as database:
        return overview.history(bench.loaded, database, name, 1)[0]


def only_for(name: str, place: str, error: BaseException) -> Callable[..., object]:
    """Returns a method that fails for one job's archive or account, and works for the others."""
    owner: type = registry.Registry if place == "account" else Destinations
    works = getattr(owner, place)

    def fail(self: object, what: object, *more: object, **others: object) -> object:
        named = str(what[0].row.name if isinstance(what, list) else what)
        if named.startswith(name):
            raise error
        return works(self, what, *more, **others)

    return fail


@pytest.mark.parametrize("error", [TypeError("odd"), Surprise("odder"), RecursionError(), OSError("odd")])
@pytest.mark.parametrize("where", ["account", "make", "take", "connect"])
@pytest.mark.parametrize("parallel", [1, 3])
def test_a_bug_in_one_job_is_told_and_the_others_run(
    bench: Jobs, monkeypatch: pytest.MonkeyPatch, where: str, error: BaseException, parallel: int
):
    if where == "connect":
        monkeypatch.setattr(bench.sources["two"], "failure", error)
    else:
        owner = registry.Registry if where == "account" else Destinations
        monkeypatch.setattr(owner, where, only_for("two", where, error))
    reports = bench.run(parallel=parallel)
    assert [reports[name].exit_code for name in NAMES] == [ExitCode.DONE, ExitCode.FAILED, ExitCode.DONE]
    assert [reports[name].fetched for name in NAMES] == [2, 0, 2]
    (line,) = reports["two"].errors
    trace = bench.state / CRASH_FILE
    assert line.startswith(f"this is a bug in syncd: {type(error).__name__}")
    assert line.endswith(f"please report it, with {trace}")
    assert 'job "two"\nTraceback' in trace.read_text()
    assert {event.job for event in bench.events if isinstance(event, RunFinished)} == set(NAMES)


def test_after_a_bug_the_row_is_closed_and_nothing_is_held(bench: Jobs):
    bench.run()
    bench.sources["two"].mail.update({b"more": b"Subject: more\r\n\r\n"})
    bench.sources["two"].failure = TypeError("odd")  # type: ignore[assignment]
    bench.run()
    row = last(bench, "two")
    assert (row.outcome, row.exit_code, row.message) == ("failed", 1, slices.BUG)
    bench.sources["two"].failure = None
    assert bench.run()["two"].fetched == 1


def test_a_bug_before_a_job_is_registered_is_in_its_history(bench: Jobs, monkeypatch: pytest.MonkeyPatch):
    bench.run()
    with monkeypatch.context() as patch:
        patch.setattr(registry.Registry, "account", only_for("two", "account", TypeError("odd")))
        bench.run()
    assert (last(bench, "two").outcome, last(bench, "two").exit_code) == ("failed", 1)
    assert bench.run()["two"].exit_code is ExitCode.DONE


def test_a_listener_that_fails_ends_only_the_job_that_it_was_told_of(bench: Jobs):
    def listen(event: Event) -> None:
        if event.job == "two":
            raise json.JSONDecodeError("odd", "", 0)

    reports = bench.run(listen)
    assert [reports[name].exit_code for name in NAMES] == [ExitCode.DONE, ExitCode.FAILED, ExitCode.DONE]


def test_a_bug_in_giving_back_what_was_shared_does_not_hide_what_was_done(bench: Jobs, monkeypatch: pytest.MonkeyPatch):
    close = Destinations.close

    def fail(self: Destinations) -> None:
        close(self)
        raise TypeError("odd")

    monkeypatch.setattr(Destinations, "close", fail)
    reports = bench.run()
    assert [reports[name].fetched for name in NAMES] == [2, 2, 2]
    assert reports["three"].exit_code is ExitCode.FAILED


def test_an_expected_error_of_one_job_is_its_own(bench: Jobs):
    bench.sources["two"].failure = TransportError("the server hung up")
    reports = bench.run()
    assert [reports[name].exit_code for name in NAMES] == [ExitCode.DONE, ExitCode.TEMPORARY, ExitCode.DONE]
    assert not (bench.state / CRASH_FILE).exists()
