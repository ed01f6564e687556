"""SIGKILL around durable steps of a job that reads an archive: each message arrives once, the archive is as it was."""

from __future__ import annotations

import hashlib
import signal
from pathlib import Path
from uuid import uuid4

import pytest

from syncd.destinations.packs import PacksArchive
from syncd.durable import Moment, Step
from tests.contract.destination_kit import OTHER, ROAD, delivered, message
from tests.crash.child import Point
from tests.crash.program import Ended, Program
from tests.crash.scenarios import one_of
from tests.crash.site import Digests, digests, maildir_files
from tests.support import mail

pytestmark = pytest.mark.crash

STEPS = (
    Step.LEDGER_COMMIT,
    Step.ARCHIVE_IDENTITY,
    Step.MAILDIR_NOTE,
    Step.MAILDIR_SYNC,
    Step.MAILDIR_LINK,
    Step.DIRECTORY_SYNC,
)
MOMENTS: tuple[Moment, ...] = ("before", "after")


class Site:
    """An archive of packs that holds some mail twice, and a job that passes it on to a Maildir."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.home = home
        messages = [*mail.small(25, seed=3), *mail.nasty().values()]
        archive = PacksArchive(home / "packs")
        archive.create(uuid4())
        archive.open()
        delivered(archive, [message(key, octets) for key, octets in enumerate(messages)])
        delivered(archive, [message(key, octets, OTHER) for key, octets in enumerate(messages[:7])])
        delivered(archive, [message(99, b"later\r\n", ROAD)])
        archive.close()
        self.expected: Digests = digests([*messages, *messages[:7], b"later\r\n"])
        self.packs = self.fingerprint()
        (home / "syncd.toml").write_text(
            'state_directory = "state"\n[archives]\npacks = { path = "packs" }\n'
            'mails = { path = "mails", format = "maildir", line_ends = "verbatim" }\n'
            '[jobs.onwards]\nsource = "packs"\ndestinations = ["mails"]\n'
        )

    def run(self, point: Point | None = None) -> Ended:
        arguments = ["run", "--config", str(self.home / "syncd.toml"), "--quiet"]
        return Program(arguments, self.home / "output", point=point).wait()

    def fingerprint(self) -> list[tuple[str, bytes]]:
        files = sorted((self.home / "packs" / "packs").iterdir())
        return [(file.name, hashlib.sha256(file.read_bytes()).digest()) for file in files]

    def prove(self) -> None:
        assert digests(maildir_files(self.home / "mails")) == self.expected
        assert not list((self.home / "mails" / "tmp").iterdir())
        assert self.fingerprint() == self.packs


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[Step, Moment], int]:
    """How often each step comes in an undisturbed run."""
    site = Site(tmp_path_factory.mktemp("counted") / "site")
    ended = site.run()
    assert (ended.code, ended.stderr) == (0, "")
    site.prove()
    return ended.steps


def test_every_kind_of_step_is_stopped_at(counted: dict[tuple[Step, Moment], int]) -> None:
    assert {step for step, _ in counted} - {Step.MAILDIR_UNLINK} == set(STEPS)


each_case = pytest.mark.parametrize(
    ("step", "moment"), [(step, moment) for step in STEPS for moment in MOMENTS], ids=str
)


@each_case
def test_killed_in_the_middle_and_at_the_end(
    step: Step, moment: Moment, counted: dict[tuple[Step, Moment], int], tmp_path: Path
) -> None:
    kill_and_prove(Site(tmp_path / "site"), Point(step, moment, one_of(counted[step, moment], moment)))


@pytest.mark.soak
@each_case
def test_killed_at_every_occurrence(
    step: Step, moment: Moment, counted: dict[tuple[Step, Moment], int], tmp_path: Path
) -> None:
    for occurrence in range(1, counted[step, moment] + 1):
        kill_and_prove(Site(tmp_path / f"site{occurrence}"), Point(step, moment, occurrence))


def kill_and_prove(site: Site, point: Point) -> None:
    assert site.run(point).code == -signal.SIGKILL, f"it never came to {point}"
    ended = site.run()
    assert (ended.code, ended.stderr) == (0, ""), point
    site.prove()
    again = site.run()
    assert (again.code, again.stdout, again.stderr) == (0, "", "")
    site.prove()
