"""The database's clock, by which leases run: the machines that share a database have one time."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, Connection, Float, literal_column

NOW: Final[dict[str, ColumnElement[float]]] = {  # seconds since 1970 by the database's clock, also inside a transaction
    "sqlite": literal_column("((julianday('now') - 2440587.5) * 86400.0)", Float),
    "postgresql": literal_column("CAST(extract(epoch FROM clock_timestamp()) AS double precision)", Float),
}


def database_now(connection: Connection) -> ColumnElement[float]:
    """Returns the database's present time as an expression, comparable with `leases.expires_at`."""
    return NOW[connection.dialect.name]
