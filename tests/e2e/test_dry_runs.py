"""What a dry run says is what a run then does; and it changes nothing. Against a real Dovecot, in this process."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from syncd.cli.main import call
from syncd.db.leases import LeaseSet, archive_resource, job_resource
from syncd.destinations.packs import PacksArchive
from syncd.engine.events import Noted, RunReport
from syncd.engine.exit_codes import ExitCode
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from syncd.services.wiring import open_ledger
from tests.e2e.test_runs import MAILS, Bench, some
from tests.servers.dovecot import Dovecot

pytestmark = pytest.mark.servers

HOME = 'home = { path = "home" }'


class Looker(Bench):
    """Dry runs that prove to have changed nothing."""

    def look(self, **options: object) -> RunReport:
        before = self.everything()
        report = self.run(dry_run=True, **options)
        assert self.everything() == before
        assert (report.run_id, report.fetched, report.delivered, report.removed) == (0, 0, {}, 0)
        return report

    def everything(self) -> dict[Path, str | bytes | None]:
        """All files and folders with what is in them: a database by its rows, as the log beside it comes and goes."""
        found: dict[Path, str | bytes | None] = {}
        for path in self.directory.rglob("*"):
            if path.suffix == ".sqlite":
                with closing(sqlite3.connect(path)) as connection:
                    found[path] = "\n".join(connection.iterdump())
            elif not path.name.endswith(("-wal", "-shm")):
                found[path] = path.read_bytes() if path.is_file() else None
        return found


@pytest.fixture
def bench(tmp_path: Path, dovecot: Dovecot, user: str) -> Looker:
    return Looker(tmp_path, dovecot, user)


def test_before_the_first_run_it_makes_neither_state_nor_archives(bench: Looker) -> None:
    bench.configure('destinations = ["home", "mails"]', HOME, MAILS)
    bench.deliver(some(20))
    report = bench.look()
    assert (report.exit_code, report.to_fetch, report.to_make) == (ExitCode.DONE, 20, ["home", "mails"])
    assert [path.name for path in bench.directory.iterdir()] == ["syncd.toml"]
    assert bench.run().fetched == 20
    report = bench.look()
    assert (report.exit_code, report.unchanged, report.to_fetch, report.to_make) == (ExitCode.DONE, True, 0, [])


def test_check_makes_nothing_either(
    bench: Looker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.deliver(some(20))
    monkeypatch.setenv("PASSWORD", "secret")
    assert call(["check", "-c", str(bench.directory / "syncd.toml")]) == 0
    assert "; 20 messages on the server; archive home would be made; nothing was" in capsys.readouterr().out
    assert [path.name for path in bench.directory.iterdir()] == ["syncd.toml"]


def test_a_new_job_for_a_known_account_is_not_registered(bench: Looker) -> None:
    bench.deliver(some(20))
    bench.run()
    bench.configure('destinations = ["mails"]', MAILS)
    report = bench.look()
    assert (report.to_fetch, report.new, report.to_make) == (20, 0, ["mails"])
    assert bench.run().fetched == 20


def test_two_jobs_may_share_an_archive_that_is_not_there_yet(bench: Looker) -> None:
    second = 'destinations = ["home"]\nleave_on_server = false\n[jobs.second]\nsource = "road"\ndestinations = ["home"]'
    bench.configure(second, HOME)
    bench.deliver(some(3))
    before = bench.everything()
    reports = RunsByHand(bench.loaded(), [], RunOptions(dry_run=True), bench.events.append).execute()
    assert [(report.to_fetch, report.to_make) for report in reports] == [(3, ["home"])] * 2
    assert bench.everything() == before


def test_what_an_archive_holds_is_not_fetched_on_a_new_laptop(bench: Looker) -> None:
    bench.deliver(some(20))
    bench.run()
    bench.configure('destinations = ["home"]', HOME, state="another")
    bench.deliver(some(5, seed=2))
    report = bench.look()
    assert (report.listed, report.new, report.to_fetch) == (25, 5, 5)
    assert "home has 20 messages of this account already" in [e.text for e in bench.events if isinstance(e, Noted)]
    assert bench.run().fetched == 5


def test_what_an_archive_can_pass_on_is_not_fetched(bench: Looker) -> None:
    bench.deliver(some(20))
    bench.run()
    bench.configure('destinations = ["home", "mails"]', HOME, MAILS)
    report = bench.look()
    assert (report.to_fetch, report.to_backfill, report.to_make) == (0, 20, ["mails"])
    assert bench.run().backfilled == 20


def test_what_it_says_of_removals_holds_for_the_listing_it_saw(bench: Looker) -> None:
    bench.deliver(some(20))
    bench.run()
    bench.configure('destinations = ["home"]\nleave_on_server = false', HOME, state="another")
    assert bench.look().to_remove == 20
    assert bench.look(unfreeze="*").to_remove == 20


def test_an_account_that_changed_is_told(bench: Looker) -> None:
    bench.deliver(some(3))
    bench.run()
    config = bench.directory / "syncd.toml"
    config.write_text(config.read_text().replace(bench.user, f"{bench.user}x"))
    report = bench.look()
    assert report.exit_code is ExitCode.STOPPED
    assert "--rebind" in report.errors[0]


def test_an_archive_that_vanished_is_told_and_refill_says_what_it_would_do(bench: Looker) -> None:
    bench.deliver(some(3))
    bench.run()
    (bench.directory / "home").rename(bench.directory / "gone")
    report = bench.look()
    assert report.exit_code is ExitCode.STOPPED
    assert "--refill" in report.errors[0]
    assert (bench.look(refill=True).to_fetch, bench.look(refill=True).to_make) == (3, ["home"])


def test_it_says_who_holds_the_job_and_is_not_held_up_by_who_writes_to_the_archive(bench: Looker) -> None:
    bench.deliver(some(3))
    bench.run()
    home = PacksArchive(bench.directory / "home").identity()
    with open_ledger(bench.loaded()) as database:
        with LeaseSet.acquire(database, [archive_resource(home)], "another job"):
            assert bench.look().exit_code is ExitCode.DONE
        with LeaseSet.acquire(database, [job_resource(1)], "a test"):
            report = bench.look()
    assert report.exit_code is ExitCode.HELD
    assert "is in use by process" in report.errors[0]
