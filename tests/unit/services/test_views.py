"""However a run ends: `status`, `runs` and `errors` say the same of it, and what is so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import pytest

from syncd.db.holder import Holder
from syncd.db.runs import Runs
from syncd.engine.events import Event, PhaseBegan, RunReport
from syncd.errors import ArchiveMissing, AuthRefused, Cancelled, TransportError
from syncd.services.registry import Registry
from tests.support.engine import mail
from tests.support.jobs import Jobs

REMOVES = "leave_on_server = false\nconfirm_removal = true"


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    return Jobs(tmp_path, ["j"], patch=monkeypatch)


def run(jobs: Jobs, listen: Callable[[Event], None] | None = None) -> RunReport:
    return jobs.run(listen)["j"]


class Views:
    """The output of the three verbs about the one job."""

    def __init__(self, jobs: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
        [status] = jobs.shown(capsys, "status")
        self.known: dict[str, Any] = status["known"]
        self.last: dict[str, Any] = self.known["last"]
        self.runs = jobs.shown(capsys, "runs")
        self.errors = jobs.shown(capsys, "errors")
        self.text = jobs.said(capsys, "status") + jobs.said(capsys, "runs") + jobs.said(capsys, "errors")
        self.agree()

    def agree(self) -> None:
        assert self.last == self.runs[0]
        waiting = sum(self.known[name] for name in ("to_do", "waiting_time", "waiting_person"))
        listed = {line["number"] for line in self.errors if line["number"] is not None}
        assert len(listed) + sum(line.get("messages", 0) for line in self.errors if line["number"] is None) == waiting
        assert ("no message waits" in self.text) == (waiting == 0)

    def ended(self, outcome: str, code: int | None) -> bool:
        assert (self.last["outcome"], self.last["exit_code"]) == (outcome, code)
        return f"{outcome} ({code})" in self.text if code else True


def test_done_and_nothing_new(jobs: Jobs, capsys: pytest.CaptureFixture[str]):
    for fetched, number in ((2, 1), (0, 2)):
        run(jobs)
        views = Views(jobs, capsys)
        assert views.ended("done", 0)
        assert (views.last["counts"]["fetched"], len(views.runs)) == (fetched, number)
        assert (views.known["on_server"], views.known["done"]) == (2, 2)


def test_what_was_removed_is_not_at_the_source(jobs: Jobs, capsys: pytest.CaptureFixture[str]):
    jobs.configure(REMOVES)
    assert run(jobs).removed == 2
    views = Views(jobs, capsys)
    assert views.ended("done", 0)
    assert (views.known["on_server"], views.known["removal_unknown"], views.known["done"]) == (0, 0, 2)
    assert views.runs[0]["counts"]["removed"] == 2


@pytest.mark.parametrize("gone", [True, False])
def test_a_farewell_without_an_answer_leaves_open_what_was_removed(
    jobs: Jobs, capsys: pytest.CaptureFixture[str], *, gone: bool
):
    jobs.configure(REMOVES)
    source = jobs.sources["j"]

    def hang_up() -> None:
        if source.sessions[-1].doomed:
            if gone:
                source.mail.clear()
            raise TransportError("no answer to QUIT came")

    source.on_finish = hang_up
    report = run(jobs)
    assert (report.exit_code, report.removed, report.removal_unknown) == (5, 0, 2)
    views = Views(jobs, capsys)
    assert views.ended("failed", 5)
    assert (views.known["on_server"], views.known["removal_unknown"]) == (2, 2)
    assert "not known whether 2 messages were removed" in views.text
    source.on_finish = lambda: None
    run(jobs)
    views = Views(jobs, capsys)
    assert (views.known["on_server"], views.known["removal_unknown"], source.mail) == (0, 0, {})


def test_a_killed_run_shows_what_it_stored(jobs: Jobs, capsys: pytest.CaptureFixture[str]):
    class Killed(BaseException):
        pass

    def die(event: Event) -> None:
        if isinstance(event, PhaseBegan) and event.phase == "removing":
            raise Killed

    jobs.configure(REMOVES)
    with patch.object(Runs, "finish"):  # the process does not come to it
        run(jobs, die)
    with patch.object(Holder, "is_dead", lambda _: True):
        views = Views(jobs, capsys)
    assert views.ended("died", None)
    assert views.runs[0]["counts"]["fetched"] == 2
    assert run(jobs).removed == 2
    views = Views(jobs, capsys)
    assert (len(views.runs), views.last["outcome"], views.last["counts"]["fetched"]) == (1, "done", 2)


def test_ctrl_c_is_stopped(jobs: Jobs, capsys: pytest.CaptureFixture[str]):
    def stop(event: Event) -> None:
        if isinstance(event, PhaseBegan) and event.phase == "fetching":
            assert jobs.runner is not None
            jobs.runner.cancel()

    jobs.sources["j"]._stops = True
    assert run(jobs, stop).exit_code == 130
    views = Views(jobs, capsys)
    assert views.ended("stopped", 130)


def test_ctrl_c_is_stopped_where_the_connection_broke_first(jobs: Jobs, capsys: pytest.CaptureFixture[str]):
    def stop(event: Event) -> None:
        if isinstance(event, PhaseBegan) and event.phase == "connecting":
            assert jobs.runner is not None
            jobs.runner.cancel()
            jobs.sources["j"].failure = TransportError("the connection is closed")

    run(jobs)
    assert run(jobs, stop).exit_code == 130
    assert Views(jobs, capsys).ended("stopped", 130)


def test_ctrl_c_is_stopped_where_the_process_did_not_wait(jobs: Jobs, capsys: pytest.CaptureFixture[str]):
    def stop(event: Event) -> None:
        if isinstance(event, PhaseBegan) and event.phase == "fetching":
            assert jobs.runner is not None
            assert jobs.runner._database is not None
            Runs(jobs.runner._database).request_stop([1])

    with patch.object(Runs, "finish"):
        run(jobs, stop)
    with patch.object(Holder, "is_dead", lambda _: True):
        assert Views(jobs, capsys).ended("stopped", 130)


def test_a_refused_sign_in(jobs: Jobs, capsys: pytest.CaptureFixture[str]):
    run(jobs)
    jobs.sources["j"].mail = mail(4)
    jobs.sources["j"].failure = AuthRefused("no")
    assert run(jobs).exit_code == 4
    assert Views(jobs, capsys).ended("failed", 4)


@pytest.mark.parametrize("first", [True, False])
def test_an_archive_that_is_missing(
    jobs: Jobs, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *, first: bool
):
    with monkeypatch.context() as context:
        if first:
            context.setattr(Registry, "archive", Mock(side_effect=ArchiveMissing("not there")))
        else:
            run(jobs)
            (jobs.directory / "j-home").rename(jobs.directory / "elsewhere")
        report = run(jobs)
    views = Views(jobs, capsys)
    assert views.ended("stopped", 7)
    assert report.errors[0] in views.last["message"]
    assert views.last["started_at"] is None
    assert "-  -" not in views.text.splitlines()[1]  # when it was asked for


def test_a_configuration_that_became_wrong_is_told_by_all(jobs: Jobs, capsys: pytest.CaptureFixture[str]):
    run(jobs)
    jobs.file.write_text(jobs.file.read_text().replace("[jobs.j]", "[jobs.j]\nodd = 1"))
    for verb in ("status", "runs", "errors"):
        assert jobs.shown(capsys, verb, code=6)["exit_code"] == 6


def test_what_is_left_when_a_destination_fails_is_accounted_for(
    jobs: Jobs, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object, **__: object) -> None:
        raise Cancelled("stopped")

    with monkeypatch.context() as context:
        context.setattr("syncd.destinations.maildir.MaildirArchive.deliver", fail)
        assert run(jobs).exit_code == 130
    views = Views(jobs, capsys)
    assert views.errors == [{"job": "j", "number": None, "why": "pending", "messages": 2}]
    assert "2 messages are still to be fetched or delivered" in views.text


def test_what_two_configurations_share_is_said(jobs: Jobs, capsys: pytest.CaptureFixture[str]):
    run(jobs)
    text = jobs.file.read_text()
    other = jobs.directory / "other.toml"
    other.write_text(text.replace("j-home]", "disk]").replace('["j-home"]', '["disk"]'))
    first, jobs.file = jobs.file, other
    assert run(jobs).exit_code == 0
    assert len([each for each in (jobs.directory / "j-home").rglob("*") if each.parent.name in {"cur", "new"}]) == 2
    assert "j is also used by the configuration" in jobs.said(capsys, "status")
    [shown] = jobs.shown(capsys, "status")
    assert {"name": "disk", "configuration": str(first), "called": "j-home"} in shown["shared"]
    assert (len(jobs.shown(capsys, "runs")), len(shown["destinations"])) == (1, 1)
    jobs.file = first
    assert run(jobs).exit_code == 0
    assert len(jobs.shown(capsys, "runs")) == 2


def test_a_trouble_is_told_when_it_begins_changes_and_ends(jobs: Jobs, capsys: pytest.CaptureFixture[str]):
    def once(failure: Exception | None) -> tuple[str, str]:
        jobs.sources["j"].failure = failure  # type: ignore[assignment]
        capsys.readouterr()
        return run(jobs).news, jobs.said(capsys, "run", "-q")

    assert once(None) == ("", "")
    assert once(TransportError("port 1 is closed"))[0] == "began"
    assert once(TransportError("port 22 is closed")) == ("same", "")
    news, said = once(TransportError("the name is not known"))
    assert (news, said) == ("changed", "")  # it was told by the first of the two runs
    assert once(None)[0] == "ended"
    jobs.sources["j"].failure = TransportError("port 1 is closed")
    assert "port 1 is closed" in jobs.said(capsys, "run", "-q")
    jobs.sources["j"].failure = None
    assert "all went well, for the first time since" in jobs.said(capsys, "run", "-q")
