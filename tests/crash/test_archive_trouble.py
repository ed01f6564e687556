"""Archives on a full disk, read-only, gone or exchanged: one clear line, and a next run that makes it good."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from syncd.destinations.maildir import MaildirArchive
from syncd.destinations.packs import PacksArchive
from syncd.durable import Moment, Step
from tests.crash.child import Point
from tests.crash.program import Ended
from tests.crash.scenarios import BOTH, MAILDIR, PACKS, MakeSite
from tests.crash.site import Scenario
from tests.support import mail

pytestmark = [pytest.mark.crash, pytest.mark.servers]

AMID_BATCHES = 15  # commits of a job with one archive
AMID_BATCHES_AGAIN = 8  # of a later run, for which all is registered and listed

ROOMY = "64m"
needs_mounts = pytest.mark.skipif(os.getuid() != 0, reason="only root may mount a small file system")


def in_soak(*values: str) -> list[Any]:
    return [pytest.param(value, marks=pytest.mark.soak) for value in values]


each_scenario = pytest.mark.parametrize("scenario", [PACKS, MAILDIR], ids=str)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own; `resize` it."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOMY}", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


def assert_one_line(ended: Ended, code: int, *words: str) -> None:
    assert ended.code == code, ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    for word in words:
        assert word in ended.stderr


def assert_said_before(ended: Ended, code: int) -> None:
    """With --quiet a trouble that stays as it was is not told again; at another file it is another one."""
    assert ended.code == code
    assert len(ended.stderr.splitlines()) <= 1, ended.stderr


@needs_mounts
@pytest.mark.parametrize("size", ["16k", "400k", "2m", *in_soak("100k", "1m")])
@each_scenario
def test_disk_of_the_archive_full(scenario: Scenario, size: str, small_disk: Path, make_site: MakeSite) -> None:
    folders = {name: small_disk / name for name in scenario.archives}
    site = make_site(scenario, [*mail.realistic(150, seed=7)], folders=folders)
    remount(small_disk, f"size={size}")
    assert_one_line(site.run(), 5, str(small_disk), "free some space")
    assert_said_before(site.run(), 5)
    remount(small_disk, f"size={ROOMY}")
    site.resume_and_prove()


@needs_mounts
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_while_a_batch_is_undone(moment: Moment, small_disk: Path, make_site: MakeSite) -> None:
    site = make_site(PACKS, [*mail.realistic(150, seed=7)], folders={"packs": small_disk / "packs"})
    remount(small_disk, "size=400k")
    assert site.run(point=Point(Step.PACK_UNDO, moment, 1)).code == -signal.SIGKILL
    remount(small_disk, f"size={ROOMY}")
    site.resume_and_prove()


@needs_mounts
@pytest.mark.parametrize("size", ["16k", "240k", "400k", *in_soak("180k", "300k")])
@each_scenario
def test_disk_of_the_ledger_full(scenario: Scenario, size: str, small_disk: Path, make_site: MakeSite) -> None:
    site = make_site(scenario, [*mail.small(800, seed=8)], state=small_disk / "state")
    remount(small_disk, f"size={size}")
    assert_one_line(site.run(), 5, str(small_disk), "space")  # SQLite may call it an I/O error
    remount(small_disk, f"size={ROOMY}")
    site.resume_and_prove()


@needs_mounts
def test_one_of_two_disks_full(small_disk: Path, make_site: MakeSite) -> None:
    """The other archive is filled, and gives this one what it missed: nothing is fetched again."""
    site = make_site(BOTH, [*mail.realistic(150, seed=7)], folders={"packs": small_disk / "packs"})
    remount(small_disk, "size=1m")
    assert_one_line(site.run(), 5, str(small_disk), "free some space")
    assert site.archived("maildir") == site.expected_files
    before = site.retrieved(sessions=1)
    remount(small_disk, f"size={ROOMY}")
    site.resume_and_prove()
    assert site.retrieved(sessions=2) == before


@needs_mounts
@each_scenario
def test_read_only(scenario: Scenario, small_disk: Path, make_site: MakeSite) -> None:
    folders = {name: small_disk / name for name in scenario.archives}
    site = make_site(scenario, folders=folders)
    remount(small_disk, "ro")
    assert_one_line(site.run(), 1, str(small_disk), "ead-only")
    remount(small_disk, "rw")
    assert site.run(point=Point(Step.LEDGER_COMMIT, "after", AMID_BATCHES_AGAIN)).code < 0
    remount(small_disk, "ro")
    assert_one_line(site.run(), 1, str(small_disk), "ead-only")
    remount(small_disk, "rw")
    site.resume_and_prove()


@each_scenario
def test_gone(scenario: Scenario, make_site: MakeSite) -> None:
    site = make_site(scenario)
    assert site.run().code == 0
    (folder,) = site.folders.values()
    folder.rename(site.home / "elsewhere")
    assert_one_line(site.run(), 7, str(folder), "--refill")
    assert not folder.exists()
    assert site.run("--refill").code == 0
    site.resume_and_prove()


@each_scenario
def test_back_again(scenario: Scenario, make_site: MakeSite) -> None:
    """A disk that was not mounted: the archive is the same, and nothing is fetched again."""
    site = make_site(scenario)
    assert site.run().code == 0
    before = site.retrieved(sessions=1)
    (folder,) = site.folders.values()
    folder.rename(site.home / "elsewhere")
    assert_one_line(site.run(), 7, str(folder), "--refill")
    (site.home / "elsewhere").rename(folder)
    site.resume_and_prove()
    assert site.retrieved(sessions=2) == before


@each_scenario
def test_exchanged(scenario: Scenario, make_site: MakeSite) -> None:
    site = make_site(scenario)
    assert site.run().code == 0
    (folder,) = site.folders.values()
    folder.rename(site.home / "elsewhere")
    (MaildirArchive if scenario is MAILDIR else PacksArchive)(folder).create(uuid4())
    assert_one_line(site.run(), 7, str(folder), "is there")
    assert site.run("--refill").code == 0
    site.resume_and_prove()


def test_one_of_two_gone(make_site: MakeSite) -> None:
    """It is filled again from the other archive."""
    site = make_site(BOTH)
    assert site.run().code == 0
    before = site.retrieved(sessions=1)
    site.folders["packs"].rename(site.home / "elsewhere")
    assert_one_line(site.run(), 7, str(site.folders["packs"]), "--refill")
    assert site.run("--refill").code == 0
    site.resume_and_prove()
    assert site.retrieved(sessions=2) == before


@each_scenario
def test_gone_while_it_is_written_to(scenario: Scenario, make_site: MakeSite) -> None:
    site = make_site(scenario)
    program = site.start(point=frozen_after_commit(AMID_BATCHES))
    program.wait_until_frozen()
    (folder,) = site.folders.values()
    folder.rename(site.home / "elsewhere")
    program.wake()
    assert_one_line(program.wait(), 7, str(folder))
    (site.home / "elsewhere").rename(folder)
    site.resume_and_prove()


def frozen_after_commit(number: int) -> Point:
    return Point(Step.LEDGER_COMMIT, "after", number, signal.SIGSTOP)
