from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from syncd.cli.main import call
from syncd.db.catalog import Catalog
from syncd.db.database import Database
from syncd.db.holder import Holder
from syncd.db.ledger import Ledger, of_route
from syncd.db.routing import DestinationSpec
from syncd.db.rows import Cause, Freeze, MailboxScope, Progress, RunScope, Suspension
from syncd.db.runs import Claim, Runs
from syncd.db.states import RunState
from syncd.destinations.smtp.pace import Limit
from syncd.errors import MessageRefused
from syncd.mail.listing import Totals
from syncd.mail.mailbox import MAILDROP, Mailbox
from syncd.mail.message import Receipt
from syncd.mail.outcome import Outcome, Repeat, Verdict
from syncd.services import overview
from syncd.services.wiring import open_ledger
from syncd.settings.load import Loaded, load
from tests.support.ledger import BEGIN, Clock, add, uids

CONFIG = """
[accounts.road]
protocol = "pop3"
host = "pop.example.net"
username = "me"
password = "env:NOTHING"
[archives.home]
path = "home"
[jobs.road-backup]
source = "road"
destinations = ["home"]
schedule = "every 15 minutes"
[jobs.idle]
source = "road"
destinations = ["home"]
enabled = false
"""
ARCHIVE = uuid4()


@pytest.fixture(autouse=True)
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNCD_HOME", str(tmp_path / "state"))
    Path("syncd.toml").write_text(CONFIG)
    return load()


