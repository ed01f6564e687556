"""The service: definitions, workers, permits; what the queue knows of deaths and missed times; intents; users."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
ZERO = sa.text("0")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("paused_since", sa.BigInteger))
    op.add_column("jobs", sa.Column("paused_why", sa.SmallInteger))
    op.add_column("jobs", sa.Column("refusals", sa.Integer, nullable=False, server_default=ZERO))
    op.add_column("jobs", sa.Column("succeeded_at", sa.BigInteger))
    op.add_column("runs", sa.Column("digest", sa.LargeBinary(32)))
    op.add_column("runs", sa.Column("deaths", sa.SmallInteger, nullable=False, server_default=ZERO))
    op.add_column("runs", sa.Column("missed", sa.Integer, nullable=False, server_default=ZERO))
    op.add_column("runs", sa.Column("idle", sa.Boolean, nullable=False, server_default=sa.text("false")))
    idle = sa.text("idle")
    op.create_index("ix_runs_idle", "runs", ["finished_at"], sqlite_where=idle, postgresql_where=idle)
    queued = sa.text("state = 0")
    op.create_index("ix_runs_queued", "runs", ["not_before"], sqlite_where=queued, postgresql_where=queued)
    for table in ("listings", "problems", "uncertain_outcomes"):
        op.create_index(f"ix_{table}_run_id", table, ["run_id"])
    create_definitions()
    create_workers()
    op.create_table(
        "intents",
        sa.Column("message_id", ID, sa.ForeignKey("messages.id"), primary_key=True),
        sa.Column("route_id", ID, sa.ForeignKey("routes.id"), primary_key=True),
        sa.Column("place", sa.LargeBinary, nullable=False),
        sa.Column("validity", sa.BigInteger, nullable=False),
        sa.Column("following", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    create_people()


def create_definitions() -> None:
    op.create_table(
        "documents",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
    )
    op.create_table(
        "definitions",
        sa.Column("job_id", ID, sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("digest", sa.LargeBinary(32), sa.ForeignKey("documents.digest"), nullable=False, index=True),
        sa.Column("site", sa.Text, nullable=False),
        sa.Column("schedule", sa.Text, nullable=False),
        sa.Column("timezone", sa.Text, nullable=False),
        sa.Column("jitter_s", sa.Integer, nullable=False),
        sa.Column("quiet_hours", sa.Text, nullable=False),
        sa.Column("late_after_s", sa.BigInteger),
        sa.Column("next_due", sa.BigInteger),
        sa.Column("applied_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_definitions_next_due", "definitions", ["next_due"])


def create_workers() -> None:
    op.create_table(
        "permits",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("run_id", ID, sa.ForeignKey("runs.id"), primary_key=True),
        sa.Column("generation", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "workers",
        sa.Column("holder", sa.Text, primary_key=True),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("sites", sa.Text, nullable=False),
        sa.Column("threads", sa.Integer, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "traffic",
        sa.Column("account_id", ID, sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("direction", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("since", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("octets", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "days",
        sa.Column("configuration", sa.Text, primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("runs", sa.BigInteger, nullable=False),
        sa.Column("failures", sa.BigInteger, nullable=False),
        sa.Column("messages", sa.BigInteger, nullable=False),
        sa.Column("octets", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "notices",
        sa.Column("channel", sa.Text, primary_key=True),
        sa.Column("job_id", ID, sa.ForeignKey("jobs.id"), primary_key=True),
        sa.Column("told", sa.Text, nullable=False),
        sa.Column("told_at", sa.BigInteger),
        sa.Column("claimed_until", sa.BigInteger),
        sa.Column("tries", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )


def create_people() -> None:
    op.create_table(
        "users",
        sa.Column("id", ID, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("role", sa.SmallInteger, nullable=False),
        sa.Column("password", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("signed_in_at", sa.BigInteger),
    )
    op.create_table(
        "web_sessions",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("user_id", ID, sa.ForeignKey("users.id"), nullable=False, index=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tokens",
        sa.Column("id", ID, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
        sa.Column("purpose", sa.SmallInteger, nullable=False),
        sa.Column("role", sa.SmallInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
    )
    of_programs = sa.text("purpose = 1")
    op.create_index(
        "uq_tokens_name_api", "tokens", ["name"], unique=True, sqlite_where=of_programs, postgresql_where=of_programs
    )
    op.create_table(
        "signin_attempts",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
