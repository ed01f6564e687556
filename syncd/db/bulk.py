"""Statements for thousands of rows: compiled once, given plain tuples.

SQLAlchemy's own executemany builds a dictionary for each row and costs three times what SQLite needs for it. Here a
statement is compiled for the dialect with positional parameters and the rows go to the driver as they are, which is
right for the types the ledger binds: integers, text, octets, None.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, count
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Insert, Integer, Update, literal_column
from sqlalchemy.engine import make_url
from sqlalchemy.sql.dml import UpdateBase

STEP_ROWS = 100  # rows in one step: larger ones gain nothing, and 100 rows of 10 columns are below every limit
IN_LIST = 500  # values in one IN (…): well below every driver's limit on parameters

Item = TypeVar("Item")

_PARAMSTYLES = {"sqlite": "qmark", "postgresql": "format"}


def many(connection: Connection, statement: UpdateBase, rows: Sequence[tuple[Any, ...]]) -> int:
    """Run `statement` for each row and return the number of rows it touched.

    `statement` is a constant of a module: every value in it is a named `bindparam` (a row holds them in the order in
    which they stand in the SQL text) or a `number`. No two rows of an UPDATE may be about the same row of the table.
    """
    dialect = connection.dialect
    sql = _compiled(statement, dialect.name)
    touched, done = 0, 0
    if dialect.name == "sqlite" and isinstance(statement, Insert | Update):
        done = len(rows) // STEP_ROWS * STEP_ROWS
        for start in range(0, done, STEP_ROWS):
            values = tuple(chain.from_iterable(rows[start : start + STEP_ROWS]))
            touched += connection.exec_driver_sql(_of_several(sql), values).rowcount
    if done < len(rows):
        touched += connection.exec_driver_sql(sql, list(rows[done:])).rowcount
    return touched


def changed(connection: Connection, statement: UpdateBase, values: Mapping[str, Any] | None = None) -> int:
    """Run a statement once and return the number of rows it touched: of an INSERT too, which SQLAlchemy forgets."""
    return connection.execute(statement, values, execution_options={"preserve_rowcount": True}).rowcount


@cache
def _of_several(sql: str) -> str:
    """The SQLite statement for STEP_ROWS rows at once that does what `sql` does for one.

    At every step of a statement sqlite3 lets other threads run and then waits for its turn, up to 5 ms.
    """
    head, _, row = sql.partition("VALUES ")
    if row:
        return f"{head}VALUES {', '.join([row] * STEP_ROWS)}"
    numbers = count(1)
    named = re.sub(r"\?", lambda _: f"v.column{next(numbers)}", sql)
    row = f"({', '.join('?' * (next(numbers) - 1))})"
    return named.replace(" WHERE ", f" FROM (VALUES {', '.join([row] * STEP_ROWS)}) AS v WHERE ", 1)


def number(value: int) -> ColumnElement[int]:
    """An integer written into the SQL text: a state, as partial indexes are only used when they see one."""
    return literal_column(str(int(value)), Integer)


def pieces(items: Sequence[Item], size: int = IN_LIST) -> Iterator[Sequence[Item]]:
    """Consecutive slices of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))


@cache
def _compiled(statement: UpdateBase, dialect: str) -> str:
    build: Any = make_url(f"{dialect}://").get_dialect()  # every dialect takes `paramstyle`; their base does not say so
    return str(statement.compile(dialect=build(paramstyle=_PARAMSTYLES[dialect])))
