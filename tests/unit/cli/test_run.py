from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import pytest

from syncd.cli.main import call
from syncd.cli.run import summary
from syncd.db.catalog import Catalog
from syncd.db.database import Database
from syncd.destinations.packs import PacksArchive
from syncd.engine.events import Event, PhaseBegan, RunFinished, RunReport
from syncd.engine.exit_codes import ExitCode
from syncd.errors import Cancelled, LeaseHeld
from syncd.mail.listing import Totals
from syncd.mail.mailbox import MAILDROP, Mailbox
from syncd.services import check, runs
from syncd.services.slices import RunOptions
from syncd.services.words import instant
from syncd.settings.schema import Settings
from syncd.sources.base import SourceInfo

CONFIG = """
[accounts.road]
protocol = "pop3"
host = "pop.example.net"
username = "me"
password = "env:NOTHING"
[accounts.lone]
protocol = "pop3"
host = "pop.example.org"
username = "me"
password = "env:NOTHING"
[accounts.out]
protocol = "smtp"
host = "smtp.example.org"
username = "me@example.org"
password = "env:NOTHING"
[archives.home]
path = "home"
[jobs.road-backup]
source = "road"
destinations = ["home"]
[jobs.second]
source = "road"
destinations = ["home"]
"""


def settings(**limits: str | int) -> Settings:
    """Two jobs: `j` reads an account, `onwards` an archive, and sends what it has with these limits."""
    out = {"to": "out", "recipient": "me@example.org", **limits}
    values: dict[str, Any] = {
        "accounts": {
            "road": {"protocol": "pop3", "host": "pop.example.net", "username": "me"},
            "out": {"protocol": "smtp", "host": "smtp.example.org", "username": "me"},
        },
        "archives": {"home": {"path": "/home"}},
        "jobs": {
            "j": {"source": "road", "destinations": ["home"]},
            "onwards": {"source": "home", "destinations": [out]},
        },
    }
    return Settings(**values)


JOBS = settings()


class FakeRunner:
    """Stands for RunsByHand: each report is what a job comes to."""

    reports: Sequence[RunReport] = ()
    questions: Sequence[tuple[str, int]] = ()
    made: ClassVar[list[FakeRunner]] = []

    def __init__(
        self, _loaded: object, names: Sequence[str], options: RunOptions, listen: Callable[[Event], None]
    ) -> None:
        self.names = list(names)
        self.options = options
        self.listen = listen
        self.answers: list[bool] = []
        FakeRunner.made.append(self)

    def execute(self) -> list[RunReport]:
        for report in self.reports:
            self.listen(PhaseBegan(report.job, "connecting"))
            self.listen(RunFinished(report.job, report))
        if self.options.confirm is not None:
            self.answers = [self.options.confirm(*question) for question in self.questions]
        return list(self.reports)

    def cancel(self) -> None:
        """Nothing runs."""


@pytest.fixture(autouse=True)
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNCD_HOME", str(tmp_path / "state"))
    Path("syncd.toml").write_text(CONFIG)
    monkeypatch.setattr(runs, "RunsByHand", FakeRunner)
    monkeypatch.setattr(check, "RunsByHand", FakeRunner)
    monkeypatch.setattr(FakeRunner, "made", [])


def become(monkeypatch: pytest.MonkeyPatch, *reports: RunReport) -> None:
    monkeypatch.setattr(FakeRunner, "reports", reports)


