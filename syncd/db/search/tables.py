"""The tables of search indexes, on PostgreSQL alone: SQLite has no tsvector, and its indexes are files.

    search_archives ─┬─ search_mailboxes ─── search_places
                     └─ search_messages                      (message × mailbox: search_places)

The archive of a configuration has one row of `search_archives`; its number is in all other rows of the index. Words are
made by `formats.search.words`, and come as a tsvector without positions: PostgreSQL's own parsers and dictionaries have
no part in it, so both kinds of index give the same answers. One more word says which archive a message is in: with it
the GIN index alone finds the messages of one archive among those of all. The order of a message's words lies in its
row, so a phrase is looked for there, among the messages that have all of its words, and no archive is needed.

Rows of more than 2,032 octets have their vector apart (`toast_tuple_target`): a search that reads many rows reads few
pages. PostgreSQL does so with no shorter row, and hardly compresses a vector.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import TSVECTOR

from syncd.db.models import metadata as ledger

ARCHIVE_MARK: Final = "\x86"  # of the word that says which archive a message is in: see `words.Field` for others

metadata = MetaData(naming_convention=ledger.naming_convention)

search_archives = Table(
    "search_archives",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("configuration", Text, nullable=False),
    Column("name", Text, nullable=False),  # what the configuration calls the archive
    Column("uuid", LargeBinary(16), nullable=False),
    Column("version", Integer, nullable=False),  # of the words
    Column("mark", Text, nullable=False),  # how far the archive was read
    Column("latest", BigInteger, nullable=False),  # the largest distance of a message's id from its minute
    UniqueConstraint("configuration", "name"),
)

search_messages = Table(
    "search_messages",
    metadata,
    Column("archive_id", ForeignKey("search_archives.id"), primary_key=True),
    Column("id", BigInteger, primary_key=True, autoincrement=False),  # `statement.candidates`
    Column("key", LargeBinary, nullable=False),
    Column("at", BigInteger, nullable=False),  # seconds since 1970
    Column("octets", BigInteger, nullable=False),
    Column("attachments", Integer, nullable=False),
    Column("sender", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("words", TSVECTOR, nullable=False),
    Column("word_order", LargeBinary, nullable=False),  # `formats.search.order`
    UniqueConstraint("archive_id", "key"),
    Index("ix_search_messages_words", "words", postgresql_using="gin"),
)

search_mailboxes = Table(
    "search_mailboxes",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("archive_id", ForeignKey("search_archives.id"), nullable=False),
    Column("account", LargeBinary(16), nullable=False),
    Column("mailbox", LargeBinary, nullable=False),
    Column("name", Text, nullable=False),  # the account's
    Column("path", Text, nullable=False),  # JSON: a list of texts, one a level
    UniqueConstraint("archive_id", "account", "mailbox"),
)

search_places = Table(
    "search_places",
    metadata,
    Column("mailbox_id", ForeignKey("search_mailboxes.id"), primary_key=True),
    Column("message", BigInteger, primary_key=True, autoincrement=False),  # search_messages.id, of the same archive
    Column("archive_id", BigInteger, nullable=False),
    Index("ix_search_places_archive_id_message", "archive_id", "message"),
)
