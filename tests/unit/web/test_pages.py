"""The pages: what they show and what their forms do, as people with each role see them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event

from syncd import clock
from syncd.db import board, troubles
from syncd.db.catalog import Catalog
from syncd.db.holder import Holder
from syncd.db.ledger import Ledger, of_account
from syncd.db.people import Role
from syncd.db.progress import write_progress
from syncd.db.rows import Progress, Suspension
from syncd.db.runs import Claim, Runs
from syncd.db.states import RunState
from syncd.services import panel
from syncd.services.pace import Paces
from syncd.services.wiring import owner
from tests.support.web import Browser, Desk

PATHS = (
    "/",
    "/jobs",
    "/jobs/road-backup",
    "/jobs/road-backup?counts=yes",
    "/runs",
    "/waiting",
    "/accounts",
    "/archives",
    "/jobs/road-backup/dry-run",
    "/archives/home/check",
)


def job_id(desk: Desk, name: str = "road-backup") -> int:
    row = Catalog(desk.database, owner(desk.site.loaded)).find_job(name)
    assert row is not None
    return row.id


def begin(desk: Desk, name: str = "road-backup") -> Claim:
    runs = Runs(desk.database)
    run_id = runs.enqueue(job_id(desk, name), "hand")
    assert run_id is not None
    claim = runs.claim(run_id, Holder.me("run of the tests"))
    assert claim is not None
    return claim


def fail(desk: Desk, text: str, name: str = "road-backup") -> int:
    claim = begin(desk, name)
    Runs(desk.database).finish(claim, RunState.FAILED, 4, {"listed": 3}, text)
    return claim.run_id


# --- looking ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_every_page_shows_something_to_a_reader_and_nothing_to_others(desk: Desk, path: str) -> None:
    fail(desk, "sign-in refused")
    reply = desk.browser(Role.READER).get(path)
    assert reply.status == 200
    assert len(reply.body) < 200 << 10
    assert reply.text.count("<h1") == 1
    assert desk.browser(None).get(path).status == 303


@pytest.mark.parametrize("path", PATHS)
def test_looking_writes_nothing(desk: Desk, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = desk.browser(Role.ADMIN)
    monkeypatch.setattr(desk.database.__class__, "write", lambda *_: pytest.fail("a page that looks writes"))
    assert browser.get(path).status == 200


def test_pages_show_no_secret(desk: Desk) -> None:
    text = "".join(desk.browser(Role.ADMIN).get(path).text for path in PATHS)
    assert "NOTHING_THAT_IS_SET" not in text


def test_what_others_wrote_is_text(desk: Desk) -> None:
    """A server's words, such as the error of a run, may be anything."""
    number = fail(desk, '<script>alert(1)</script><img src=x onerror="alert(2)">')
    browser = desk.browser(Role.READER)
    for path in ("/jobs/road-backup", f"/runs/{number}", "/runs"):
        text = browser.get(path).text
        assert "<script>alert" not in text
        assert "<img" not in text
    assert "&lt;script&gt;alert(1)" in browser.get(f"/runs/{number}").text


def test_the_overview_says_in_one_sentence_whether_all_is_well(desk: Desk) -> None:
    browser = desk.browser(Role.READER)
    assert "All is well with 2 jobs." in browser.get("/").text
    loaded, database = desk.site.loaded, desk.database
    account = Catalog(database, owner(loaded)).find_job("road-backup")
    assert account is not None
    suspension = Suspension(clock.now() + timedelta(hours=1), "the server is busy")
    Ledger(database, lambda _: None).suspensions.put(of_account(account.account_id), suspension)
    text = browser.get("/").text
    assert "road is suspended." in text
    assert "the server is busy" in text
    assert [it.name for it in board.suspended(database, owner(loaded).name, clock.now())] == ["road"]
    assert board.suspended(database, owner(loaded).name, clock.now() + timedelta(hours=2)) == []
    assert board.suspended(database, "another configuration", clock.now()) == []


def test_a_run_under_way_shows_how_far_it_is(desk: Desk) -> None:
    browser = desk.browser(Role.READER)
    claim = begin(desk)
    Ledger(desk.database, lambda _: None)
    text = browser.get("/").text
    assert "Running now" in text
    assert f'<a href="/runs/{claim.run_id}">road-backup</a>' in text
    assert "Nothing runs." not in text