@pytest.mark.parametrize(
    ("report", "lines"),
    [
        (RunReport("j", listed=20_000, unchanged=True), ["nothing new (20,000 messages on the server)"]),
        (RunReport("j", listed=1), ["nothing new (1 message on the server)"]),
        (
            RunReport("j", listed=9, fetched=3, fetched_octets=2048, delivered={"home": 3, "md": 2}, seconds=1.25),
            ["3 messages fetched (2.0 KiB), 3 into home, 2 into md, all left on the server; took 1.2 s"],
        ),
        (RunReport("j", removed=5, seconds=1), ["5 messages removed from the server; took 1.0 s"]),
        (
            RunReport("j", backfilled=1, delivered={"md": 1}, recognised=4),
            ["1 delivery made from an archive, 1 into md, 4 recognised under new ids, all left on the server; took 0.0 s"],  # noqa: E501
        ),
        (
            RunReport("j", listed=2, waiting_time=1),
            ["1 message waits for another try; see: syncd errors j"],
        ),
        (
            RunReport("j", listed=2, waiting_person=2),
            ["2 messages wait for you; see: syncd errors j"],
        ),
        (
            RunReport("j", fetched=1, waiting_time=1, waiting_person=2),
            ["1 message fetched (0 B), all left on the server; took 0.0 s",
             "3 messages wait, 2 of them for you; see: syncd errors j"],
        ),
        (
            RunReport("j", backfilled=2, delivered={"new": 2}, uncertain=1),
            ["1 delivery may or may not have arrived, recorded as uncertain; see: syncd errors j",
             "2 deliveries made from an archive, 2 into new, all left on the server; took 0.0 s"],
        ),
        (RunReport("j", errors=["refused"]), []),
        (
            RunReport("j", dry_run=True, listed=9, new=4, to_fetch=4, to_fetch_octets=4096),
            ["would fetch 4 messages (4.0 KiB); 9 messages on the server; nothing was changed"],
        ),
        (
            RunReport("j", dry_run=True, listed=9, to_remove=2),
            ["would remove 2 messages from the server; 9 messages on the server; nothing was changed"],
        ),
        (
            RunReport("j", dry_run=True, listed=9, new=9, to_make=["a", "b"]),
            ["would do nothing; 9 messages on the server; archive a would be made; archive b would be made; nothing was changed"],  # noqa: E501
        ),
        (
            RunReport("j", dry_run=True, listed=9, to_backfill=1),
            ["would deliver 1 message from an archive; 9 messages on the server; nothing was changed"],
        ),
        (
            RunReport("j", dry_run=True, listed=9, unchanged=True),
            ["would do nothing; 9 messages on the server; nothing was changed"],
        ),
        (RunReport("j", dry_run=True, errors=["refused"]), []),
    ],
)  # fmt: skip
def test_the_summary_of_a_run(report: RunReport, lines: list[str]) -> None:
    assert summary(report, JOBS) == lines


@pytest.mark.parametrize(
    ("report", "lines"),
    [
        (RunReport("onwards", listed=11, unchanged=True), ["nothing new (11 messages in home)"]),
        (
            RunReport("onwards", listed=11, fetched=2, fetched_octets=2048, delivered={"out": 2}, seconds=1),
            ["2 messages fetched (2.0 KiB), 2 into out, all left in home; took 1.0 s"],
        ),
        (
            RunReport("onwards", dry_run=True, listed=11, new=2, to_fetch=2, to_fetch_octets=2048),
            ["would fetch 2 messages (2.0 KiB); 11 messages in home; nothing was changed"],
        ),
    ],
)
def test_the_summary_of_a_run_that_reads_an_archive(report: RunReport, lines: list[str]) -> None:
    assert summary(report, JOBS) == lines


@pytest.mark.parametrize(
    ("limits", "waiting", "line"),
    [
        ({"rate": "20/minute"}, 2400, "2,400 deliveries to out wait, about 2 h at 20/minute"),
        ({"rate": "20/minute"}, 1, "1 delivery to out waits, about 3 s at 20/minute"),
        ({"rate": "20/minute"}, 300, "300 deliveries to out wait, about 15 min at 20/minute"),
        ({"rate": "20/minute", "per_day": 2000}, 9000, "9,000 deliveries to out wait, about 4 days at 2,000/day"),
        ({"rate": "10/day", "per_day": 2000}, 30, "30 deliveries to out wait, about 3 days at 10/day"),
    ],
)
@pytest.mark.parametrize("suspended", [{}, {"out": datetime(2026, 1, 1, tzinfo=UTC)}])
def test_how_much_waits_and_how_long_it_takes(
    limits: dict[str, str | int], waiting: int, line: str, suspended: dict[str, datetime]
) -> None:
    report = RunReport("onwards", errors=["later"], queued={"out": waiting}, suspended=suspended)
    assert summary(report, settings(**limits)) == [line]


