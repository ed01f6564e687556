"""The schema that the migrations make is the one that the tables of `models` describe."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, Connection, Index, MetaData, create_engine, inspect, text

from syncd.db import migrations
from syncd.db.catalog import Catalog
from syncd.db.database import Database
from syncd.db.migrations import HEAD, schema_version, upgrade
from syncd.db.models import metadata
from syncd.db.search.tables import metadata as search_metadata
from syncd.errors import LedgerError
from tests.contract.conftest import Opener
from tests.servers.postgresql import Postgresql, programs


def test_migrations_make_the_tables_of_the_models(database: Database) -> None:
    with database.read() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        described = [metadata] if database.is_sqlite else [metadata, search_metadata]  # alembic takes several
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, cast("MetaData", described)) == []


def test_migrations_make_the_checks_and_conditions_of_the_models(database: Database) -> None:
    with database.read() as connection:
        for table in metadata.sorted_tables:
            found = {check["name"] for check in inspect(connection).get_check_constraints(table.name)}
            checks = [constraint for constraint in table.constraints if isinstance(constraint, CheckConstraint)]
            assert found == {connection.dialect.identifier_preparer.format_constraint(check) for check in checks}
        assert conditions(connection) == {
            str(index.name): normal(str(index.dialect_options["sqlite"]["where"]))
            for table in metadata.sorted_tables
            for index in table.indexes
            if index.dialect_options["sqlite"]["where"] is not None
        }


def conditions(connection: Connection) -> dict[str, str]:
    """Name → condition of each partial index."""
    statement = {
        "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql LIKE '% WHERE %'",
        "postgresql": "SELECT indexname, indexdef FROM pg_indexes WHERE indexdef LIKE '%) WHERE %'",
    }[connection.dialect.name]
    return {name: normal(sql.partition(" WHERE ")[2]) for name, sql in connection.execute(text(statement))}


def normal(condition: str) -> str:
    """PostgreSQL rewrites `x IN (1, 2)` as `(x = ANY (ARRAY[1, 2]))`."""
    return condition.replace("= ANY (ARRAY[", "IN (").replace("]", "").strip("()")


def test_sqlite_tables_are_the_same_to_the_letter(tmp_path: Path) -> None:
    empty = create_engine("sqlite://")
    with Database.open(None, tmp_path) as database, database.read() as created, empty.begin() as migrated:
        upgrade(migrated)
        assert definitions(migrated) == definitions(created)
        assert schema_version(migrated) == schema_version(created) == HEAD


def definitions(connection: Connection) -> dict[str, list[str]]:
    """Name → its lines; SQLite writes a column that was added later into the line before it."""
    rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
    return {
        name: sorted(line.strip(" ,\t") for line in re.split(r"\n|, (?=[a-z_]+ [A-Z]+)", sql))
        for name, sql in rows
        if name != "alembic_version"
    }


def test_one_line_of_versions_that_ends_at_head() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [HEAD]
    revisions = [revision.revision for revision in script.walk_revisions()]
    assert sorted(revisions, reverse=True) == revisions  # compared as text to know older from newer


def test_opening_again_changes_nothing(database: Database, open_ledger: Opener) -> None:
    with database.write() as connection:
        connection.execute(text("INSERT INTO leases VALUES ('job:x', 1, '', 0)"))
    with open_ledger().read() as connection:
        assert schema_version(connection) == HEAD
        assert connection.execute(text("SELECT count(*) FROM leases")).scalar_one() == 1


def test_a_newer_ledger_is_refused(database: Database, open_ledger: Opener) -> None:
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(LedgerError, match=r"written by a newer syncd \(its schema is 9999, this program knows up to"):
        open_ledger()


def test_every_index_name_says_its_table() -> None:
    indexes: list[Index] = [index for table in metadata.sorted_tables for index in table.indexes]
    assert all(index.table is not None and index.table.name in str(index.name) for index in indexes)


OPENER = """
import sys
import subprocess
import sys
from pathlib import Path
from syncd.db.catalog import Catalog
from syncd.db.database import Database
sys.stdin.readline()
Database.open(sys.argv[1], Path(sys.argv[2])).close()
"""


@pytest.mark.servers
@pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed (tests/servers/install)")
def test_processes_that_migrate_one_postgresql_at_once(postgresql: Postgresql, tmp_path: Path) -> None:
    url = postgresql.new_database()
    command = [sys.executable, "-c", OPENER, url, str(tmp_path)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        with process:
            assert process.wait(60) == 0
    with Database.open(url, tmp_path) as database, database.read() as connection:
        assert schema_version(connection) == HEAD


@pytest.mark.servers
@pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed (tests/servers/install)")
def test_looking_for_a_ledger_on_postgresql_makes_none(postgresql: Postgresql, tmp_path: Path) -> None:
    url = postgresql.new_database()
    assert Database.find(url, tmp_path / "state") is None
    Database.open(url, tmp_path / "state").close()
    found = Database.find(url, tmp_path / "state")
    assert found is not None
    with found, found.read() as connection:
        assert schema_version(connection) == HEAD
    assert list(tmp_path.iterdir()) == []


@pytest.mark.servers
@pytest.mark.skipif(programs() is None, reason="PostgreSQL is not installed (tests/servers/install)")
def test_a_server_that_goes_away_is_one_clear_line(tmp_path: Path) -> None:
    with Postgresql() as server, Database.open(server.new_database(), tmp_path) as database:
        server.stop()
        with pytest.raises(LedgerError, match=r"^the ledger postgresql\+psycopg://syncd@/ledger1\?host=.*: ") as caught:
            Catalog(database).find_account("road")
        assert "\n" not in str(caught.value)
        server.start()
        assert Catalog(database).find_account("road") is None
