"""Statements for thousands of rows: each is compiled as `many` does it, for both databases."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from sqlalchemy import Connection, Delete, Insert, Update, bindparam, insert, select, update
from sqlalchemy.sql.dml import UpdateBase

from syncd.db import bulk, ledger, rehearsal
from syncd.db.bulk import STEP_ROWS
from syncd.db.database import Database
from syncd.db.ledger import comparison, seeding
from syncd.db.models import leases, metadata

WHOLE = {  # of a listing: each is run once, for all rows, and not by `many`
    "ledger.comparison._VANISHES[0]",
    "ledger.listing._FORGET_PLANNED[0]",
    "ledger.matching._RENUMBER[0]",
    "ledger.matching._SUSPECT_FETCHED[0]",
}


def statements() -> Iterator[tuple[str, UpdateBase]]:
    """Every INSERT, UPDATE and DELETE that a module of the ledger keeps as a constant, alone or in a table."""
    names = [f"{ledger.__name__}.{module.name}" for module in pkgutil.iter_modules(ledger.__path__)]
    for name in [*names, rehearsal.__name__]:
        for constant, value in vars(importlib.import_module(name)).items():
            for index, part in enumerate(value.values() if isinstance(value, Mapping) else [value]):
                if isinstance(part, Insert | Update | Delete):
                    yield f"{name.removeprefix('syncd.db.')}.{constant}[{index}]", part


STATEMENTS = {name: statement for name, statement in statements() if name not in WHOLE}


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connection]:
    """A connection to a ledger, with the temporary tables that sessions make."""
    directory = tmp_path_factory.mktemp("state")
    with Database.open(None, directory) as opened, opened.session() as session, opened.read(session) as reader:
        for table in (comparison.scratch, seeding._places):
            table.create(reader, checkfirst=False)
        yield reader


def test_there_are_some() -> None:
    kinds = {type(statement) for statement in STATEMENTS.values()}
    assert kinds == {Insert, Update, Delete}
    assert len(STATEMENTS) > 30 + len(metadata.sorted_tables)


@pytest.mark.parametrize("name", STATEMENTS)
def test_each_compiles_for_both_with_named_parameters_alone(name: str, sqlite: Connection) -> None:
    """In SQL text, a parameter for each value of a row; the SQLite form for many rows is understood by SQLite."""
    statement = STATEMENTS[name]
    one, postgresql = (bulk._compiled(statement, dialect) for dialect in ("sqlite", "postgresql"))
    values = one.count("?")
    assert values > 0
    assert len(re.findall(r"%s", postgresql)) == values
    assert "POSTCOMPILE" not in one + postgresql
    sqlite.exec_driver_sql(f"EXPLAIN {one}", (None,) * values)
    if isinstance(statement, Delete):
        return
    several = bulk._of_several(one)
    assert several.count("?") == values * STEP_ROWS
    sqlite.exec_driver_sql(f"EXPLAIN {several}", (None,) * values * STEP_ROWS)


def test_many_rows_do_what_one_at_a_time_would(tmp_path: Path) -> None:
    add = insert(leases).values({column.name: bindparam(column.name) for column in leases.c})
    renew = update(leases).values(generation=bindparam("g")).where(leases.c.resource == bindparam("r"))
    count = 3 * STEP_ROWS + 7
    with Database.open(None, tmp_path) as opened, opened.write() as connection:
        rows = [(f"r{number}", number, "", 0.0) for number in range(count)]
        assert bulk.many(connection, add, rows) == count
        assert (
            bulk.many(connection, renew, [(-number, f"r{number}") for number in range(0, count, 2)]) == count // 2 + 1
        )
        rows_now = connection.execute(select(leases.c.resource, leases.c.generation)).all()
    assert {row.resource: row.generation for row in rows_now} == {
        f"r{number}": -number if number % 2 == 0 else number for number in range(count)
    }
