"""Staged delivery: jobs from servers into an archive, another from the archive onwards. Against scripted servers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.destinations.maildir import MaildirArchive
from syncd.engine.events import Event, RunReport, RunStarted
from syncd.engine.exit_codes import ExitCode
from syncd.errors import DiskFull
from syncd.services.archive import open_view
from syncd.services.check import Check
from syncd.services.overview import status
from syncd.services.problems import problems
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from syncd.services.verify.service import Verification
from syncd.services.wiring import open_ledger
from syncd.settings.load import Loaded, load
from tests.fakes.pop3 import PASSWORD, USERNAME, FakePop3
from tests.support import mail
from tests.support.packs import lose_index, spoil_mail

HOME = 'home = { path = "home" }\nmails = { path = "mails", format = "maildir", line_ends = "verbatim" }'


class Bench:
    """Two accounts that go into `home`, and a job `onwards` from there, which stands first in the configuration."""

    def __init__(self, directory: Path, servers: tuple[FakePop3, FakePop3]) -> None:
        self.directory = directory
        self.servers = servers
        self.events: list[Event] = []
        self.configure('source = "home"\ndestinations = ["mails"]')

    def configure(self, onwards: str) -> None:
        accounts = "".join(
            f'[accounts.{name}]\nprotocol = "pop3"\nhost = "{server.host}"\nport = {server.port}\n'
            f'security = "none"\nallow_insecure = true\nusername = "{user}"\npassword = "env:PASSWORD"\n'
            f'[jobs.{name}]\nsource = "{name}"\ndestinations = ["home"]\n'
            for name, user, server in zip(("road", "work"), (USERNAME, "work"), self.servers, strict=True)
        )
        (self.directory / "syncd.toml").write_text(
            f'state_directory = "state"\n[archives]\n{HOME}\nfar = {{ path = "far" }}\n'
            f"[jobs.onwards]\n{onwards}\n{accounts}"
        )

    def loaded(self) -> Loaded:
        return load(self.directory / "syncd.toml", environment={"PASSWORD": PASSWORD})

    def run(self, *names: str, **options: Any) -> dict[str, RunReport]:
        self.events.clear()
        runner = RunsByHand(self.loaded(), names, RunOptions(**options), self.events.append)
        return {report.job: report for report in runner.execute()}

    def held(self, archive: str) -> list[bytes]:
        view = open_view(self.loaded(), archive)
        try:
            found = list(view.stored(self.directory, pytest.fail))
            return sorted(b"".join(stored.body.chunks()) for stored in found)
        finally:
            view.close()


SMALL = list(mail.small(12, seed=5))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with FakePop3(SMALL[:6]) as road, FakePop3([*SMALL[:2], *SMALL[6:9]]) as work:
        work.replies["AUTH"] = b"+OK welcome\r\n"
        yield Bench(tmp_path, (road, work))


EVERYTHING = sorted([*SMALL[:6], *SMALL[:2], *SMALL[6:9]])


@pytest.mark.parametrize("parallel", [1, 3])
def test_mail_goes_all_the_way_in_one_run_and_a_second_run_does_nothing(bench: Bench, parallel: int) -> None:
    """Mail that two accounts hold is two messages, also when it is delivered from the archive."""
    reports = bench.run(parallel=parallel)
    assert {name: (r.exit_code, r.errors) for name, r in reports.items()} == dict.fromkeys(reports, (ExitCode.DONE, []))
    assert list(reports) == ["onwards", "road", "work"]
    assert [event.job for event in bench.events if isinstance(event, RunStarted)][-1] == "onwards"
    assert reports["onwards"].delivered == {"mails": 11}
    assert bench.held("mails") == bench.held("home") == EVERYTHING
    again = bench.run()["onwards"]
    assert (again.exit_code, again.unchanged, again.fetched, again.listed) == (ExitCode.DONE, True, 0, 11)


def test_what_is_new_is_passed_on_alone(bench: Bench) -> None:
    bench.run()
    bench.servers[0].messages.append(SMALL[10])
    bench.servers[0].uids.append(b"uid-new")
    report = bench.run()["onwards"]
    assert (report.listed, report.new, report.fetched) == (12, 1, 1)
    assert bench.held("mails") == sorted([*EVERYTHING, SMALL[10]])


def test_a_maildir_is_passed_on_into_packs(bench: Bench) -> None:
    bench.run()
    bench.configure('source = "mails"\ndestinations = ["far"]')
    report = bench.run("onwards")["onwards"]
    assert (report.exit_code, report.delivered) == (ExitCode.DONE, {"far": 11})
    assert bench.held("far") == EVERYTHING
    assert bench.run("onwards")["onwards"].unchanged


def test_a_destination_that_fails_leaves_the_rest_for_the_next_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.run("road", "work")
    with monkeypatch.context() as patch:
        patch.setattr(MaildirArchive, "deliver", full)
        assert bench.run("onwards")["onwards"].exit_code is ExitCode.TEMPORARY
    report = bench.run("onwards")["onwards"]
    assert (report.exit_code, report.delivered) == (ExitCode.DONE, {"mails": 11})
    assert bench.held("mails") == EVERYTHING


def full(*_: object) -> None:
    raise DiskFull("no space left for the test")


def test_a07_damaged_mail_waits_and_the_rest_is_passed_on(bench: Bench) -> None:
    bench.run("road", "work")
    spoil_mail(bench.directory / "home")
    report = bench.run("onwards")["onwards"]
    assert report.exit_code is ExitCode.TEMPORARY
    assert 0 < report.delivered["mails"] < 11
    assert report.delivered["mails"] + report.waiting_time == 11
    with open_ledger(bench.loaded()) as database:
        reasons = [each.row.reason for each in problems(bench.loaded(), database, "onwards")]
    assert len(reasons) == report.waiting_time
    assert all(reason.endswith("the others are not affected") for reason in reasons)


def test_damaged_mail_that_the_index_does_not_know_is_told(bench: Bench) -> None:
    """The index was made again behind the damage: the run and the proof said that all was well."""
    bench.run("road", "work")
    spoil_mail(bench.directory / "home")
    lose_index(bench.directory / "home")
    report = bench.run("onwards")["onwards"]
    assert report.exit_code is ExitCode.WAITING
    assert 0 < report.delivered["mails"] < 11
    assert bench.run("onwards")["onwards"].exit_code is ExitCode.WAITING
    with Verification(bench.loaded(), "onwards") as proof:
        [why] = {entry.reason for entry in proof.execute().entries()}
    assert "the mail is damaged (CRC-32C of the data frame differs): " in why


def test_an_archive_that_is_not_there_stops_the_job_and_nothing_is_made(bench: Bench) -> None:
    report = bench.run("onwards")["onwards"]
    assert report.exit_code is ExitCode.STOPPED
    assert report.errors[0].startswith(f'archive "home", which this job reads, is not at {bench.directory}/home: mount')
    assert not (bench.directory / "home").exists()
    bench.run()
    shutil.rmtree(bench.directory / "home")
    assert bench.run("onwards")["onwards"].exit_code is ExitCode.STOPPED
    assert not (bench.directory / "home").exists()


def test_an_archive_that_was_filled_again_is_known_again_by_what_it_holds(bench: Bench) -> None:
    bench.run()
    shutil.rmtree(bench.directory / "home")
    refilled = bench.run("road", "work", refill=True)
    assert {report.exit_code for report in refilled.values()} == {ExitCode.DONE}
    report = bench.run("onwards")["onwards"]
    assert report.exit_code is ExitCode.STOPPED
    assert "if it was filled again with the same mail, run once with --rebind" in report.errors[0]
    report = bench.run("onwards", rebind=True)["onwards"]
    assert (report.exit_code, report.new, report.fetched) == (ExitCode.DONE, 0, 0)
    assert bench.held("mails") == EVERYTHING


def test_looking_before_anything_is_there_says_what_is_known_and_makes_nothing(bench: Bench) -> None:
    checking = Check(bench.loaded(), [], lambda _: None)
    assert [(report.job, report.exit_code) for report in checking.execute()] == [
        (name, ExitCode.DONE) for name in ("onwards", "road", "work")
    ]
    assert sorted(path.name for path in bench.directory.iterdir()) == ["syncd.toml"]


def test_looking_at_what_would_be_delivered_from_the_archive(bench: Bench) -> None:
    bench.run("road", "work")
    report = bench.run("onwards", dry_run=True)["onwards"]
    assert (report.exit_code, report.to_fetch, report.to_make) == (ExitCode.DONE, 11, ["mails"])
    assert not (bench.directory / "mails").exists()
    bench.run("onwards")
    with open_ledger(bench.loaded()) as database:
        done = {row.job: row.known and row.known.done for row in status(bench.loaded(), database)}
    assert done == {"onwards": 11, "road": 6, "work": 5}
