"""The ledger's contract is one suite for both databases: `database` runs each test on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from syncd.db.database import Database
from tests.servers.postgresql import Postgresql, programs
from tests.support.ledger import Bench, Clock

Opener = Callable[[], Database]

ENGINES = [
    "sqlite",
    pytest.param(
        "postgresql",
        marks=[
            pytest.mark.servers,
            pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed (tests/servers/install)"),
        ],
    ),
]


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgresql]:
    """A private PostgreSQL, one for each xdist worker."""
    with Postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def migrated(postgresql: Postgresql, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a migrated, empty database on `postgresql`: copied, it saves a second for each test."""
    url = postgresql.new_database()
    Database.open(url, tmp_path_factory.mktemp("state")).close()
    return str(make_url(url).database)


@pytest.fixture(scope="session")
def search_database(
    postgresql: Postgresql, migrated: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """A database for the tests of search indexes: each has a configuration of its own."""
    url = postgresql.new_database(migrated)
    with Database.open(url, tmp_path_factory.mktemp("state")) as database:
        yield database


@pytest.fixture(params=ENGINES)
def database_url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """Where a fresh ledger of this engine goes; None is SQLite in the state directory."""
    if request.param == "sqlite":
        yield None
        return
    server: Postgresql = request.getfixturevalue("postgresql")
    url = server.new_database(request.getfixturevalue("migrated"))
    yield url
    server.drop(url)


@pytest.fixture
def open_ledger(database_url: str | None, tmp_path: Path) -> Iterator[Opener]:
    """Opens the same ledger again, as another process would; all are closed at the end."""
    opened: list[Database] = []

    def opener() -> Database:
        opened.append(Database.open(database_url, tmp_path / "state"))
        return opened[-1]

    yield opener
    for database in opened:
        database.close()


@pytest.fixture
def database(open_ledger: Opener) -> Database:
    """An open, empty ledger."""
    return open_ledger()


@pytest.fixture
def bench(database: Database) -> Bench:
    """A ledger with short ways to use it."""
    return Bench(database)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that stands still until it is told."""
    return Clock(monkeypatch)
