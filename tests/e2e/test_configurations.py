"""Several configurations, or several names of one account, that share a ledger: none takes away what another needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.engine.events import RunReport
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from syncd.settings.load import load
from tests.fakes.pop3 import PASSWORD, USERNAME, FakePop3
from tests.support import mail

MAIL = list(mail.small(4, seed=5))
MOVE = "leave_on_server = false\nconfirm_removal = true\n"


class Desk:
    def __init__(self, directory: Path, server: FakePop3) -> None:
        self.directory = directory
        self.server = server

    def account(self, name: str) -> str:
        return (
            f'[accounts.{name}]\nprotocol = "pop3"\nhost = "{self.server.host}"\nport = {self.server.port}\n'
            f'security = "none"\nallow_insecure = true\nusername = "{USERNAME}"\npassword = "env:PASSWORD"\n'
        )

    def file(self, name: str, text: str) -> Path:
        path = self.directory / name
        archives = "[archives]\nhome = { path = 'home' }\nspare = { path = 'spare' }\n"
        path.write_text(f'state_directory = "{self.directory}/state"\n{archives}{text}')
        return path

    def shows(self, count: int) -> None:
        """So many messages; what is removed stays, as another session has the maildrop."""
        self.server.messages = MAIL[:count]
        self.server.uids = [b"uid-%d" % number for number in range(1, count + 1)]

    def run(self, file: Path, *jobs: str) -> RunReport:
        loaded = load(file, environment={"PASSWORD": PASSWORD})
        [report] = RunsByHand(loaded, jobs, RunOptions(), lambda _: None).execute()
        return report


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with FakePop3(MAIL) as server:
        yield Desk(tmp_path, server)


def test_a_job_of_another_file_has_its_mail_before_it_is_removed(desk: Desk) -> None:
    """A run with one file disabled the jobs of the other."""
    copy = desk.file("copy.toml", desk.account("road") + '[jobs.copy]\nsource = "road"\ndestinations = ["spare"]\n')
    move = desk.file(
        "move.toml", desk.account("road") + f'[jobs.move]\nsource = "road"\ndestinations = ["home"]\n{MOVE}'
    )
    desk.shows(2)
    assert desk.run(copy).fetched == 2
    desk.shows(4)
    assert desk.run(move).removed == 2
    assert desk.server.deleted == [1, 2]
    assert desk.run(copy).fetched == 2
    assert desk.run(move).to_remove == 4


def test_a_file_that_is_no_more_holds_nothing_back(desk: Desk) -> None:
    copy = desk.file("copy.toml", desk.account("road") + '[jobs.copy]\nsource = "road"\ndestinations = ["spare"]\n')
    move = desk.file(
        "move.toml", desk.account("road") + f'[jobs.move]\nsource = "road"\ndestinations = ["home"]\n{MOVE}'
    )
    desk.shows(2)
    desk.run(copy)
    desk.shows(4)
    copy.unlink()
    assert desk.run(move).removed == 4


def test_two_names_of_one_account_are_one_mailbox(desk: Desk) -> None:
    """The other job was looked for by the name of its source."""
    both = desk.file(
        "both.toml",
        desk.account("road")
        + desk.account("same")
        + f'[jobs.move]\nsource = "road"\ndestinations = ["home"]\n{MOVE}'
        + '[jobs.copy]\nsource = "same"\ndestinations = ["spare"]\n',
    )
    assert desk.run(both, "move").removed == 0
    assert desk.run(both, "copy").fetched == 4
    assert desk.run(both, "move").removed == 4
