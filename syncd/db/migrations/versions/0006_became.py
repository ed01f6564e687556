"""Which mailbox of a destination a mailbox became is remembered; for those copied before, from their next mail on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "became",
        sa.Column("mailbox_id", ID, sa.ForeignKey("mailboxes.id"), primary_key=True),
        sa.Column("route_id", ID, sa.ForeignKey("routes.id"), primary_key=True),
        sa.Column("label", sa.Text, primary_key=True),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("by_use", sa.Boolean, nullable=False),
        sqlite_with_rowid=False,
    )
