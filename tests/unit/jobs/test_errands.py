"""Errands in a cluster: the page asks, a worker of the site does them, and where nobody can, the page says so."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from jobs.errands import Errands
from syncd.db import errands as rows
from syncd.db import workers
from syncd.db.database import Database
from syncd.db.errands import Kind, State, Subject
from syncd.db.holder import Holder
from syncd.db.workers import Worker
from syncd.engine.events import Listener, RunReport
from syncd.errors import UsageError
from syncd.services.apply import apply
from syncd.services.errands import asking, work
from syncd.services.errands.asking import ask
from syncd.settings.load import load, load_service
from syncd.settings.loaded import Loaded

CONFIG = """
name = "home"
state_directory = "{state}"
database_url = "postgresql://nobody@db.invalid/syncd"
broker_url = "redis://broker.invalid"
[accounts.road]
protocol = "pop3"
host = "pop.example.net"
username = "me"
password = "env:NOTHING_THAT_IS_SET"
[archives.home]
path = "home"
site = "host-a"
[jobs.road]
source = "road"
destinations = ["home"]
"""


class Runner:
    """In place of RunsByHand: it says whose settings it got."""

    def __init__(self, loaded: Loaded, names: list[str], _options: object, _listen: Listener) -> None:
        self._report = RunReport(names[0], dry_run=True, to_make=list(loaded.settings.archives))

    def execute(self) -> list[RunReport]:
        return [self._report]

    def cancel(self) -> None:
        """Nothing waits."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "syncd.toml"
    path.write_text(CONFIG.format(state=tmp_path / "state"))
    return path


@pytest.fixture
def database(file: Path, tmp_path: Path) -> Iterator[Database]:
    with Database.open(None, tmp_path / "state") as database:
        apply(load(file), database)
        yield database


def begin(database: Database, *sites: str) -> None:
    with database.write() as connection:
        workers.beat(connection, Worker(Holder.me("worker"), "worker", ("", *sites), 1, version("syncd")))


@pytest.mark.parametrize(("kind", "name"), [(Kind.DRY_RUN, "road"), (Kind.ARCHIVE, "home"), (Kind.ACCOUNT, "road")])
def test_a_worker_of_the_site_does_it(
    file: Path, database: Database, kind: Kind, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "RunsByHand", Runner)
    begin(database, "host-a")
    loaded = load(file)
    assert ask(loaded, database, kind, name, "ann")
    row = rows.newest(database, Subject("home", kind, name))
    assert row is not None
    assert (row.state, row.site) == (State.QUEUED, "" if kind is Kind.ACCOUNT else "host-a")
    worker = Errands(database, lambda: load_service(file), ["", "host-a"])
    worker._wake()
    assert worker._runner is not None
    assert worker._runner.join(60)
    found = asking.newest(loaded, database, kind, name)
    assert found is not None
    assert not found.is_open
    if kind is Kind.DRY_RUN:
        assert found.result is not None
        assert found.result["report"]["to_make"] == ["home"]
    worker.stop()


def test_without_a_worker_of_the_site_the_page_does_what_it_can(file: Path, database: Database) -> None:
    begin(database, "host-b")
    loaded = load(file)
    for kind, name in ((Kind.ARCHIVE, "home"), (Kind.DRY_RUN, "road"), (Kind.VERIFY, "road")):
        with pytest.raises(UsageError, match="no worker that knows it serves this site"):
            ask(loaded, database, kind, name, "ann")
    (file.parent / "home").mkdir()
    assert ask(loaded, database, Kind.DRY_RUN, "road", "ann")
    row = rows.newest(database, Subject("home", Kind.DRY_RUN, "road"))
    assert row is not None
    assert row.site is None
