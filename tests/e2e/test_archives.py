"""What becomes of jobs when their archive is not what it was. Against a scripted server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.engine.events import RunReport
from syncd.engine.exit_codes import ExitCode
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from syncd.settings.load import load
from tests.fakes.pop3 import PASSWORD, USERNAME, FakePop3
from tests.support import mail
from tests.support.packs import listed

REMOVING = "leave_on_server = false\nconfirm_removal = true\n"


class Bench:
    """Jobs `backup` and `second`, which read one account into one archive."""

    def __init__(self, directory: Path, server: FakePop3) -> None:
        self.home = directory / "home"
        self.copy = directory / "copy"
        self.server = server
        self._config = directory / "syncd.toml"
        self.configure()

    def configure(self, extra: str = "") -> None:
        self._config.write_text(
            'state_directory = "state"\n[archives]\nhome = { path = "home" }\n'
            f'[accounts.road]\nprotocol = "pop3"\nhost = "127.0.0.1"\nport = {self.server.port}\n'
            f'security = "none"\nallow_insecure = true\nusername = "{USERNAME}"\npassword = "env:PASSWORD"\n'
            f'[jobs.backup]\nsource = "road"\ndestinations = ["home"]\n{extra}'
            '[jobs.second]\nsource = "road"\ndestinations = ["home"]\n'
        )

    def run(self, *jobs: str, **options: Any) -> list[RunReport]:
        loaded = load(self._config, environment={"PASSWORD": PASSWORD})
        return RunsByHand(loaded, jobs, RunOptions(**options), lambda _: None).execute()

    def receive(self, *messages: bytes) -> None:
        for message in messages:
            self.server.messages.append(message)
            self.server.uids.append(b"uid-%d" % len(self.server.messages))

    def restore_older(self) -> None:
        """All that was stored since the copy was made is gone."""
        shutil.rmtree(self.home)
        shutil.copytree(self.copy, self.home)

    @property
    def held(self) -> int:
        return len(listed(self.home))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with FakePop3(list(mail.small(3, seed=1))) as server:
        yield Bench(tmp_path, server)


@pytest.fixture
def behind(bench: Bench) -> Bench:
    """The archive is the older copy of itself: five of eight messages are not in it."""
    bench.run()
    shutil.copytree(bench.home, bench.copy)
    bench.receive(*mail.small(5, seed=2))
    assert [report.exit_code for report in bench.run()] == [ExitCode.DONE] * 2
    bench.restore_older()
    return bench


@pytest.mark.parametrize("dry_run", [False, True])
def test_an_older_copy_of_the_archive_stops_its_jobs(behind: Bench, dry_run: bool) -> None:  # noqa: FBT001
    """It was taken for the archive, and what it did not hold was removed at the server."""
    behind.configure(REMOVING)
    for report in behind.run(dry_run=dry_run):
        assert report.exit_code is ExitCode.STOPPED
        assert f"syncd run {report.job} --refill" in report.errors[0]
    assert behind.server.deleted == []
    assert behind.held == 3


def test_refill_fetches_what_an_older_copy_does_not_hold(behind: Bench) -> None:
    behind.configure(REMOVING)
    [dry] = behind.run("backup", refill=True, dry_run=True)
    assert (dry.exit_code, dry.to_fetch) == (ExitCode.DONE, 5)
    [report] = behind.run("backup", refill=True)
    assert (report.exit_code, report.fetched, report.removed) == (ExitCode.DONE, 5, 0)  # the other job lacks it, too
    assert behind.held == 8
    assert behind.run("second")[0].exit_code is ExitCode.DONE
    assert behind.run("backup")[0].removed == 8


def test_an_archive_is_filled_again_for_the_jobs_that_were_not_named_too(behind: Bench) -> None:
    """One job alone made it as long as it had been, and what another one had delivered was missing for good."""
    behind.server.messages, messages = behind.server.messages[:3], behind.server.messages
    behind.server.uids, ids = behind.server.uids[:3], behind.server.uids
    assert behind.run("backup", refill=True)[0].fetched == 0
    behind.server.messages, behind.server.uids = messages, ids
    behind.configure()
    [report] = behind.run("second")
    assert (report.exit_code, report.fetched) == (ExitCode.DONE, 5)
    assert behind.held == 8


def test_an_archive_that_was_filled_again_is_watched_as_before(behind: Bench) -> None:
    assert behind.run("backup", refill=True)[0].exit_code is ExitCode.DONE
    assert [report.exit_code for report in behind.run()] == [ExitCode.DONE] * 2
    behind.restore_older()
    assert [report.exit_code for report in behind.run()] == [ExitCode.STOPPED] * 2


def test_refill_of_an_archive_that_holds_everything_fetches_nothing(bench: Bench) -> None:
    bench.run()
    reports = bench.run(refill=True)
    assert [(report.exit_code, report.fetched) for report in reports] == [(ExitCode.DONE, 0)] * 2
    assert bench.held == 3


def test_the_newest_copy_is_as_good_as_the_archive(bench: Bench) -> None:
    bench.run()
    shutil.copytree(bench.home, bench.copy)
    bench.restore_older()
    (bench.home / "index.sqlite").unlink()
    assert [(report.exit_code, report.fetched) for report in bench.run()] == [(ExitCode.DONE, 0)] * 2


def test_a_pack_that_was_lost_with_the_index_stops_its_jobs(bench: Bench) -> None:
    bench.run()
    shutil.rmtree(bench.home / "packs")
    (bench.home / "packs").mkdir()
    (bench.home / "index.sqlite").unlink()
    assert [report.exit_code for report in bench.run()] == [ExitCode.STOPPED] * 2
    assert [report.exit_code for report in bench.run(refill=True)] == [ExitCode.DONE] * 2
    assert bench.held == 3
