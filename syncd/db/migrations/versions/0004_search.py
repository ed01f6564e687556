"""Search indexes of archives (`db.search.tables`). On SQLite they are files beside the archives, so nothing is made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSVECTOR

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    op.create_table(
        "search_archives",
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("configuration", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("uuid", sa.LargeBinary(16), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("mark", sa.Text, nullable=False),
        sa.Column("latest", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("configuration", "name"),
    )
    op.create_table(
        "search_messages",
        sa.Column("archive_id", sa.BigInteger, sa.ForeignKey("search_archives.id"), primary_key=True),
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("octets", sa.BigInteger, nullable=False),
        sa.Column("attachments", sa.Integer, nullable=False),
        sa.Column("sender", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("words", TSVECTOR, nullable=False),
        sa.UniqueConstraint("archive_id", "key"),
    )
    op.execute("ALTER TABLE search_messages SET (toast_tuple_target = 256)")  # vectors apart from the rows
    op.create_index("ix_search_messages_words", "search_messages", ["words"], postgresql_using="gin")
    op.create_table(
        "search_mailboxes",
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("archive_id", sa.BigInteger, sa.ForeignKey("search_archives.id"), nullable=False),
        sa.Column("account", sa.LargeBinary(16), nullable=False),
        sa.Column("mailbox", sa.LargeBinary, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.UniqueConstraint("archive_id", "account", "mailbox"),
    )
    op.create_table(
        "search_places",
        sa.Column("mailbox_id", sa.BigInteger, sa.ForeignKey("search_mailboxes.id"), primary_key=True),
        sa.Column("message", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("archive_id", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_search_places_archive_id_message", "search_places", ["archive_id", "message"])