class Past:
    """A ledger in which a run of the job is under way: `claim`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        catalog = Catalog(database)
        account = catalog.account("road", "pop3", "pop.example.net", "me")
        archive = catalog.archive("home", "/home", "packs", ARCHIVE)
        job = catalog.job("road-backup", account.id, [DestinationSpec("archive", archive.id)], removes=False)
        self.job = job
        self.runs = Runs(database)
        self.ledger = Ledger(database, lambda _: None)
        self.claim = self.begin(job.id)
        self.run = RunScope(self.claim.run_id, self.claim.generation, job.id, account.id, job.routes)
        self.scope = self.mailbox(MAILDROP)

    def begin(self, job_id: int, holder: Holder | None = None) -> Claim:
        run_id = self.runs.enqueue(job_id, "hand")
        assert run_id is not None
        claim = self.runs.claim(run_id, holder or Holder.me("run of the tests"))
        assert claim is not None
        return claim

    def mailbox(self, mailbox: Mailbox) -> MailboxScope:
        (known,) = self.ledger.mailboxes.known(self.run, [mailbox])
        return known.scope

    def pull(self) -> None:
        """Four messages are listed: two delivered, one refused by the server, one left for the next run."""
        with self.ledger.listing(self.scope) as listing:
            add(listing, uids("uid1", "uid2", "uid3", "uid4"))
            listing.record(Totals(4, 40))
            rows = listing.work(BEGIN, 10)
        digests = [bytes([n]) * 32 for n in range(2)]
        stored = [(row.key, 10, sha256, b"h" * 8) for row, sha256 in zip(rows, digests, strict=False)]
        outcomes = [
            Outcome(key, Verdict.DELIVERED, Receipt(sha256, "hint" if n else ""))
            for n, (key, _, sha256, _) in enumerate(stored)
        ]
        route = self.run.routes[0].id
        refused = (rows[2].key, MessageRefused("cannot be \x1b[2Jread"))
        self.ledger.commit(self.run, stored, [(route, outcome) for outcome in outcomes], [refused])

    def finish(self, state: RunState = RunState.DONE, code: int = 0, message: str = "") -> None:
        self.runs.finish(self.claim, state, code, {"fetched": 2, "fetched_octets": 20, "new": 4}, message)


@pytest.fixture
def past(loaded: Loaded) -> Iterator[Past]:
    with Database.open(None, loaded.settings.state_directory) as database:
        yield Past(database)


def test_looking_makes_no_ledger(loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    assert [job.known for job in overview.status(loaded, None)] == [None, None]
    assert overview.history(loaded, None, None, 10) == []
    assert [call([verb]) for verb in ("status", "runs", "errors")] == [0, 0, 0]
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "JOB          RESULT    WAITING  LAST RUN  NEXT RUN  AT SOURCE  DONE  FROM → TO",
        "road-backup  -               -  never     -                 -     -  road → home",
        "idle         disabled        -  never     -                 -     -  road → home",
    ]
    assert shown.err == "no job has run yet; to run all of them: syncd run\nno message waits\n"
    assert not loaded.settings.state_directory.exists()


def test_status_counts_what_the_ledger_knows(past: Past, loaded: Loaded) -> None:
    past.pull()
    past.finish()
    backup, idle = overview.status(loaded, past.database)
    assert (backup.schedule, idle.known) == ("every 15 minutes", None)
    assert backup.known is not None
    assert replace(backup.known, last=None) == overview.JobCounts(  # type: ignore[arg-type]
        last=None,  # type: ignore[arg-type]
        on_server=4,
        done=2,
        to_do=1,
        waiting_time=1,
        waiting_person=0,
    )
    assert (backup.known.last.outcome, backup.known.last.exit_code) == ("done", 0)
    assert json.dumps(backup.as_json(), default=str)


def test_what_status_remarks(past: Past, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    at = Clock(monkeypatch)
    past.pull()
    past.finish(RunState.FAILED, 5, "the network \x1b[2Jis away")
    past.ledger.mailboxes.freeze(past.scope, Freeze.EMPTY, "everything was gone")
    until = at.now + timedelta(hours=20)
    past.ledger.suspensions.put(of_route(past.run.routes[0].id), Suspension(until, "421 too much"))
    assert call(["status", "road-backup"]) == 0
    shown = capsys.readouterr()
    (_, line) = shown.out.splitlines()
    assert line.split()[0] == "road-backup"
    assert "failed (5)" in line
    paused = f"home is paused until {until.astimezone():%Y-%m-%d %H:%M} (421 too much)."
    assert shown.err.splitlines() == [
        "road-backup: the network \\x1b[2Jis away",
        "road-backup: 1 message will be tried again later, 0 wait for you; see: syncd errors road-backup",
        f"road-backup: {paused} To try now: syncd retry road-backup suspended",
        f"road-backup: removals from INBOX are frozen: everything was gone. {LIFT}",
    ]


LIFT = "To allow them again: syncd run road-backup --unfreeze"
RELAYED = """
[accounts.out]
protocol = "smtp"
host = "smtp.example.org"
username = "me@example.org"
password = "env:NOTHING"
[jobs.forward]
source = "road"
destinations = [{ to = "out", recipient = "you@example.org", rate = "20/hour" }]
"""


def test_status_says_how_much_waits_for_a_mail_server_and_how_long_it_takes(
    past: Past, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = Clock(monkeypatch)
    Path("syncd.toml").write_text(CONFIG + RELAYED)
    catalog = Catalog(past.database)
    out = catalog.account("out", "smtp", "smtp.example.org", "me@example.org")
    spec = DestinationSpec("account", out.id, "you@example.org", Repeat.UNCERTAIN)
    job = catalog.job("forward", past.run.account_id, [spec], removes=False)
    claim = past.begin(job.id)
    run = RunScope(claim.run_id, claim.generation, job.id, past.run.account_id, job.routes)
    with past.ledger.listing(replace(past.scope, run=run)) as listing:
        add(listing, uids(*(f"uid{n}" for n in range(1, 101))))
        listing.record(Totals(100, 1000))
    past.runs.finish(claim, RunState.FAILED, 5, {})
    until = at.now + timedelta(hours=20)
    used_up = Suspension(until, "enough for now", Cause.LIMIT, limit=str(Limit(20, 3600)))
    past.ledger.suspensions.put(of_route(job.routes[0].id), used_up)
    assert call(["status", "forward"]) == 0
    paused = f"out is paused until {until.astimezone():%Y-%m-%d %H:%M} (enough for now)."
    assert capsys.readouterr().err.splitlines() == [
        f"forward: {paused} To try now: syncd retry forward suspended",
        "forward: 100 deliveries to out wait, about 5 h at 20/hour",
    ]
    assert call(["status", "forward", "--json"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert document["known"]["queued"] == {"out": 100}
    Path("syncd.toml").write_text(CONFIG + RELAYED.replace("20/hour", "30/hour"))
    assert call(["status", "forward"]) == 0
    assert "paused" not in capsys.readouterr().err, "the job does not set that limit any more"


def test_a_run_whose_process_is_gone_died(past: Past, loaded: Loaded) -> None:
    (running,) = overview.history(loaded, past.database, "road-backup", 10)
    assert (running.outcome, running.is_running) == ("running", True)
    past.finish()
    me = Holder.me("a process that was")
    past.begin(past.job.id, replace(me, started=me.started + 1))
    dead, _ = overview.history(loaded, past.database, None, 10)
    assert (dead.outcome, dead.is_running) == ("died", False)
    assert overview.history(loaded, past.database, "idle", 10) == []


def test_a_run_that_was_asked_to_stop_is_stopping(past: Past, loaded: Loaded) -> None:
    (running,) = overview.history(loaded, past.database, "road-backup", 10)
    assert running.phase != "stopping"
    past.runs.request_stop([running.run_id])
    (running,) = overview.history(loaded, past.database, "road-backup", 10)
    assert (running.outcome, running.phase) == ("running", "stopping")


def test_history_as_a_table_and_as_json(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    past.finish(RunState.STOPPED, 130, "stopped on request")
    assert call(["runs", "road-backup"]) == 0
    _, line = capsys.readouterr().out.splitlines()
    assert line.split()[2:5] == ["road-backup", "stopped", "(130)"]
    assert line.split()[-7:] == ["2", "20", "B", "4", "stopped", "on", "request"]
    assert call(["runs", "--json", "--limit", "1"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert document["notes"] == []
    assert document["counts"] == {"fetched": 2, "fetched_octets": 20, "new": 4}
    assert document["started_at"].endswith("+00:00")


def test_what_an_archive_should_hold(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    past.pull()
    monkeypatch.setattr("syncd.db.ledger.archives.PAGE", 1)
    assert list(past.ledger.archives.contents(ARCHIVE)) == [(b"\x00" * 32, ""), (b"\x01" * 32, "hint")]
    assert list(past.ledger.archives.contents(uuid4())) == []


# --- a run that is under way ---


def progress(past: Past, *notes: str) -> None:
    counts = {"listed": 20_000, "to_fetch": 900, "to_fetch_octets": 3 << 20, "fetched": 120, "fetched_octets": 1 << 20}
    past.ledger.report(past.run, Progress("fetching", counts, notes))


def test_status_shows_phase_and_counts_of_a_run_that_is_under_way(
    past: Past, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["status", "road-backup"]) == 0
    assert capsys.readouterr().err == "road-backup: running: starting\n"
    progress(past)
    assert call(["status", "road-backup"]) == 0
    assert capsys.readouterr().err == (
        "road-backup: running: fetching, 20,000 messages listed, 120 of 900 fetched (1.0 MiB of 3.0 MiB)\n"
    )
    assert call(["status", "--json"]) == 0
    last = json.loads(capsys.readouterr().out)[0]["known"]["last"]
    assert (last["outcome"], last["phase"], last["counts"]["fetched"]) == ("running", "fetching", 120)


def test_looking_waits_for_no_writer_and_writes_nothing(
    past: Past, loaded: Loaded, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status` took the write lock of the database: a run that committed kept it waiting, and it kept runs waiting."""
    progress(past)
    monkeypatch.setattr(Database, "write", lambda *_: pytest.fail("looking does not write"))
    with past.database.engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        connection.exec_driver_sql("UPDATE runs SET phase = 'removing'")
        assert [call([verb]) for verb in ("status", "runs", "errors")] == [0, 0, 0]
        connection.rollback()
    assert "running: fetching" in capsys.readouterr().err


