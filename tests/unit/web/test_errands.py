"""What takes longer than an answer may: dry runs, checks and verifications, begun by a form and shown by a page."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd import clock
from syncd.db import errands as rows
from syncd.db.errands import DIED, Kind, State, Subject
from syncd.db.holder import Holder
from syncd.db.people import Role
from syncd.engine.events import Listener, MailboxPlan, Noted, PlannedPlace, RunReport
from syncd.engine.mapping import Why
from syncd.engine.plan import Would
from syncd.errors import UsageError
from syncd.services import check, places
from syncd.services.errands import work
from syncd.services.errands.runner import STOPPED
from syncd.services.wiring import owner
from syncd.sources.base import QuotaUse, SourceInfo
from tests.fakes.source import MemorySource
from tests.support.engine import mail
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
        Runner.error = UsageError("broken off")
        Runner.go.set()


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch, desk: Desk) -> Iterator[type[Runner]]:
    Runner.go, Runner.began, Runner.error = threading.Event(), threading.Event(), None
    monkeypatch.setattr(work, "RunsByHand", Runner)
    yield Runner
    Runner.go.set()
    ended(desk)


def ended(desk: Desk) -> None:
    assert desk.site.errands.join(60)


def shown(desk: Desk, path: str) -> str:
    """The text of a page, once what it is about has ended."""
    ended(desk)
    return desk.browser(Role.READER).get(path).text


def test_a_dry_run_is_begun_and_shown_when_it_has_ended(desk: Desk, runner: type[Runner]) -> None:
    browser = desk.browser()
    assert "Nobody has asked for it yet" in browser.get(PATH).text
    assert browser.post(PATH).header("location") == PATH
    assert runner.began.wait(60)
    text = browser.get(PATH).text
    assert ">running</span>" in text
    assert "asked for by operator" in text
    assert 'hx-trigger="every 2s"' in text
    assert browser.post(PATH).status == 409
    assert browser.post("/jobs/forward/dry-run").status == 303
    assert "it begins when another one has ended" in browser.get("/jobs/forward/dry-run").text
    runner.go.set()
    text = shown(desk, PATH)
    assert "fetch 4 messages, 1.0 MiB" in text
    assert "&lt;Sent&gt; would be made" in text
    assert "&lt;Sent&gt;/x\\udcff" in text
    assert "Kept in new (map)" in text
    assert "about 90 s" in text
    assert "hx-trigger" not in text
    assert PATH in browser.get("/jobs/road-backup").text
    assert "A run would" in browser.get("/jobs/forward/dry-run").text


def test_another_process_shows_what_this_one_found(desk: Desk, file: Path, runner: type[Runner]) -> None:
    runner.go.set()
    desk.browser().post(PATH)
    ended(desk)
    other = Desk(file, desk.database)
    assert "fetch 4 messages, 1.0 MiB" in other.browser(Role.READER).get(PATH).text


@pytest.mark.parametrize("error", [UsageError("no route to <host>"), ValueError("odd")])
def test_what_goes_wrong_stands_where_the_result_would(desk: Desk, runner: type[Runner], error: Exception) -> None:
    runner.error = error
    runner.go.set()
    assert desk.browser().post(PATH).status == 303
    text = shown(desk, PATH)
    assert ("no route to &lt;host&gt;" in text) != ("this is a bug in syncd: ValueError" in text)
    assert "A run would" not in text


def test_a_reader_begins_none_and_a_run_under_way_needs_none(desk: Desk, runner: type[Runner]) -> None:
    reader = desk.browser(Role.READER)
    for path in (PATH, "/archives/home/check", "/accounts/road/check", "/jobs/road-backup/verify"):
        assert reader.post(path).status == 403
        assert reader.post(f"{path}/cancel").status == 403
        assert "<button" not in reader.get(path).text.partition("<main")[2].partition("</main>")[0]
    begin(desk)
    assert desk.browser().post(PATH).status == 409
    assert not runner.began.is_set()


def test_one_under_way_is_cancelled_and_one_that_waits_never_begins(desk: Desk, runner: type[Runner]) -> None:
    browser = desk.browser()
    browser.post(PATH)
    assert runner.began.wait(60)
    browser.post("/jobs/forward/dry-run")
    assert browser.post("/jobs/forward/dry-run/cancel").header("location") == "/jobs/forward/dry-run"
    assert browser.post(f"{PATH}/cancel").status == 303
    ended(desk)
    assert ">cancelled</p>" in browser.get(PATH).text
    assert "cancelled before it began" in browser.get("/jobs/forward/dry-run").text
    assert browser.post(f"{PATH}/cancel").status == 303  # nothing is under way


def test_the_end_of_the_service_ends_it_and_says_so(desk: Desk, runner: type[Runner]) -> None:
    desk.browser().post(PATH)
    assert runner.began.wait(60)
    desk.site.errands.stop()
    desk.site.errands.stop()
    assert STOPPED in desk.browser().get(PATH).text


def test_a_process_that_died_over_it_is_told_and_it_may_begin_again(desk: Desk, runner: type[Runner]) -> None:
    configuration = owner(desk.site.loaded).name
    now = clock.now()
    rows.ask(desk.database, rows.Wanted(Subject(configuration, Kind.DRY_RUN, "road-backup"), "ann"), now)
    dead = Holder(**{**json.loads(str(Holder.me("errand"))), "pid": 1 << 22})
    assert rows.take(desk.database, [Kind.DRY_RUN], configuration, dead, now) is not None
    assert DIED in desk.browser().get(PATH).text
    runner.go.set()
    assert desk.browser().post(PATH).status == 303
    assert "A run would" in shown(desk, PATH)


def test_an_archive_is_checked(desk: Desk) -> None:
    browser, path = desk.browser(), "/archives/home/check"
    assert browser.post(path).header("location") == path
    assert places.NOT_HERE in shown(desk, path)
    assert browser.get("/archives/none/check").status == 404


def test_an_account_is_checked_by_signing_in(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "open_source", lambda *_, **__: MemorySource(mail(2)))
    path = "/accounts/road/check"
    assert desk.browser().post(path).header("location") == path
    text = shown(desk, path)
    assert "Signed in." in text
    assert "<dt>Messages</dt><dd>2," in text
    assert desk.browser().post("/accounts/nothing/check").status == 404
    program = Program(desk, desk.token(Role.READER))
    assert program.get(path).json["result"]["totals"]["messages"] == 2
    assert '<a href="/accounts/road/check">' in desk.browser().get("/accounts").text


def test_a_check_that_fails_says_why(desk: Desk) -> None:
    desk.browser().post("/accounts/road/check")
    text = shown(desk, "/accounts/road/check")
    assert "Signed in." not in text
    assert "NOTHING_THAT_IS_SET" in text  # the reference that gives nothing; a name, no secret


def test_a_check_shows_how_much_of_a_quota_is_used(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    used = QuotaUse("<team>", 512 << 20, 1 << 30, None, None)
    found = check.AccountCheck("road", SourceInfo("h:993", "TLSv1.3", "PLAIN", ()), 3, None, quotas=(used,))
    monkeypatch.setattr(check.Check, "account", lambda *_: found)
    desk.browser().post("/accounts/road/check")
    text = shown(desk, "/accounts/road/check")
    assert "Quota &lt;team&gt;</dt><dd>512.0 MiB of 1.0 GiB (50 %) used" in text
    assert "h:993, TLSv1.3, signed in by PLAIN" in text


def test_the_api_does_the_same(desk: Desk, runner: type[Runner]) -> None:
    program = Program(desk, desk.token(Role.OPERATOR))
    assert program.get(PATH).status == 404
    reply = program.post(PATH)
    assert (reply.status, reply.header("location"), reply.json) == (202, f"/api/v1{PATH}", {"at": f"/api/v1{PATH}"})
    assert runner.began.wait(60)
    found = program.get(PATH).json
    assert (found["state"], found["asked_by"], found["result"]) == ("running", "token robot", None)
    runner.go.set()
    ended(desk)
    found = program.get(PATH).json
    assert (found["state"], found["error"], found["result"]["report"]["to_fetch"]) == ("done", "", 4)
    assert found["result"]["notes"] == ["<Sent> would be made"]
    assert program.post(f"{PATH}/cancel").json == {"cancelled": False}
    assert program.post("/archives/home/check").status == 202
    ended(desk)
    assert program.get("/archives/home/check").json["state"] == "failed"


def test_long_lists_are_cut_and_say_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    class Many(Runner):
        def execute(self) -> list[RunReport]:
            for number in range(work.MOST + 5):
                self._listen(Noted("road-backup", f"note {number}"))
            return [self._report]

    monkeypatch.setattr(work, "RunsByHand", Many)
    desk.browser().post(PATH)
    ended(desk)
    result: dict[str, Any] = Program(desk, desk.token(Role.READER)).get(PATH).json["result"]
    assert len(result["notes"]) == work.MOST
    assert result["left_out"] == {"notes": 5}


def test_what_waits_is_begun_by_a_process_that_starts(desk: Desk, runner: type[Runner]) -> None:
    runner.go.set()
    subject = Subject(owner(desk.site.loaded).name, Kind.DRY_RUN, "road-backup")
    rows.ask(desk.database, rows.Wanted(subject, "ann"), clock.now())
    desk.site.errands.wake()
    ended(desk)
    found = rows.newest(desk.database, subject)
    assert found is not None
    assert found.state is State.DONE
