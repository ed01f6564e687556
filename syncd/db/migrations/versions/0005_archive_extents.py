"""Archives: how much of each was known to be stored, so that an older copy is told from it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "extents",
        sa.Column("route_id", ID, sa.ForeignKey("routes.id"), primary_key=True),
        sa.Column("octets", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
