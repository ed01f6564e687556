from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from syncd.cli.main import call
from syncd.db.catalog import Catalog
from syncd.db.database import Database
from syncd.db.held import held
from syncd.db.holder import Holder
from syncd.db.ledger import Ledger, of_route
from syncd.db.routing import DestinationSpec
from syncd.db.rows import Scope, Suspension
from syncd.db.runs import Runs
from syncd.db.states import RunState
from syncd.destinations.base import Outcome, Verdict
from syncd.errors import MessageRefused
from syncd.mail.message import INBOX, Receipt
from syncd.services import overview
from syncd.settings.load import Loaded, load
from syncd.sources.base import Listed, Totals

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
    """A ledger in which the job has run; `run` is the id of that run."""

    def __init__(self, database: Database) -> None:
        self.database = database
        catalog = Catalog(database)
        account = catalog.account("road", "pop3", "pop.example.net", "me")
        archive = catalog.archive("home", "/home", "packs", ARCHIVE)
        assert archive is not None
        job = catalog.job("road-backup", account.id, [DestinationSpec("archive", archive.id)], removes=False)
        mailbox = catalog.mailbox(account.id, INBOX)
        self.holder = Holder.me("run of the tests")
        self.runs = Runs(database)
        self.run = self.runs.start(job.id, "hand", self.holder)
        self.scope = Scope(self.run, job.id, account.id, mailbox.id, mailbox.epoch, job.routes)
        self.ledger = Ledger(database, lambda _: None)
        self.account_id = account.id

    def pull(self) -> None:
        """Four messages are listed: two delivered, one refused by the server, one left for the next run."""
        with self.ledger.listing(self.scope) as listing:
            listing.add([Listed(n, b"uid%d" % n, 10) for n in range(1, 5)])
            listing.record(Totals(4, 40))
            rows = listing.work(0, 10)
        digests = [bytes([n]) * 32 for n in range(2)]
        stored = [(row.key, 10, sha256, b"h" * 8) for row, sha256 in zip(rows, digests, strict=False)]
        outcomes = [
            Outcome(key, Verdict.DELIVERED, Receipt(sha256, "hint" if n else ""))
            for n, (key, _, sha256, _) in enumerate(stored)
        ]
        route = self.scope.routes[0].id
        refused = (rows[2].key, MessageRefused("cannot be \x1b[2Jread"))
        self.ledger.commit(self.scope, stored, [(route, outcome) for outcome in outcomes], [refused])

    def finish(self, state: RunState = RunState.DONE, code: int = 0, message: str = "") -> None:
        self.runs.finish(self.run, state, code, {"fetched": 2, "fetched_octets": 20, "new": 4}, message)


@pytest.fixture
def past(loaded: Loaded) -> Iterator[Past]:
    with Database.open(None, loaded.settings.state_directory) as database:
        yield Past(database)


def test_looking_makes_no_ledger(loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    assert [job.known for job in overview.status(loaded)] == [None, None]
    assert overview.history(loaded, None, 10) == []
    assert [call([verb]) for verb in ("status", "runs", "errors")] == [0, 0, 0]
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "JOB          FROM → TO    LAST RUN  RESULT    AT SOURCE  DONE  WAITING",
        "road-backup  road → home  never     -                 -     -        -",
        "idle         road → home  never     disabled          -     -        -",
    ]
    assert shown.err == "nothing has run yet; run: syncd run\nnothing waits\n"
    assert not loaded.settings.state_directory.exists()


def test_status_counts_what_the_ledger_knows(past: Past, loaded: Loaded) -> None:
    past.pull()
    past.finish()
    backup, idle = overview.status(loaded)
    assert (backup.schedule, idle.known) == ("every 15 minutes", None)
    assert backup.known is not None
    assert replace(backup.known, last=None) == overview.JobCounts(  # type: ignore[arg-type]
        last=None,  # type: ignore[arg-type]
        on_server=4,
        done=2,
        to_do=1,
        waiting_time=1,
        waiting_person=0,
        frozen=None,
    )
    assert (backup.known.last.outcome, backup.known.last.exit_code) == ("done", 0)
    assert json.dumps(backup.as_json(), default=str)


