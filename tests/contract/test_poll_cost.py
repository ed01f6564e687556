"""What a poll that finds nothing new costs in the database: the most frequent thing that a service does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event

from syncd.db.database import Database
from syncd.db.runs import Runs
from syncd.services.apply import apply
from syncd.services.serving import Ended, Workshop
from syncd.services.workplace import Common, Running
from syncd.settings.load import load, load_service
from tests.fakes.pop3 import PASSWORD, USERNAME, FakePop3

MOST_STATEMENTS = 20
MOST_WRITES = 2  # transactions: claim and end
BEGINS = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


class Poll:
    """A job from one account into one archive, worked on as a worker of the service does."""

    def __init__(self, database: Database, url: str | None, common: Common, directory: Path, port: int) -> None:
        file = directory / "syncd.toml"
        where = f'database_url = "{url}"\n' if url else ""
        file.write_text(
            f'{where}state_directory = "state"\n[archives.home]\npath = "home"\n[accounts.road]\nprotocol = "pop3"\n'
            f'host = "127.0.0.1"\nport = {port}\nsecurity = "none"\nallow_insecure = true\nusername = "{USERNAME}"\n'
            'password = "env:P"\n[jobs.backup]\nsource = "road"\ndestinations = ["home"]\n'
        )
        environment = {"P": PASSWORD}
        apply(load(file, environment=environment), database)
        self._runs = Runs(database)
        self._workshop = Workshop(load_service(file, environment=environment), common, {}, lambda _: None)
        self.statements: list[str] = []
        self.writes = 0
        event.listen(database.engine, "before_cursor_execute", self._see)
        event.listen(database.engine, "commit", self._commit)
        self._wrote = False

    def run(self) -> Ended:
        """One run; `statements` and `writes` are of it alone."""
        run_id = self._runs.enqueue(1, "schedule")
        assert run_id is not None
        self.statements, self.writes = [], 0
        ended = self._workshop.work(run_id)
        assert ended is not None
        return ended

    def _see(self, *args: object) -> None:
        statement = str(args[2])
        if not statement.startswith(BEGINS):
            self.statements.append(statement)
            self._wrote |= not statement.startswith("SELECT")

    def _commit(self, _: object) -> None:
        self.writes += self._wrote
        self._wrote = False


@pytest.fixture
def poll(database: Database, database_url: str | None, tmp_path: Path) -> Iterator[Poll]:
    messages = [b"Subject: %d\r\n\r\nhello\r\n" % number for number in range(20)]
    with FakePop3(messages) as server, Common(database, Running()) as common:
        yield Poll(database, database_url, common, tmp_path, server.port)


def test_a_poll_that_finds_nothing_new_costs_little(poll: Poll) -> None:
    first = poll.run()
    assert (first.closed, first.report.errors, first.report.fetched) == (True, [], 20)
    poll.run()
    ended = poll.run()
    assert (ended.closed, ended.report.exit_code, ended.report.unchanged) == (True, 0, True)
    assert len(poll.statements) <= MOST_STATEMENTS, "\n".join(poll.statements)
    assert 2 <= poll.writes <= MOST_WRITES