def test_without_a_limit_a_queue_is_told_of_only_while_the_server_has_enough() -> None:
    report = RunReport("onwards", errors=["later"], queued={"out": 12})
    assert summary(report, JOBS) == []
    until = datetime(2026, 1, 1, tzinfo=UTC)
    report.suspended = {"out": until}
    assert summary(report, JOBS) == [f"12 deliveries to out wait: out is not contacted before {instant(until)}"]


def test_results_go_to_standard_output_and_the_rest_to_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = RunReport("second", exit_code=ExitCode.HELD, errors=["taken by process 7 on host"])
    become(monkeypatch, RunReport("road-backup", listed=3), taken)
    assert call(["run"]) == ExitCode.HELD
    shown = capsys.readouterr()
    assert shown.out == "road-backup: nothing new (3 messages on the server)\n"
    first, second, error = shown.err.splitlines()
    assert (first[20:], second[20:]) == ("road-backup: connecting", "second: connecting")  # behind the time
    assert error == "second: taken by process 7 on host"


@pytest.mark.parametrize(
    ("codes", "gravest"),
    [([0, 0], 0), ([0, 3], 3), ([5, 3], 5), ([10, 5], 10), ([1, 10], 1), ([7, 1], 7), ([4, 7], 4), ([6, 4], 6),
     ([130, 6], 130)],
)  # fmt: skip
def test_with_several_jobs_the_gravest_counts(monkeypatch: pytest.MonkeyPatch, codes: list[int], gravest: int) -> None:
    become(monkeypatch, *(RunReport("road-backup", exit_code=ExitCode(code)) for code in codes))
    assert call(["run"]) == gravest


