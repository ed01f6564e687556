"""Migrations make an older ledger the present one: Alembic, applied at start, all in one transaction.

`versions/` holds one file for each change, numbered. HEAD is compared with the database's version table first, so that
Alembic (half a second) is only imported when there is something to change. A new SQLite file is made from the models
without it; a test proves that both ways lead to the same schema, to the letter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, text

HEAD: Final = "0006"


def schema_version(connection: Connection) -> str:
    """The version of the schema that the database has; "" when it is empty."""
    if not connection.dialect.has_table(connection, "alembic_version"):
        return ""
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())


def create(connection: Connection) -> None:
    """Make the present schema in an empty SQLite database, inside the caller's transaction."""
    from syncd.db.models import metadata

    metadata.create_all(connection, checkfirst=False)
    connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    connection.execute(text("INSERT INTO alembic_version (version_num) VALUES (:head)"), {"head": HEAD})


def upgrade(connection: Connection) -> None:
    """Bring the schema to HEAD inside the caller's transaction: it is done whole or not at all."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
