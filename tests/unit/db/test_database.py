"""What is special to SQLite; what both databases must do is in tests/contract."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from syncd import durable
from syncd.db.database import FILE_NAME, Database
from syncd.durable import Moment, Step
from syncd.errors import ConfigError, DiskFull, LedgerError, Locked, StorageError
from tests.support.quick import SHIPPED

together: Any


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.open(None, tmp_path / "state", busy_s=0.05) as opened:
        yield opened


def add(connection: Connection, resource: str) -> None:
    connection.execute(text("INSERT INTO leases VALUES (:resource, 1, '', 0)"), {"resource": resource})


def resources(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(text("SELECT resource FROM leases ORDER BY resource")).scalars())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- files ---------------------------------------------------------------------------------------------


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    state = tmp_path / "deep" / "state"
    with Database.open(None, state) as database:
        with database.write() as connection:
            add(connection, "x")
        assert mode(state) == 0o700
        names = {file.name: mode(file) for file in state.iterdir()}
        assert names == {FILE_NAME: 0o600, f"{FILE_NAME}-wal": 0o600, f"{FILE_NAME}-shm": 0o600}


def test_a_ledger_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).touch(mode=0o644)
    with Database.open(None, tmp_path):
        assert mode(tmp_path / FILE_NAME) == 0o600


def test_temporary_tables_go_to_the_state_directory(database: Database, tmp_path: Path) -> None:
    with database.session() as connection, database.read(connection):
        connection.execute(text("CREATE TEMP TABLE large (octets)"))
        connection.execute(text("INSERT INTO large VALUES (zeroblob(20000000))"))
        files = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        assert any(name.startswith(str(tmp_path / "state")) and name.endswith("(deleted)") for name in files)


def test_looking_for_a_ledger_makes_none(tmp_path: Path) -> None:
    state = tmp_path / "state"
    for url in (None, f"sqlite:///{state}/{FILE_NAME}", f"sqlite:///{tmp_path}/elsewhere/{FILE_NAME}"):
        assert Database.find(url, state) is None
    assert list(tmp_path.iterdir()) == []
    Database.open(None, state).close()
    found = Database.find(None, state)
    assert found is not None
    found.close()


def test_closing_leaves_one_file(tmp_path: Path) -> None:
    Database.open(None, tmp_path).close()
    assert [file.name for file in tmp_path.iterdir()] == [FILE_NAME]


# --- transactions --------------------------------------------------------------------------------------


def test_p40_commits_survive_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd.db.database._PRAGMAS", SHIPPED)
    with Database.open(None, tmp_path) as database, database.read() as connection:
        found = {name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")}
        assert found == {"journal_mode": "wal", "synchronous": 2}  # FULL
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1


def test_an_error_in_the_block_rolls_everything_back(database: Database) -> None:
    def work() -> None:
        with database.write() as connection:
            add(connection, "x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert resources(database) == []


def test_a_commit_is_a_durable_step(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Step, Moment, list[str]]] = []

    def observe(step: Step, moment: Moment) -> None:
        seen.append((step, moment, resources(database)))

    monkeypatch.setattr(durable, "observer", observe)
    with database.write() as connection:
        add(connection, "x")
    assert seen == [(Step.LEDGER_COMMIT, "before", []), (Step.LEDGER_COMMIT, "after", ["x"])]


def test_readers_see_one_state_while_a_writer_commits(database: Database) -> None:
    with database.read() as connection:
        count = text("SELECT count(*) FROM leases")
        assert connection.execute(count).scalar_one() == 0
        with database.write() as writer:
            add(writer, "x")
        assert connection.execute(count).scalar_one() == 0
    assert resources(database) == ["x"]


def test_a_second_writer_waits_and_then_gives_up_with_a_clear_line(database: Database, tmp_path: Path) -> None:
    busy = pytest.raises(Locked, match=r"ledger\.sqlite is in use by another process")
    with database.write(), busy as caught, database.write():
        pytest.fail("two writers at once")
    assert str(tmp_path) in str(caught.value)


def test_a_second_writer_gets_its_turn(tmp_path: Path) -> None:
    with Database.open(None, tmp_path) as database:

        def work(name: str) -> None:
            for number in range(20):
                with database.write() as connection:
                    add(connection, f"{name}{number}")

        threads = [threading.Thread(target=work, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(resources(database)) == 60


def test_a_session_keeps_its_temporary_table_to_itself_and_takes_it_along(database: Database) -> None:
    with database.session() as mine:
        with database.read(mine):
            mine.execute(text("CREATE TEMP TABLE scratch (number)"))
            mine.execute(text("INSERT INTO scratch VALUES (7)"))
        with database.write(mine):
            add(mine, "x")
            assert mine.execute(text("SELECT number FROM scratch")).scalar_one() == 7
        assert resources(database) == ["x"]
    with database.session() as another, database.read(another):
        assert another.execute(text("SELECT count(*) FROM sqlite_temp_master")).scalar_one() == 0


def test_a_long_history_of_commits_does_not_grow_the_journal(database: Database, tmp_path: Path) -> None:
    for number in range(40):
        with database.write() as connection:
            values = [{"resource": f"{number:03d}-{row:04d}" + "x" * 300} for row in range(500)]
            connection.execute(text("INSERT INTO leases VALUES (:resource, 1, '', 0)"), values)
    wal = tmp_path / "state" / f"{FILE_NAME}-wal"
    assert wal.stat().st_size < 8 << 20 < (tmp_path / "state" / FILE_NAME).stat().st_size


# --- errors --------------------------------------------------------------------------------------------


def test_a_full_disk_loses_nothing_that_was_committed(database: Database) -> None:
    with database.write() as connection:
        add(connection, "before")

    def work() -> None:
        with database.write() as connection:
            connection.execute(text("PRAGMA max_page_count = 1"))  # means: no page more than there are
            for number in range(1000):
                add(connection, f"{number}" * 100)

    with pytest.raises(DiskFull, match="the disk is full"):
        work()
    assert resources(database) == ["before"]


@pytest.mark.parametrize("octets", [b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_p41_a_damaged_ledger_is_named_and_left_as_it_is(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(octets)
    with pytest.raises(LedgerError, match=r"ledger.sqlite is damaged \(.*\): move it .* filled from what the archives"):
        Database.open(None, tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == octets


def test_damage_inside_is_found_when_it_is_read(tmp_path: Path) -> None:
    with Database.open(None, tmp_path) as database, database.write() as connection:
        for number in range(2000):
            add(connection, f"{number:04d}" * 10)
    with (tmp_path / FILE_NAME).open("r+b") as file:
        file.seek(-40 * 4096, os.SEEK_END)
        file.write(os.urandom(39 * 4096))
    with Database.open(None, tmp_path) as database, pytest.raises(LedgerError, match="is damaged"):
        resources(database)


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot make the state directory .*/file/state: Not a directory"):
        Database.open(None, tmp_path / "file" / "state")


def test_a_ledger_that_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(StorageError, match=r"cannot open the ledger .*: Is a directory"):
        Database.open(None, tmp_path)


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://host/name", "sqlite://", "postgresql://host", "postgresql+psycopg2://host/name"]
)
def test_a_url_that_is_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"^the database URL must be sqlite:////path/to/file or postgresql://"):
        Database.open(url, tmp_path)


def test_a_url_may_name_the_file(tmp_path: Path) -> None:
    with Database.open(f"sqlite:///{tmp_path}/elsewhere.sqlite", tmp_path / "state") as database:
        assert database.place == f"{tmp_path}/elsewhere.sqlite"
    assert mode(tmp_path / "elsewhere.sqlite") == 0o600


def test_a_password_in_a_url_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(LedgerError) as caught:
        Database.open(f"postgresql://me:geheim@/ledger?host={tmp_path}", tmp_path, busy_s=1)
    assert "geheim" not in str(caught.value)
    assert "me:***@" in str(caught.value)
    assert "\n" not in str(caught.value)


# --- processes -----------------------------------------------------------------------------------------


def meet(barrier: Any) -> None:
    """Lets a process of the pool know the others. Any: multiprocessing's barriers have no type of their own."""
    global together  # noqa: PLW0603  a pool hands no barrier to its functions, only to what starts its processes
    together = barrier


