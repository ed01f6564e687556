"""Jobs: which configuration file each comes from, so that another one does not disable it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("configuration", sa.Text, nullable=False, server_default=sa.text("''")))
