"""SIGKILL amid migrations of the ledger, and while a search index is tidied: the next command finds nothing amiss."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, MetaData, create_engine, make_url, text

from syncd.db import migrations
from syncd.db.database import Database
from syncd.db.migrations import HEAD, schema_version
from syncd.db.models import metadata
from syncd.db.search.tables import metadata as search_metadata
from syncd.destinations.packs import PacksArchive
from syncd.formats.search.index import SearchIndex
from syncd.services.indexes import FILES, Tables
from tests.contract.conftest import ENGINES
from tests.contract.destination_kit import delivered, message
from tests.contract.search_kit import SearchKit
from tests.servers.postgresql import Postgresql, programs
from tests.support import mail

BEFORE = "0002"  # what is in 0003 and 0004 is made amid the kill
STRIDE = 3  # of the statements of the migrations; each third is stopped at
SHARES = (0.02, 0.3, 0.6, 0.9)  # of the work of tidying
SECONDS = 60

MIGRATE = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import Engine, event
from syncd.db.database import Database
left = int(sys.argv[3])
def see(*given):
    global left
    statement = given[2] if len(given) > 2 else "COMMIT"
    left -= statement.lstrip().startswith(("CREATE", "ALTER", "UPDATE", "COMMIT"))
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
event.listen(Engine, "before_cursor_execute", see)
event.listen(Engine, "commit", see)
Database.open(sys.argv[1] or None, Path(sys.argv[2])).close()
"""

TIDY_FILE = """
import os, signal, sys
from pathlib import Path
from uuid import UUID
from syncd.formats.search.index import SearchIndex
index, left = SearchIndex.open(Path(sys.argv[1]), UUID(sys.argv[2])), int(sys.argv[3])
def see():
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
index._connection.set_progress_handler(see, 100)
index.tidy()
"""

TIDY_TABLES = """
import os, signal, sys
from pathlib import Path
from uuid import UUID
from sqlalchemy import event
from syncd.db.database import Database
from syncd.db.search.index import TableIndex
database, left = Database.open(sys.argv[1], Path(sys.argv[2])), int(sys.argv[5])
def see(*given):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
index = TableIndex.open(database, sys.argv[3], "mail", UUID(sys.argv[4]))
event.listen(database.engine, "before_cursor_execute", see)
event.listen(database.engine, "commit", see)
index.tidy()
"""


def ended(script: str, *arguments: object) -> int:
    """Run a script in a process of its own; returns 0, or minus the signal that ended it."""
    return subprocess.run([sys.executable, "-c", script, *map(str, arguments)], timeout=SECONDS, check=False).returncode


@pytest.fixture(params=ENGINES)
def old_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    """Returns the database of a ledger of an older schema, with a row in it; None: a file in the state directory."""
    state = tmp_path / "state"
    state.mkdir()
    is_sqlite = request.param == "sqlite"
    server: Postgresql | None = None if is_sqlite else request.getfixturevalue("postgresql")
    url = None if server is None else server.new_database()
    with inside(url, state) as connection:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, BEFORE)
        connection.execute(text("INSERT INTO leases VALUES ('job:x', 1, '', 0)"))
    if is_sqlite:
        with closing(sqlite3.connect(state / "ledger.sqlite")) as file:
            file.execute("PRAGMA journal_mode = WAL")
    return url


@contextmanager
def inside(url: str | None, state: Path) -> Iterator[Connection]:
    """A transaction that migrates nothing."""
    place = (
        f"sqlite:///{state / 'ledger.sqlite'}" if url is None else make_url(url).set(drivername="postgresql+psycopg")
    )
    engine = create_engine(place)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def test_a_migration_is_done_whole_or_not_at_all(old_ledger: str | None, tmp_path: Path) -> None:
    state, number, killed = tmp_path / "state", 1, 0
    while (code := ended(MIGRATE, old_ledger or "", state, number)) == -signal.SIGKILL:
        killed, number = killed + 1, number + STRIDE
        with inside(old_ledger, state) as connection:
            assert schema_version(connection) == BEFORE
            assert connection.execute(text("SELECT count(*) FROM leases")).scalar_one() == 1
    assert code == 0
    assert killed > 1
    with Database.open(old_ledger, state) as database, database.read() as connection:
        assert schema_version(connection) == HEAD
        assert connection.execute(text("SELECT count(*) FROM leases")).scalar_one() == 1
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        described = [metadata] if database.is_sqlite else [metadata, search_metadata]
        assert compare_metadata(context, cast("MetaData", described)) == []


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[PacksArchive]:
    made = PacksArchive(tmp_path / "mail")
    made.create(uuid4())
    made.open()
    delivered(made, [message(number, octets) for number, octets in enumerate(mail.small(100, seed=1))])
    yield made
    made.close()


def test_a_file_is_tidied_whole_or_not_at_all(archive: PacksArchive, tmp_path: Path) -> None:
    kit = SearchKit(archive.path, FILES)
    kit.update()
    path, uuid = kit.view.search_index, kit.view.uuid
    expected = sorted(kit.subjects("a", 500))
    assert expected
    work = [0]

    def count() -> int:
        work[0] += 1
        return 0

    copy = tmp_path / "copy.sqlite"
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    index = SearchIndex.open(copy, uuid)
    assert index is not None
    with closing(index):
        index._connection.set_progress_handler(count, 100)
        index.tidy()
    for share in SHARES:
        assert ended(TIDY_FILE, path, uuid, max(int(work[0] * share), 1)) == -signal.SIGKILL
        with closing(sqlite3.connect(path)) as file:
            assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert sorted(kit.subjects("a", 500)) == expected
        assert kit.unindexed() == 0
    later = message(900, b"Subject: the last one\r\n\r\na word\r\n")
    delivered(archive, [later])
    assert kit.update().messages == 1
    assert kit.subjects('subject:"the last one"') == ["the last one"]
    assert ended(TIDY_FILE, path, uuid, 0) == 0
    assert kit.unindexed() == 0


@pytest.mark.servers
@pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed (tests/servers/install)")
def test_tables_are_tidied_whole_or_not_at_all(
    archive: PacksArchive, tmp_path: Path, postgresql: Postgresql, migrated: str
) -> None:
    url, state = postgresql.new_database(migrated), tmp_path / "state"
    with Database.open(url, state) as database:
        kit = SearchKit(archive.path, Tables(database, "here", {archive.path: "mail"}))
        kit.update()
        expected = sorted(kit.subjects("a", 500))
        assert expected
        for number in (1, 2, 3):  # before each statement, and before the commit
            assert ended(TIDY_TABLES, url, state, "here", kit.view.uuid, number) == -signal.SIGKILL
            assert sorted(kit.subjects("a", 500)) == expected
        delivered(archive, [message(900, b"Subject: the last one\r\n\r\na word\r\n")])
        assert kit.update().messages == 1
        assert kit.subjects('subject:"the last one"') == ["the last one"]
        assert ended(TIDY_TABLES, url, state, "here", kit.view.uuid, 0) == 0
