"""A copy of the ledger to try things on, of both databases."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Insert, delete, func, select

from syncd.db import rehearsal as module
from syncd.db.bulk import many
from syncd.db.database import Database
from syncd.db.leases import LeaseSet, archive_resource, job_resource
from syncd.db.models import accounts, archives, deliveries, jobs, leases, messages, metadata, problems, runs
from syncd.db.rehearsal import rehearsal
from syncd.db.rows import MailboxScope, Progress
from syncd.db.states import RunState
from syncd.errors import LeaseHeld, StorageError
from tests.support.ledger import Bench, uids


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go, and should have gone from in the end."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    return path


@pytest.fixture
def scope(bench: Bench) -> MailboxScope:
    """A job whose messages are delivered, not to be had, and not there any more."""
    scope = bench.job("aa")
    bench.pull(scope, uids("a", "b"))
    [fresh] = bench.work(scope, uids("a", "b", "c")).values()
    bench.fail(scope, fresh.key)
    bench.listed(scope, uids("a", "c"))
    bench.ledger.report(scope.run, Progress("fetching", {"fetched": 2}, ("a note",)))
    return scope


def rows(database: Database) -> dict[str, list[Any]]:
    with database.read() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))]
            for table in metadata.sorted_tables
        }


def expected(database: Database) -> dict[str, list[Any]]:
    """A copy of everything: nobody works on its runs, and their notes stay behind."""
    found = rows(database)
    state = list(runs.c).index(runs.c.state)
    closed = [(*row[:state], RunState.STOPPED, *row[state + 1 :]) for row in found["runs"]]
    return {**found, "runs": closed, "run_notes": []}


def sources(database: Database, *scopes: MailboxScope) -> dict[str, str]:
    with database.read() as connection:
        wanted = accounts.c.id.in_([scope.run.account_id for scope in scopes])
        found = connection.execute(select(accounts.c.name, accounts.c.fingerprint).where(wanted))
        return {row.name: row.fingerprint for row in found}


def test_everything_about_the_accounts_is_there_and_equal(
    bench: Bench, scope: MailboxScope, tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE_ROWS", 2)
    with rehearsal(bench.database, tmp_path / "state", sources(bench.database, scope)) as copy:
        assert copy.is_sqlite
        assert rows(copy) == expected(bench.database)
        assert {path.name for path in temporary.rglob("*")} > {"ledger.sqlite"}
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("known_by", ["name", "fingerprint"])
def test_an_account_is_known_by_its_name_or_its_fingerprint(
    bench: Bench, scope: MailboxScope, tmp_path: Path, known_by: str
) -> None:
    [(name, mark)] = sources(bench.database, scope).items()
    asked = {name: "another"} if known_by == "name" else {"another": mark}
    with rehearsal(bench.database, tmp_path / "state", asked) as copy:
        assert rows(copy) == expected(bench.database)


def test_messages_of_other_accounts_stay_behind_and_names_do_not(
    bench: Bench, scope: MailboxScope, tmp_path: Path
) -> None:
    other = bench.job("a")
    bench.pull(other, uids("x", "y", "z"))
    with rehearsal(bench.database, tmp_path / "state", sources(bench.database, other)) as copy:
        found, all_ = rows(copy), rows(bench.database)
        assert (len(found["messages"]), len(all_["messages"])) == (3, 6)
        assert (len(found["deliveries"]), found["problems"]) == (3, [])
        assert [row[1] for row in found["listings"]] == [other.mailbox_id]
        for table in (accounts, archives, jobs):
            assert found[table.name] == all_[table.name]


def test_what_is_done_to_the_copy_is_not_done_to_the_ledger(bench: Bench, scope: MailboxScope, tmp_path: Path) -> None:
    before = rows(bench.database)
    with rehearsal(bench.database, tmp_path / "state", sources(bench.database, scope)) as copy:
        with copy.write() as connection:
            connection.execute(delete(problems))
            connection.execute(delete(deliveries))
        assert Bench(copy).listed(scope, uids("n")).new == 1
        assert rows(bench.database) == before
    assert rows(bench.database) == before


def test_one_state_of_the_ledger_is_copied(
    bench: Bench, scope: MailboxScope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = expected(bench.database)

    def meanwhile(connection: Connection, statement: Insert, page: list[Any]) -> int:
        if statement.table is messages:
            bench.pull(scope, uids("a", "c", "late"))
        return many(connection, statement, page)

    monkeypatch.setattr(module, "many", meanwhile)
    with rehearsal(bench.database, tmp_path / "state", sources(bench.database, scope)) as copy:
        assert rows(copy) == before
    assert expected(bench.database) != before


def test_the_ledger_is_not_locked(bench: Bench, scope: MailboxScope, tmp_path: Path) -> None:
    with rehearsal(bench.database, tmp_path / "state", sources(bench.database, scope)):
        assert bench.listed(scope, uids("a", "c", "d")).new == 1


def test_who_works_on_the_job_is_told_but_not_who_writes_to_an_archive(
    bench: Bench, scope: MailboxScope, tmp_path: Path
) -> None:
    database = bench.database
    with database.read() as connection:
        archive = archive_resource(UUID(bytes=connection.execute(select(archives.c.uuid)).scalars().all()[0]))
    mine, others = [job_resource(1)], [archive]
    with (
        LeaseSet.acquire(database, [*mine, *others], "a run", expiry_s=3600, renew_s=0),
        rehearsal(database, tmp_path / "state", sources(database, scope)) as copy,
    ):
        with pytest.raises(LeaseHeld, match="is in use"):
            LeaseSet.acquire(copy, mine, "a look", expiry_s=3600, renew_s=0)
        LeaseSet.acquire(copy, others, "a look", renew_s=0).release()
        with database.read() as connection:
            assert connection.execute(select(func.sum(leases.c.generation))).scalar_one() == 2


def test_without_a_ledger_there_is_an_empty_one_and_no_state_directory(tmp_path: Path, temporary: Path) -> None:
    state = tmp_path / "state"
    with rehearsal(None, state, {"road": "pop3 h me"}) as copy:
        assert not any(rows(copy).values())
    assert not state.exists()
    assert list(temporary.iterdir()) == []


def test_no_room_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(StorageError, match="cannot make a temporary directory"), rehearsal(None, tmp_path, {}):
        pass
