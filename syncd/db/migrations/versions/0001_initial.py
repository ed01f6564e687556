"""The first schema. Written out rather than taken from models.py: a migration never changes again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    create_catalog()
    create_messages()
    create_runs()


def create_catalog() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", ID, primary_key=True),
        sa.Column("uuid", sa.LargeBinary(16), nullable=False, unique=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("protocol", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("username", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False, unique=True),
        sa.Column("frozen_at", sa.BigInteger),
        sa.Column("frozen_reason", sa.Text),
    )
    op.create_table(
        "archives",
        sa.Column("id", ID, primary_key=True),
        sa.Column("uuid", sa.LargeBinary(16), nullable=False, unique=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("format", sa.Text, nullable=False),
    )
    op.create_table(
        "jobs",
        sa.Column("id", ID, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("account_id", ID, sa.ForeignKey("accounts.id"), nullable=False, index=True),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("removal_confirmed_at", sa.BigInteger),
        sa.Column("removes", sa.Boolean, nullable=False),
    )
    op.create_table(
        "routes",
        sa.Column("id", ID, primary_key=True),
        sa.Column("job_id", ID, sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("slot", sa.SmallInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("archive_id", ID, sa.ForeignKey("archives.id")),
        sa.Column("account_id", ID, sa.ForeignKey("accounts.id")),
        sa.Column("target", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.UniqueConstraint("job_id", "slot"),
        sa.UniqueConstraint("job_id", "archive_id", "target"),
        sa.UniqueConstraint("job_id", "account_id", "target"),
        sa.CheckConstraint("slot BETWEEN 0 AND 30", name="slot"),
        sa.CheckConstraint(
            "(kind = 'archive' AND archive_id IS NOT NULL AND account_id IS NULL)"
            " OR (kind = 'account' AND archive_id IS NULL AND account_id IS NOT NULL)",
            name="kind",
        ),
    )


def create_messages() -> None:
    op.create_table(
        "mailboxes",
        sa.Column("id", ID, primary_key=True),
        sa.Column("account_id", ID, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("name", sa.LargeBinary, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("account_id", "name"),
    )
    op.create_table(
        "messages",
        sa.Column("id", ID, primary_key=True),
        sa.Column("mailbox_id", ID, sa.ForeignKey("mailboxes.id"), nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("uid", sa.LargeBinary, nullable=False),
        sa.Column("occurrence", sa.Integer, nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("disposal", sa.SmallInteger, nullable=False),
        sa.Column("listed_octets", sa.BigInteger, nullable=False),
        sa.Column("octets", sa.BigInteger),
        sa.Column("sha256", sa.LargeBinary(32)),
        sa.Column("header_hash", sa.LargeBinary(8)),
        sa.Column("absent_since", sa.BigInteger),
        sa.UniqueConstraint("mailbox_id", "epoch", "uid", "occurrence"),
    )
    partial_index("ix_messages_present", "messages", ["mailbox_id"], "state <> 4")
    partial_index("ix_messages_missing", "messages", ["mailbox_id"], "state = 3")
    partial_index("ix_messages_frozen", "messages", ["mailbox_id", "sha256"], "disposal = 4")
    op.create_table(
        "deliveries",
        sa.Column("message_id", ID, sa.ForeignKey("messages.id"), primary_key=True),
        sa.Column("route_id", ID, sa.ForeignKey("routes.id"), primary_key=True),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("at", sa.BigInteger),
        sa.Column("receipt", sa.Text),
        sqlite_with_rowid=False,
    )
    partial_index("ix_deliveries_open", "deliveries", ["route_id", "message_id"], "state IN (0, 1, 3, 5)")


def partial_index(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", ID, primary_key=True),
        sa.Column("uuid", sa.LargeBinary(16), nullable=False, unique=True),
        sa.Column("job_id", ID, sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("trigger", sa.Text, nullable=False),
        sa.Column("queued_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("exit_code", sa.SmallInteger),
        sa.Column("holder", sa.Text),
        sa.Column("counts", sa.Text, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("message", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Index("ix_runs_job_id_id", "job_id", "id"),
    )
    op.create_table(
        "problems",
        sa.Column("message_id", ID, sa.ForeignKey("messages.id"), primary_key=True),
        sa.Column("route_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("first_at", sa.BigInteger, nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
        sa.Column("retry_at", sa.BigInteger),
        sa.Column("run_id", ID, sa.ForeignKey("runs.id"), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "listings",
        sa.Column("id", ID, primary_key=True),
        sa.Column("mailbox_id", ID, sa.ForeignKey("mailboxes.id"), nullable=False),
        sa.Column("run_id", ID, sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("messages", sa.BigInteger, nullable=False),
        sa.Column("octets", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("routes", sa.Text, nullable=False),
        sa.Column("complete", sa.Boolean, nullable=False),
        sa.Index("ix_listings_mailbox_id_id", "mailbox_id", "id"),
    )
    op.create_table(
        "leases",
        sa.Column("resource", sa.Text, primary_key=True),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
    )