def open_at_once(directory: Path) -> str:
    together.wait()
    with Database.open(None, directory) as database, database.write() as connection:
        add(connection, str(os.getpid()))
    return str(os.getpid())


def test_processes_that_open_a_new_ledger_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(4, meet, (context.Barrier(4),)) as pool:
        for number in range(3):
            directory = tmp_path / str(number)
            processes = pool.map(open_at_once, [directory] * 4, chunksize=1)
            with Database.open(None, directory) as database:
                assert resources(database) == sorted(set(processes))


WRITER = """
import os, sys
from pathlib import Path
from sqlalchemy import text
from syncd.db.database import Database
database = Database.open(None, Path(sys.argv[1]))
with database.write() as connection:
    connection.execute(text("INSERT INTO leases VALUES ('committed', 1, '', 0)"))
with database.write() as connection:
    rows = [{"resource": f"lost {n}" * 50} for n in range(20000)]  # more than the cache holds: the WAL has some of it
    connection.execute(text("INSERT INTO leases VALUES (:resource, 1, '', 0)"), rows)
    os.kill(os.getpid(), 9)
"""


def test_a_killed_writer_leaves_nothing_broken(tmp_path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", WRITER, str(tmp_path)], check=False).returncode == -9
    with Database.open(None, tmp_path, busy_s=0.05) as database:
        assert resources(database) == ["committed"]
        with database.write() as connection:
            add(connection, "next")
            assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"


STARTER = """
import sys
from pathlib import Path
import syncd.db.catalog, syncd.db.leases, syncd.db.runs
from syncd.db.database import Database
Database.open(None, Path(sys.argv[1])).close()
heavy = ("alembic", "mako", "sqlalchemy.orm", "sqlalchemy.dialects.postgresql", "psycopg", "pydantic", "rich")
print([name for name in heavy if name in sys.modules])
"""


def test_an_existing_ledger_is_opened_without_heavy_imports(tmp_path: Path) -> None:
    Database.open(None, tmp_path).close()
    done = subprocess.run([sys.executable, "-c", STARTER, str(tmp_path)], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_ledger_that_lost_its_wal_mode_gets_it_back(tmp_path: Path) -> None:
    Database.open(None, tmp_path).close()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        assert connection.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
    connection.close()
    with Database.open(None, tmp_path) as database, database.read() as reader:
        assert reader.execute(text("PRAGMA journal_mode")).scalar() == "wal"


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(step: Step, moment: Moment) -> None:
        if moment == "before":
            raise KeyboardInterrupt

    monkeypatch.setattr(durable, "observer", killed)
    with pytest.raises(KeyboardInterrupt):
        Database.open(None, tmp_path)
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    connection.close()


# --- many threads of one process -------------------------------------------------------------------------


def test_many_writers_all_get_their_turn(tmp_path: Path) -> None:
    """SQLite has each of them look again and again: of many, some looked until their time was over."""
    with Database.open(None, tmp_path, busy_s=1.0) as database:
        failed: list[Exception] = []

        def work(number: int) -> None:
            try:
                for nth in range(10):
                    with database.write() as connection:
                        add(connection, f"{number}-{nth}")
            except LedgerError as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert len(resources(database)) == 400


def test_all_connections_together_keep_little_in_memory(database: Database) -> None:
    with database.read() as connection:
        limit = connection.execute(text("PRAGMA soft_heap_limit")).scalar_one()
    assert limit == 16 << 20


def test_a_ledger_that_is_opened_twice_in_a_process_keeps_its_locks(tmp_path: Path) -> None:
    """Another process took itself for the last one, removed the -wal file, and the ledger was damaged."""
    with Database.open(None, tmp_path) as first, first.read() as connection:
        connection.execute(text("SELECT count(*) FROM accounts")).all()
        Database.open(None, tmp_path).close()
        look = f"import sqlite3; sqlite3.connect({str(tmp_path / FILE_NAME)!r}).execute('SELECT * FROM accounts')"
        subprocess.run([sys.executable, "-c", look], check=True, timeout=60)
        assert (tmp_path / f"{FILE_NAME}-wal").exists()