def test_quiet_leaves_errors_and_what_waits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    become(monkeypatch, RunReport("road-backup", listed=3))
    assert call(["run", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    become(monkeypatch, RunReport("road-backup", exit_code=ExitCode.WAITING, waiting_time=1, waiting_person=1))
    assert call(["run", "-q"]) == 3
    assert capsys.readouterr().out == "road-backup: 2 messages wait, 1 of them for you; see: syncd errors road-backup\n"
    become(monkeypatch, RunReport("road-backup", dry_run=True))
    assert call(["run", "-q", "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("road-backup: would do nothing")
    become(monkeypatch, RunReport("road-backup", exit_code=ExitCode.FAILED, errors=["broken"]))
    assert call(["run", "-q"]) == 1
    assert capsys.readouterr() == ("", "road-backup: broken\n")


def test_json_ends_with_the_report_of_each_job(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = RunReport("road-backup", exit_code=ExitCode.TEMPORARY, errors=["later"])
    become(monkeypatch, report)
    assert call(["run", "--json"]) == 5
    shown = capsys.readouterr()
    assert shown.err == ""
    documents = [json.loads(line) for line in shown.out.splitlines()]
    assert all(document.pop("time") and document.pop("version") == 1 for document in documents)
    assert documents == [
        {"event": "phase", "job": "road-backup", "phase": "connecting"},
        {"event": "finished", **report.as_json()},
    ]


def test_options_reach_the_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    call(["run", "second", "--dry-run", "--parallel", "4", "--refill", "--rebind", "--unfreeze"])
    (runner,) = FakeRunner.made
    assert runner.names == ["second"]
    assert runner.options == RunOptions(dry_run=True, parallel=4, refill=True, rebind=True, unfreeze="*")


def test_an_unknown_job_is_told_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["run", "rod-backup"]) == 2
    assert capsys.readouterr().err == "syncd: no job 'rod-backup'; did you mean road-backup?\n"
    assert not FakeRunner.made


class Terminal(io.StringIO):
    name = "<terminal>"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "confirmed"), [("y\n", True), ("\n", False)])
def test_the_question_before_a_removal(monkeypatch: pytest.MonkeyPatch, answer: str, *, confirmed: bool) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(FakeRunner, "questions", [("road-backup", 312)])
    call(["run"])
    assert FakeRunner.made[0].answers == [confirmed]
    assert "312 messages delivered to every destination would be removed from pop.example.net" in terminal.getvalue()
    assert "[y/N]" in terminal.getvalue()


@pytest.mark.parametrize("arguments", [["run", "--json"], ["run"]])
def test_no_question_where_nobody_can_answer(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    if "--json" in arguments:
        monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
        monkeypatch.setattr(sys, "stderr", Terminal())
    else:
        monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    call(arguments)
    assert FakeRunner.made[0].options.confirm is None


# --- check ---------------------------------------------------------------------------------------------

INFO = SourceInfo("pop.example.org:995", "TLSv1.3", "AUTH PLAIN", ("UIDL", "TOP"), ("keeps mail for 30 days",))


class FakeSession:
    info = INFO
    listed: ClassVar[list[Mailbox]] = [MAILDROP]

    def mailboxes(self) -> Iterator[list[Mailbox]]:
        yield self.listed

    def open(self, _mailbox: Mailbox) -> FakeSession:
        return self

    def totals(self) -> Totals:
        return Totals(12, 4096)

    def finish(self) -> None:
        """Fine."""

    def close(self) -> None:
        """Fine."""


class FakeSource:
    error: Exception | None = None

    def connect(self) -> FakeSession:
        if self.error is not None:
            raise self.error
        return FakeSession()

    def cancel(self) -> None:
        """Nothing runs."""


ANNOUNCED = SourceInfo("smtp.example.org:465", "TLSv1.3", "PLAIN", ("PIPELINING", "8BITMIME"))


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> FakeSource:
    made = FakeSource()
    monkeypatch.setattr(check, "open_source", lambda *_, **__: made)
    monkeypatch.setattr(check, "try_out_relay", lambda *_: ANNOUNCED)
    return made


def test_check_looks_at_jobs_and_at_accounts_that_none_reads(
    monkeypatch: pytest.MonkeyPatch, source: FakeSource, capsys: pytest.CaptureFixture[str]
) -> None:
    become(monkeypatch, RunReport("road-backup", dry_run=True, listed=9, new=4, to_fetch=4, to_fetch_octets=4096))
    assert call(["check"]) == 0
    assert FakeRunner.made[0].names == ["road-backup", "second"]
    assert FakeRunner.made[0].options == RunOptions(dry_run=True, by_hand=True)
    assert capsys.readouterr().out.splitlines() == [
        "lone: signed in to pop.example.org:995 by AUTH PLAIN, TLSv1.3",
        "lone: the server offers UIDL, TOP",
        "lone: keeps mail for 30 days",
        "lone: 12 messages on the server (4.0 KiB)",
        "out: signed in to smtp.example.org:465 by PLAIN, TLSv1.3",
        "out: the server announces PIPELINING, 8BITMIME",
        f"home: not there yet; the first run that delivers to it creates {Path('home').absolute()}",
        "road-backup: would fetch 4 messages (4.0 KiB); 9 messages on the server; nothing was changed",
    ]


def test_check_of_one_account(source: FakeSource, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["check", "lone", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["jobs"], document["archives"]) == ([], [])
    (account,) = document["accounts"]
    assert account["totals"] == {"messages": 12, "octets": 4096}
    assert account["mailboxes"] == 1
    assert account["info"]["capabilities"] == ["UIDL", "TOP"]
    assert not FakeRunner.made


def test_counting_many_mailboxes_would_take_a_command_each(
    source: FakeSource, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FakeSession, "listed", [MAILDROP, Mailbox(b"Sent", ("Sent",))])
    assert call(["check", "lone"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "lone: 2 mailboxes on the server"


@pytest.mark.parametrize(("error", "code"), [(LeaseHeld("taken"), 10), (Cancelled("stopped"), 130)])
def test_an_account_that_cannot_be_checked(
    source: FakeSource, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    source.error = error
    assert call(["check", "lone"]) == code
    assert capsys.readouterr() == ("", f"lone: {error}\n")


FORWARD = """
[jobs.forward]
source = "road"
destinations = ["home", { to = "out", recipient = "me@example.com", sender = "original" }]
"""


def test_check_of_a_job_signs_in_where_it_delivers_and_warns_of_its_sender(
    monkeypatch: pytest.MonkeyPatch, source: FakeSource, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("syncd.toml").write_text(CONFIG + FORWARD)
    become(monkeypatch, RunReport("forward", dry_run=True, unchanged=True))
    assert call(["check", "forward"]) == 0
    first, second, third, *_ = capsys.readouterr().out.splitlines()
    assert (first, second) == (
        "out: signed in to smtp.example.org:465 by PLAIN, TLSv1.3",
        "out: the server announces PIPELINING, 8BITMIME",
    )
    assert third.startswith('out: job forward: sender = "original": SPF of the original senders')


def test_a_mail_server_that_nobody_signs_in_to(
    monkeypatch: pytest.MonkeyPatch, source: FakeSource, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "try_out_relay", lambda *_: SourceInfo("127.0.0.1:24", "none", "", ()))
    assert call(["check", "out"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "out: connected to 127.0.0.1:24, not encrypted, without signing in",
        "out: the server announces no extension",
    ]


# --- check of an archive -----------------------------------------------------------------------------------

UUID_ = UUID(int=7)


@pytest.fixture
def home() -> Path:
    """An archive at the path of `home`, with nothing in it."""
    PacksArchive(Path("home").absolute(), "home").create(UUID_)
    return Path("home").absolute()


def test_check_of_an_archive(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["check", "home"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"home: {home}: packs, {UUID_}",
        "home: 0 messages in it (0 B); writable",
    ]
    assert call(["check", "home", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (archive,) = document["archives"]
    assert (archive["uuid"], archive["writable"], archive["exit_code"]) == (str(UUID_), True, 0)
    assert archive["figures"]["messages"] == 0
    assert (document["accounts"], document["jobs"]) == ([], [])
    assert not Path("state").exists()


def test_check_of_an_archive_that_is_yet_to_be_made(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["check", "home"]) == 0
    made = Path("home").absolute()
    assert capsys.readouterr().out == f"home: not there yet; the first run that delivers to it creates {made}\n"
    assert not made.exists()


def test_check_of_an_archive_that_is_not_the_one_that_the_ledger_knows(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Database.open(None, tmp_path / "state") as database:
        Catalog(database).archive("home", str(home), "packs", UUID(int=8))
    assert call(["check", "home"]) == 7
    shown = capsys.readouterr().err
    assert "another archive" in shown
    assert "--refill" not in shown
    shutil.rmtree(home)
    assert call(["check", "home"]) == 7
    assert "--refill" in capsys.readouterr().err
    assert not home.exists()


@pytest.mark.parametrize(("filled", "code"), [(True, 1), (False, 0)])
def test_check_of_an_archive_that_cannot_be_written_to(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, filled: bool, code: int
) -> None:
    """That is wrong only where a job delivers to it; the tests may be root's, to whom nothing is closed."""
    if not filled:
        Path("syncd.toml").write_text(CONFIG.replace('"home"]', '"other"]') + '[archives.other]\npath = "other"\n')
    monkeypatch.setattr(os, "access", lambda path, _: path != home / "packs")
    assert call(["check", "home"]) == code
    shown = capsys.readouterr()
    assert shown.out.splitlines()[-1] == "home: 0 messages in it (0 B); not writable"
    refusal = f"home: a job delivers to it, and {home}/packs cannot be written to: see its permissions\n"
    assert shown.err == (refusal if filled else "")