def test_what_status_remarks(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    past.pull()
    past.finish(RunState.FAILED, 5, "the network \x1b[2Jis away")
    past.ledger.freeze(past.account_id, "everything was gone")
    until = datetime(2126, 1, 1, tzinfo=UTC)
    past.ledger.suspend(of_route(past.scope.routes[0].id), Suspension(until, "421 too much"))
    assert call(["status", "road-backup"]) == 0
    shown = capsys.readouterr()
    (_, line) = shown.out.splitlines()
    assert line.split()[:2] == ["road-backup", "road"]
    assert "failed (5)" in line
    alone = f"home is left alone until {until.astimezone():%Y-%m-%d %H:%M}: 421 too much"
    assert shown.err.splitlines() == [
        "road-backup: the network \\x1b[2Jis away",
        "road-backup: 1 message tried again later, 0 for you to look at; see: syncd errors road-backup",
        f"road-backup: {alone}; not to wait: syncd retry road-backup suspended",
        "road-backup: removals are frozen: everything was gone; to allow them again: syncd run road-backup --unfreeze",
    ]


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
    past: Past, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("syncd.toml").write_text(CONFIG + RELAYED)
    catalog = Catalog(past.database)
    out = catalog.account("out", "smtp", "smtp.example.org", "me@example.org")
    job = catalog.job(
        "forward", past.account_id, [DestinationSpec("account", out.id, "you@example.org")], removes=False
    )
    run = past.runs.start(job.id, "hand", past.holder)
    past.scope = replace(past.scope, run_id=run, job_id=job.id, routes=job.routes)
    with past.ledger.listing(past.scope) as listing:
        listing.add([Listed(n, b"uid%d" % n, 10) for n in range(1, 101)])
        listing.record(Totals(100, 1000))
    until = datetime(2126, 1, 1, tzinfo=UTC)
    past.ledger.suspend(of_route(job.routes[0].id), Suspension(until, "the limit is used up"))
    assert call(["status", "forward"]) == 0
    alone = f"out is left alone until {until.astimezone():%Y-%m-%d %H:%M}: the limit is used up"
    assert capsys.readouterr().err.splitlines() == [
        f"forward: {alone}; not to wait: syncd retry forward suspended",
        "forward: 100 deliveries to out wait, about 5 h at 20/hour",
    ]
    assert call(["status", "forward", "--json"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert document["known"]["queued"] == {"out": 100}


def test_a_run_whose_process_is_gone_died(past: Past, loaded: Loaded) -> None:
    (running,) = overview.history(loaded, "road-backup", 10)
    assert running.outcome == "running"
    past.runs.start(past.scope.job_id, "hand", replace(past.holder, started=past.holder.started + 1))
    dead, _ = overview.history(loaded, None, 10)
    assert dead.outcome == "died"
    assert overview.history(loaded, "idle", 10) == []


def test_history_as_a_table_and_as_json(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    past.finish(RunState.STOPPED, 130, "stopped on request")
    assert call(["runs", "road-backup"]) == 0
    _, line = capsys.readouterr().out.splitlines()
    assert line.split()[2:5] == ["road-backup", "stopped", "(130)"]
    assert line.split()[-7:] == ["2", "20", "B", "4", "stopped", "on", "request"]
    assert call(["runs", "--json", "--limit", "1"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    assert document["counts"] == {"fetched": 2, "fetched_octets": 20, "new": 4}
    assert document["started_at"].endswith("+00:00")


def test_what_an_archive_should_hold(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    past.pull()
    monkeypatch.setattr("syncd.db.held.PAGE", 1)
    assert list(held(past.database, ARCHIVE)) == [(b"\x00" * 32, ""), (b"\x01" * 32, "hint")]
    assert list(held(past.database, uuid4())) == []
