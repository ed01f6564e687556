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
    create_history()


def create_catalog() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", ID, primary_key=True),
        sa.Column("uuid", sa.LargeBinary(16), nullable=False, unique=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("protocol", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("username", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False, unique=True),
    )
    op.create_table(
        "archives",
        sa.Column("id", ID, primary_key=True),
        sa.Column("uuid", sa.LargeBinary(16), nullable=False, unique=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("format", sa.Text, nullable=False),
        sa.Column("made", sa.Boolean, nullable=False),
    )
    op.create_table(
        "jobs",
        sa.Column("id", ID, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("account_id", ID, sa.ForeignKey("accounts.id"), nullable=False, index=True),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("removal_confirmed_at", sa.BigInteger),
        sa.Column("removes", sa.Boolean, nullable=False),
        sa.Column("configuration", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column("trouble", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column("trouble_text", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column("trouble_since", sa.BigInteger),
        sa.UniqueConstraint("configuration", "name"),
    )
    op.create_table(
        "names",
        sa.Column("configuration", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("target", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_names_kind_target", "names", ["kind", "target"])
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
        sa.Column("repeat", sa.Text, nullable=False),
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
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("use", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column("subscribed", sa.Boolean, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("frozen_at", sa.BigInteger),
        sa.Column("frozen_why", sa.SmallInteger),
        sa.Column("frozen_reason", sa.Text),
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


def partial_index(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


def create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", ID, primary_key=True),
        sa.Column("uuid", sa.LargeBinary(16), nullable=False, unique=True),
        sa.Column("job_id", ID, sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("trigger", sa.Text, nullable=False),
        sa.Column("due_at", sa.BigInteger),
        sa.Column("not_before", sa.BigInteger),
        sa.Column("queued_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger),
        sa.Column("updated_at", sa.BigInteger),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("exit_code", sa.SmallInteger),
        sa.Column("holder", sa.Text),
        sa.Column("generation", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("slices", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("phase", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column("cancel_requested", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("counts", sa.Text, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("message", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.UniqueConstraint("job_id", "due_at"),
        sa.Index("ix_runs_job_id_id", "job_id", "id"),
    )
    partial_index("uq_runs_open", "runs", ["job_id"], "state IN (0, 1)", unique=True)
    op.create_table(
        "run_notes",
        sa.Column("id", ID, primary_key=True),
        sa.Column("run_id", ID, sa.ForeignKey("runs.id"), nullable=False, index=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
    )
    op.create_table(
        "leases",
        sa.Column("resource", sa.Text, primary_key=True),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
    )
    op.create_table(
        "suspensions",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("cause", sa.SmallInteger, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("limit", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )


def create_history() -> None:
    op.create_table(
        "problems",
        sa.Column("message_id", ID, sa.ForeignKey("messages.id"), primary_key=True),
        sa.Column("route_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("insisted", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("first_at", sa.BigInteger, nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
        sa.Column("retry_at", sa.BigInteger),
        sa.Column("run_id", ID, sa.ForeignKey("runs.id"), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "uncertain_outcomes",
        sa.Column("id", ID, primary_key=True),
        sa.Column("message_id", ID, sa.ForeignKey("messages.id"), nullable=False),
        sa.Column("route_id", ID, sa.ForeignKey("routes.id"), nullable=False),
        sa.Column("run_id", ID, sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("noted", sa.Boolean, nullable=False),
        sa.Index("ix_uncertain_outcomes_message_id_route_id", "message_id", "route_id"),
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
        sa.Column("complete", sa.Boolean, nullable=False),
        sa.Index("ix_listings_mailbox_id_id", "mailbox_id", "id"),
    )
    op.create_table(
        "planned",
        sa.Column("mailbox_id", ID, sa.ForeignKey("mailboxes.id"), primary_key=True),
        sa.Column("route_id", ID, sa.ForeignKey("routes.id"), primary_key=True),
        sa.Column("listing_id", sa.BigInteger, nullable=False),
        sa.Column("contents", sa.LargeBinary, nullable=False),
        sa.Column("modseq", sa.BigInteger),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "extents",
        sa.Column("route_id", ID, sa.ForeignKey("routes.id"), primary_key=True),
        sa.Column("octets", sa.BigInteger, nullable=False),
        sa.Column("ask", sa.Boolean, nullable=False),
        sqlite_with_rowid=False,
    )
