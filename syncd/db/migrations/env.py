"""Run by Alembic. The caller's connection and transaction are used; `alembic revision --autogenerate` is not needed."""

from __future__ import annotations

from alembic import context

from syncd.db.models import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,  # gives constraints their names
    render_as_batch=True,  # SQLite's ALTER TABLE is too small for anything but adding a column
    transactional_ddl=True,  # true of SQLite as well, now that the driver leaves BEGIN to us
)
context.run_migrations()
