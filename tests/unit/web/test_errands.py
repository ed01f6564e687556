"""What takes longer than an answer may: dry runs and checks of archives, begun by a form and shown by a page."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from syncd.db.people import Role
from syncd.engine.events import Listener, MailboxPlan, Noted, PlannedPlace, RunReport
from syncd.engine.mapping import Why
from syncd.engine.plan import Would
from syncd.errors import UsageError
from syncd.services import errands, places
from syncd.services.errands import KEPT, ArchiveChecked, Errand, Errands
from tests.support.web import Desk
from tests.unit.web.test_api import Program
from tests.unit.web.test_pages import begin

PATH = "/jobs/road-backup/dry-run"


class Runner:
    """In place of RunsByHand: waits until it is let go or cancelled."""

    go: threading.Event
    began: threading.Event
    error: Exception | None = None

    def __init__(self, _loaded: object, names: list[str], _options: object, listen: Listener) -> None:
        plan = MailboxPlan(
            ("<Sent>", "x\udcff"), "", Would.FETCH, 9, None, 4, 1 << 20, (PlannedPlace("new", ("Kept",), Why.MAP),)
        )
        self._report = RunReport(
            names[0], dry_run=True, listed=9, new=4, to_fetch=4, to_fetch_octets=1 << 20, mapping=(plan,),
            seconds_ahead=90.0,
        )  # fmt: skip
        self._listen = listen

    def execute(self) -> list[RunReport]:
        Runner.began.set()
        assert Runner.go.wait(60)
        if Runner.error is not None:
            raise Runner.error
        self._listen(Noted("road-backup", "<Sent> would be made"))
        return [self._report]

    def cancel(self) -> None:
        Runner.error = UsageError("cancelled")
        Runner.go.set()


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, desk: Desk) -> Iterator[type[Runner]]:
    Runner.go, Runner.began, Runner.error = threading.Event(), threading.Event(), None
    monkeypatch.setattr(errands, "RunsByHand", Runner)
    yield Runner
    Runner.go.set()
    ended(desk.site.errands)


def ended(of: Errands) -> None:
    if of._thread is not None:
        of._thread.join(60)
        assert not of._thread.is_alive()


def test_a_dry_run_is_begun_and_shown_when_it_has_ended(desk: Desk, runner: type[Runner]) -> None:
    browser = desk.browser()
    assert "has not done one" in browser.get(PATH).text
    assert browser.post(PATH).header("location") == PATH
    text = browser.get(PATH).text
    assert "under way" in text
    assert 'hx-trigger="every 2s"' in text
    assert browser.post("/jobs/forward/dry-run").status == 429
    runner.go.set()
    ended(desk.site.errands)
    text = browser.get(PATH).text
    assert "fetch 4 messages, 1.0 MiB" in text
    assert "&lt;Sent&gt; would be made" in text
    assert "&lt;Sent&gt;/x\\udcff" in text
    assert "Kept in new (map)" in text
    assert "about 90 s" in text
    assert "hx-trigger" not in text
    assert PATH in browser.get("/jobs/road-backup").text


@pytest.mark.parametrize("error", [UsageError("no route to <host>"), ValueError("odd")])
def test_what_goes_wrong_stands_where_the_result_would(desk: Desk, runner: type[Runner], error: Exception) -> None:
    runner.error = error
    runner.go.set()
    browser = desk.browser()
    assert browser.post(PATH).status == 303
    ended(desk.site.errands)
    text = browser.get(PATH).text
    assert ("no route to &lt;host&gt;" in text) != ("this is a bug in syncd: ValueError" in text)
    assert "A run would" not in text


def test_a_reader_begins_none_and_a_run_under_way_needs_none(desk: Desk, runner: type[Runner]) -> None:
    reader = desk.browser(Role.READER)
    assert reader.post(PATH).status == 403
    assert reader.post("/archives/home/check").status == 403
    assert "<button" not in reader.get(PATH).text.partition("<main")[2].partition("</main>")[0]
    begin(desk)
    assert desk.browser().post(PATH).status == 409
    assert not runner.began.is_set()


def test_the_end_of_the_service_cancels_it(desk: Desk, runner: type[Runner]) -> None:
    desk.browser().post(PATH)
    assert runner.began.wait(60)
    desk.site.errands.stop()
    desk.site.errands.stop()
    found = desk.site.errands.find("dry run", "road-backup")
    assert found is not None
    assert found.error == "cancelled"


def test_an_archive_is_checked(desk: Desk) -> None:
    browser, path = desk.browser(), "/archives/home/check"
    assert browser.post(path).header("location") == path
    ended(desk.site.errands)
    assert places.NOT_HERE in browser.get(path).text
    assert browser.get("/archives/none/check").status == 404


def test_the_api_does_the_same(desk: Desk, runner: type[Runner]) -> None:
    program = Program(desk, desk.token(Role.OPERATOR))
    assert program.get(PATH).status == 404
    reply = program.post(PATH)
    assert (reply.status, reply.header("location"), reply.json) == (202, f"/api/v1{PATH}", {"at": f"/api/v1{PATH}"})
    assert program.get(PATH).json["result"] is None
    runner.go.set()
    ended(desk.site.errands)
    found = program.get(PATH).json
    assert (found["error"], found["result"]["report"]["to_fetch"]) == ("", 4)
    assert found["result"]["notes"] == ["<Sent> would be made"]
    assert program.post("/archives/home/check").status == 202
    ended(desk.site.errands)
    assert program.get("/archives/home/check").json["error"]


def test_old_results_are_forgotten(desk: Desk) -> None:
    kept, directory = Errands(), desk.site.loaded.settings.state_directory

    def work(_: Errand) -> ArchiveChecked:
        raise UsageError("no")

    for number in range(KEPT + 5):
        assert kept.start("check", str(number), work, directory)
        ended(kept)
    assert kept.find("check", "0") is None
    assert kept.find("check", str(KEPT + 4)) is not None
