"""Errands of the page: dry runs, checks and verifications, with their results and reports."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "errands",
        sa.Column("id", ID, primary_key=True),
        sa.Column("configuration", sa.Text, nullable=False),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("read", sa.Boolean, nullable=False),
        sa.Column("asked_by", sa.Text, nullable=False),
        sa.Column("asked_at", sa.BigInteger, nullable=False),
        sa.Column("site", sa.Text),
        sa.Column("document", sa.Text),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
        sa.Column("cancel", sa.Boolean, nullable=False),
        sa.Column("began_at", sa.BigInteger),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("progress", sa.Text, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("result", sa.Text),
    )
    op.create_index("ix_errands_name", "errands", ["name"])
    under_way = sa.text("state IN (0, 1)")
    subject = ["configuration", "kind", "name"]
    op.create_index(
        "uq_errands_open", "errands", subject, unique=True, sqlite_where=under_way, postgresql_where=under_way
    )
    op.create_table(
        "errand_reports",
        sa.Column("errand_id", ID, sa.ForeignKey("errands.id"), primary_key=True),
        sa.Column("form", sa.Text, primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
