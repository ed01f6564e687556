"""What is left alone is a destination or an account, for a cause, and the longer the more often.

What was left alone before is tried once more: a server that has enough says so again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_table("suspensions")
    op.create_table(
        "suspensions",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("cause", sa.SmallInteger, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