def test_jobs_are_told_in_plain_words(desk: Desk) -> None:
    text = desk.browser(Role.READER).get("/jobs/forward").text
    for sentence in (
        "It reads road, POP3 at pop.example.net.",
        "It delivers to home, an archive (packs).",
        "It delivers to new, SMTP at smtp.example.org, for me@example.org.",
        "All mail stays at the source.",
        "It runs only when somebody asks for it.",
    ):
        assert sentence in text
    assert "It runs every 15 minutes (Europe/Berlin)." in desk.browser(Role.READER).get("/jobs").text


@pytest.mark.parametrize(
    "path", ["/jobs/nothing", "/runs/999", "/runs/x", "/waiting?job=nothing", "/jobs/..%2f..%2fetc"]
)
def test_what_is_not_there_is_not_found(desk: Desk, path: str) -> None:
    assert desk.browser(Role.READER).get(path).status in {404, 422}


@pytest.mark.parametrize(
    "path", ["/jobs?start=-1", "/waiting?start=999999999", "/waiting?why=whatever", "/runs?before=x"]
)
def test_addresses_that_make_no_sense_are_refused(desk: Desk, path: str) -> None:
    assert desk.browser(Role.READER).get(path).status in {400, 422}


def test_long_lists_have_pages(desk: Desk) -> None:
    for number in range(51):
        fail(desk, f"error {number}")
    browser = desk.browser(Role.READER)
    first = browser.get("/runs").text
    older = re.search(r'href="/runs\?before=(\d+)"', first)
    assert older is not None
    assert first.count('<a href="/runs/') == 50
    assert browser.get(f"/runs?before={older[1]}").text.count('<a href="/runs/') == 1


# --- acting ----------------------------------------------------------------------------------------------


def test_a_run_is_asked_for_once_and_a_worker_is_woken(desk: Desk) -> None:
    browser = desk.browser(Role.OPERATOR)
    first = browser.post("/jobs/road-backup/run")
    assert (first.status, first.header("location")) == (303, "/runs/1")
    assert browser.post("/jobs/road-backup/run").header("location") == "/runs/1"  # two browsers at once
    assert desk.rung[0] == (1, "")
    assert browser.get("/runs/1").status == 200
    assert browser.post("/runs/1/cancel").header("location") == "/runs/1"
    assert "stopped" in browser.get("/runs/1").text
    assert browser.post("/runs/1/cancel").status == 303  # it is over: nothing happens


def test_a_job_is_paused_and_resumed(desk: Desk) -> None:
    browser = desk.browser(Role.OPERATOR)
    assert browser.post("/jobs/road-backup/pause").header("location") == "/jobs/road-backup"
    assert ">Resume<" in browser.get("/jobs/road-backup").text
    assert panel.panel(desk.site.loaded, desk.database, Paces()).troubles[0].paused == "person"
    browser.post("/jobs/road-backup/resume")
    assert ">Pause<" in browser.get("/jobs/road-backup").text


FORMS: list[Callable[[Browser], int]] = [
    lambda browser: browser.post("/jobs/road-backup/run").status,
    lambda browser: browser.post("/jobs/road-backup/pause").status,
    lambda browser: browser.post("/jobs/road-backup/resume").status,
    lambda browser: browser.post("/runs/1/cancel").status,
    lambda browser: browser.post("/waiting", {"act": "drop", "everything": "yes"}).status,
]


@pytest.mark.parametrize("number", range(len(FORMS)))
def test_a_reader_changes_nothing_and_a_form_needs_its_key(desk: Desk, number: int) -> None:
    Runs(desk.database).enqueue(job_id(desk), "hand")
    reader, operator = desk.browser(Role.READER), desk.browser(Role.OPERATOR)
    assert FORMS[number](reader) == 403
    key = operator.key
    operator.cookies, kept = {}, operator.cookies
    assert FORMS[number](operator) == 303  # nobody is signed in: to the form
    assert operator.cookies == {}
    operator.cookies = kept
    assert operator.key == key
    assert FORMS[number](operator) == 303
    assert "Run now" not in reader.get("/jobs/road-backup").text


def test_forms_for_jobs_that_are_not_there(desk: Desk) -> None:
    browser = desk.browser(Role.OPERATOR)
    for act in ("run", "pause", "resume"):
        assert browser.post(f"/jobs/x%0d%0aX-Y:%20z/{act}").status == 404
    assert browser.post("/runs/7/cancel").status == 404
    assert browser.post("/waiting", {"act": "retry"}).status == 400
    assert browser.post("/waiting", {"act": "burn", "number": "1"}).status == 400
    assert browser.post("/waiting", {"act": "retry", "number": "x"}).status == 400
    assert browser.post("/waiting", {"act": "retry", "number": "17"}).status == 400
    assert browser.post("/waiting", {"act": "retry", "number": "1", "job": "nothing"}).status == 404


