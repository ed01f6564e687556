"""Search indexes keep the order of words. An index that was made before has none: its version says so."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    op.add_column("search_messages", sa.Column("word_order", sa.LargeBinary, nullable=False, server_default=""))
    op.alter_column("search_messages", "word_order", server_default=None)
    op.execute("ALTER TABLE search_messages ALTER COLUMN word_order SET STORAGE EXTERNAL")  # it is compressed already
