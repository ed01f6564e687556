"""The tables of the ledger (SQLAlchemy Core: the ORM is neither needed nor loaded).

    accounts ─┬─ mailboxes ─── messages ─┬─ deliveries (message × route)
              └─ jobs ──────── routes ───┘   problems   (message × route, or × 0: about the message itself)
    archives ──────────────────┘             doubts     (message × route: each time its outcome was not known)
                                             suspensions (route or account), extents (route), listings, runs, leases

Units, everywhere the same: instants are whole microseconds since 1970 UTC, but `deliveries.at` is whole seconds (there
is one for every message: 10 million messages are to fit into 2 GB) and `leases.expires_at` is seconds by the database's
own clock. States are the numbers of `states.py`; uids, UUIDs and digests are octets, as uids may contain anything.
Nothing here that SQLite or PostgreSQL could not run alike. A change needs a migration, and a test compares the two.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

ABOUT_MESSAGE = 0  # problems.route_id: the message itself, no destination; routes count from 1
MAX_SLOT = 30  # routes of a job are bits of an integer: 1 << slot stays below 2**31

_ID = BigInteger().with_variant(Integer(), "sqlite")  # only INTEGER PRIMARY KEY is SQLite's rowid

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("uuid", LargeBinary(16), nullable=False, unique=True),
    Column("name", Text, nullable=False, unique=True),
    Column("protocol", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("username", Text, nullable=False),
    Column("fingerprint", Text, nullable=False, unique=True),
    Column("frozen_at", BigInteger),  # removals at this account stand still until a person lifts it
    Column("frozen_reason", Text),
)

archives = Table(
    "archives",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("uuid", LargeBinary(16), nullable=False, unique=True),
    Column("name", Text, nullable=False, unique=True),
    Column("path", Text, nullable=False),
    Column("format", Text, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False, index=True),  # the source
    Column("enabled", Boolean, nullable=False),
    Column("removal_confirmed_at", BigInteger),
    Column("removes", Boolean, nullable=False),  # the job removes mail at its source
    Column("configuration", Text, nullable=False, server_default=text("''")),  # the file that names it; "": not known
)

routes = Table(
    "routes",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    Column("slot", SmallInteger, nullable=False),  # 0..MAX_SLOT; stays with its destination for good
    Column("kind", Text, nullable=False),
    Column("archive_id", ForeignKey("archives.id")),
    Column("account_id", ForeignKey("accounts.id")),
    Column("target", Text, nullable=False, server_default=text("''")),  # recipient or mailbox; "" for archives
    Column("enabled", Boolean, nullable=False),
    UniqueConstraint("job_id", "slot"),
    UniqueConstraint("job_id", "archive_id", "target"),  # NULLs are distinct in both engines, so each of the
    UniqueConstraint("job_id", "account_id", "target"),  # two speaks only of the routes of its own kind
    CheckConstraint(f"slot BETWEEN 0 AND {MAX_SLOT}", name="slot"),
    CheckConstraint(
        "(kind = 'archive' AND archive_id IS NOT NULL AND account_id IS NULL)"
        " OR (kind = 'account' AND archive_id IS NULL AND account_id IS NOT NULL)",
        name="kind",
    ),
)
mailboxes = Table(
    "mailboxes",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("account_id", ForeignKey("accounts.id"), nullable=False),
    Column("name", LargeBinary, nullable=False),  # as the server spells it
    Column("epoch", BigInteger, nullable=False),  # UIDVALIDITY, or the generation of a POP3 account's UIDLs
    UniqueConstraint("account_id", "name"),
)

messages = Table(
    "messages",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("mailbox_id", ForeignKey("mailboxes.id"), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("uid", LargeBinary, nullable=False),
    Column("occurrence", Integer, nullable=False),  # counts from 1 where a server gives one uid to several
    Column("state", SmallInteger, nullable=False),  # MessageState
    Column("disposal", SmallInteger, nullable=False),  # Disposal
    Column("listed_octets", BigInteger, nullable=False),  # as the server says
    Column("octets", BigInteger),  # as received
    Column("sha256", LargeBinary(32)),  # null: never fetched
    Column("header_hash", LargeBinary(8)),
    Column("absent_since", BigInteger),  # listings.id; no foreign key: old listings may be thrown away
    UniqueConstraint("mailbox_id", "epoch", "uid", "occurrence"),
)
# Three partial indexes, so that a mailbox's history of messages that are gone costs a run nothing. Only the first has
# an entry for an ordinary message. The numbers are states; a query must name them as literals to be served.
for _name, _where, *_columns in (
    ("ix_messages_present", "state <> 4", messages.c.mailbox_id),  # not GONE
    ("ix_messages_missing", "state = 3", messages.c.mailbox_id),  # MISSING
    ("ix_messages_frozen", "disposal = 4", messages.c.mailbox_id, messages.c.sha256),  # FROZEN: may be bound again
):
    Index(_name, *_columns, sqlite_where=text(_where))  # see below for PostgreSQL

deliveries = Table(
    "deliveries",
    metadata,
    Column("message_id", ForeignKey("messages.id"), primary_key=True),
    Column("route_id", ForeignKey("routes.id"), primary_key=True),
    Column("state", SmallInteger, nullable=False),  # DeliveryState
    Column("at", BigInteger),  # seconds; null: nothing happened yet
    Column("receipt", Text),  # the receipt's hint, where it is not empty; before that see settling.ALL_THE_SAME
    sqlite_with_rowid=False,
)
Index(  # what is still to be done, or in doubt; empty when all is delivered
    "ix_deliveries_open",
    deliveries.c.route_id,
    deliveries.c.message_id,
    sqlite_where=text("state IN (0, 1, 3, 5)"),  # PENDING, SENDING, DEFERRED, UNCERTAIN
)  # `postgresql_where` stands in the migrations alone: here it would load that dialect, 20 ms of every start

runs = Table(
    "runs",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("uuid", LargeBinary(16), nullable=False, unique=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    Column("state", SmallInteger, nullable=False),  # RunState
    Column("trigger", Text, nullable=False),
    Column("queued_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("exit_code", SmallInteger),
    Column("holder", Text),  # JSON: who works on it, as in a lease; null while it is queued
    Column("counts", Text, nullable=False, server_default=text("'{}'")),  # JSON: name → number
    Column("message", Text, nullable=False, server_default=text("''")),  # the error line of a run that failed
    Index("ix_runs_job_id_id", "job_id", "id"),
)

problems = Table(
    "problems",
    metadata,
    Column("message_id", ForeignKey("messages.id"), primary_key=True),
    Column("route_id", BigInteger, primary_key=True, autoincrement=False),  # or ABOUT_MESSAGE
    Column("reason", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("first_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("retry_at", BigInteger),  # null: waits for a person
    Column("run_id", ForeignKey("runs.id"), nullable=False),
    sqlite_with_rowid=False,
)

doubts = Table(  # never deleted: copies at a destination ≤ 1 + rows here
    "doubts",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("message_id", ForeignKey("messages.id"), nullable=False),
    Column("route_id", ForeignKey("routes.id"), nullable=False),
    Column("run_id", ForeignKey("runs.id"), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("noted", Boolean, nullable=False),  # a person has seen it and need not be told again
    Index("ix_doubts_message_id_route_id", "message_id", "route_id"),
)

suspensions = Table(
    "suspensions",
    metadata,
    Column("subject", Text, primary_key=True),  # "route 5", "account 3"
    Column("cause", SmallInteger, nullable=False),  # Cause
    Column("tries", Integer, nullable=False),  # in a row, where the back-off is ours
    Column("until", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    sqlite_with_rowid=False,
)

listings = Table(
    "listings",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("mailbox_id", ForeignKey("mailboxes.id"), nullable=False),
    Column("run_id", ForeignKey("runs.id"), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("messages", BigInteger, nullable=False),
    Column("octets", BigInteger, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),  # over uids and octets in order
    Column("routes", Text, nullable=False),  # ids of the routes whose deliveries were planned with it: "3 5"
    Column("complete", Boolean, nullable=False),
    Index("ix_listings_mailbox_id_id", "mailbox_id", "id"),
)

extents = Table(
    "extents",
    metadata,
    Column("route_id", ForeignKey("routes.id"), primary_key=True),
    Column("octets", BigInteger, nullable=False),  # of its archive, known to be durable
    sqlite_with_rowid=False,
)

leases = Table(
    "leases",
    metadata,
    Column("resource", Text, primary_key=True),  # such as "job:road-backup", "archive:<uuid>"
    Column("generation", BigInteger, nullable=False),  # only grows: rows are never deleted
    Column("holder", Text, nullable=False),  # JSON, see leases.py; "" when nobody holds it
    Column("expires_at", Double, nullable=False),
)