# --- notes ---

HELD = "2 deliveries are held for you"


def test_the_worker_of_a_run_is_a_process_and_not_the_words_of_its_lease(
    past: Past, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["runs", str(past.claim.run_id)]) == 0
    said = capsys.readouterr().out
    assert re.search(rf"^worker +process {os.getpid()} on \S+$", said, re.MULTILINE), said


def test_a_note_that_ended_the_run_is_told_once(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    """An error of a mailbox is a note of the run and its result: `status` had the line twice, and so had `runs`."""
    progress(past, HELD, "another note")
    past.finish(RunState.FAILED, 6, HELD)
    assert call(["status", "road-backup"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        f"road-backup: {HELD}",
        "road-backup: note of the last run: another note",
    ]
    assert call(["runs"]) == 0
    assert capsys.readouterr().out.count(HELD) == 1


def test_mailboxes_that_were_refused_are_listed_until_a_run_takes_them(
    past: Past, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next run may not come that far, as with a suspended account: then nothing named them any more."""
    refused = "two would become one"
    past.runs.finish(past.claim, RunState.FAILED, 6, {"mailboxes": 2}, refused)
    past.runs.finish(past.begin(past.job.id), RunState.FAILED, 5, {}, "the account is suspended")
    assert call(["status", "road-backup"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "road-backup: the account is suspended",
        f"road-backup: as the last run that listed mailboxes found: {refused}",
    ]
    assert call(["errors"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"road-backup: {refused}",
        "road-backup: its last run failed with exit code 5; see: syncd status road-backup",
    ]
    assert call(["errors", "--json"]) == 0
    found = [(it["why"], it["reason"]) for it in json.loads(capsys.readouterr().out)]
    assert found == [("refused", refused), ("failed", "the account is suspended")]
    past.runs.finish(past.begin(past.job.id), RunState.DONE, 0, {"mailboxes": 2})
    assert call(["errors"]) == 0
    assert refused not in capsys.readouterr().out


def test_notes_of_a_run_stand_in_status_and_below_the_run(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    progress(past, HELD, "a \x1b[2Jnote")
    past.finish()
    assert call(["status", "road-backup"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        f"road-backup: note of the last run: {HELD}",
        "road-backup: note of the last run: a \\x1b[2Jnote",
    ]
    past.runs.finish(past.begin(past.job.id), RunState.DONE, 0, {})
    assert call(["runs"]) == 0
    _, newest, noted, *notes = capsys.readouterr().out.splitlines()
    assert notes == [f"    {HELD}", "    a \\x1b[2Jnote"]
    assert "done" in newest
    assert "done" in noted
    assert call(["runs", "--json"]) == 0
    newest, noted = json.loads(capsys.readouterr().out)
    assert newest["notes"] == []
    assert noted["notes"][0]["text"] == HELD
    assert noted["notes"][0]["at"].endswith("+00:00")
    assert call(["status", "road-backup"]) == 0
    assert HELD not in capsys.readouterr().err, "that was not the last run"


def test_mailboxes_that_are_frozen_for_one_reason_are_told_of_at_once(
    past: Past, capsys: pytest.CaptureFixture[str]
) -> None:
    past.finish()
    for name in ("Trash", "Lists/a"):
        scope = past.mailbox(Mailbox(name.encode(), tuple(name.split("/"))))
        past.ledger.mailboxes.freeze(scope, Freeze.EMPTY, "it was emptied")
    assert call(["status", "road-backup"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "removals from Lists/a, Trash are frozen: it was emptied. " in line or "Trash, Lists/a are" in line
    for number in range(3):
        scope = past.mailbox(Mailbox(b"%d" % number, (str(number),)))
        past.ledger.mailboxes.freeze(scope, Freeze.EMPTY, "it was emptied")
    assert call(["status", "road-backup"]) == 0
    assert "removals from 5 mailboxes are frozen" in capsys.readouterr().err
    with open_ledger(load()) as database:
        known = overview.status(load(), database)[0].known
    assert known is not None
    assert len(known.frozen[0].mailboxes) == 5