def test_the_overview_plots_what_was_done_and_has_the_numbers_in_a_table(desk: Desk) -> None:
    Runs(desk.database).finish(begin(desk), RunState.DONE, 0, {"fetched": 1234, "fetched_octets": 5 << 20})
    fail(desk, "no")
    text = desk.browser().get("/").text
    today = f"{clock.now():%Y-%m-%d}"
    cells = re.search(rf"<tr><th scope=.row.>{today}</th>(.*)</tr>", text)
    assert cells is not None
    assert re.findall(r">([^<>]+)</td>", cells[1]) == ["1,234", "5.0 MiB", "2", "1"]
    assert re.findall(r' d="(.*?)"', text) == ["M290,60v-60.0h8V60z"] * 3
    assert " style=" not in text


def test_a_run_under_way_shows_its_rate_and_what_is_left(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = begin(desk)
    later = clock.now() + timedelta(seconds=10)
    monkeypatch.setattr(clock, "now", lambda: later)
    counts = {"fetched": 1, "fetched_octets": 10 << 20, "to_fetch": 4, "to_fetch_octets": 30 << 20}
    with desk.database.write() as connection:
        write_progress(connection, claim.run_id, claim.generation, Progress("fetching", counts, ()))
    for path in ("/", "/jobs/road-backup", f"/runs/{claim.run_id}"):
        assert "10.0 MiB of 30.0 MiB, 1.0 MiB/s, 20 s left" in desk.browser().get(path).text
    found = desk.browser().get("/api/v1/overview").json
    assert round(found["paces"][str(claim.run_id)]["seconds_left"]) == 20
    assert len(found["days"]) == panel.DAYS


def test_no_statement_of_a_page_reads_all_messages_or_runs(desk: Desk) -> None:
    """SQLite's plan of every statement: what grows with mail and history is only searched, or counted up to a bound."""
    fail(desk, "no")
    browser, statements = desk.browser(), list[tuple[str, Any]]()
    event.listen(
        desk.database.engine,
        "before_cursor_execute",
        lambda _connection, _cursor, statement, parameters, _context, _many: statements.append((statement, parameters)),
    )
    for path in ("/", "/jobs", "/runs", "/accounts", "/archives", "/jobs/road-backup", "/api/v1/overview"):
        assert browser.get(path).status == 200
    asked = [it for it in statements if it[0].startswith("SELECT")]
    assert len(asked) > 30
    with desk.database.read() as connection:
        for statement, parameters in asked:
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters):
                grows = re.match(r"SCAN (messages|deliveries|runs|listings|problems|uncertain_outcomes)\b", str(row[3]))
                assert not grows or "LIMIT" in statement, (statement, row[3])


def test_lists_are_narrowed_by_words(desk: Desk) -> None:
    browser = desk.browser(Role.READER)
    assert 'href="/jobs/forward"' not in browser.get("/jobs?q=ROAD+backup").text
    assert 'href="/jobs/forward"' in browser.get("/jobs?q=new").text  # a destination
    assert "No job matches" in browser.get("/jobs?q=%3Cnothing%3E").text
    assert "No job needs attention" in browser.get("/jobs?attention=yes").text
    assert "smtp.example.org" not in browser.get("/accounts?q=pop").text
    assert "No account matches" in browser.get("/accounts?q=none").text
    assert "No archive matches" in browser.get("/archives?q=none").text
    troubles.note(desk.database, job_id(desk), "5 ", "no route to host")
    assert 'href="/jobs/road-backup"' in browser.get("/jobs?attention=yes").text
    headers = {"authorization": f"Bearer {desk.token(Role.READER)}"}
    for path, names in {
        "/jobs?q=backup": ["road-backup"],
        "/jobs?attention=true": ["road-backup"],
        "/accounts?q=smtp": ["new"],
        "/archives?q=none": [],
    }.items():
        items = browser.get(f"/api/v1{path}", **headers).json["items"]
        assert [it.get("job") or it["account"] for it in items] == names


def test_what_is_due_is_not_told_as_past(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    later = clock.now() + timedelta(hours=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert "due now" in desk.browser(Role.READER).get("/jobs").text
