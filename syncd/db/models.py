"""The tables of the ledger (SQLAlchemy Core: the ORM is neither needed nor loaded).

    accounts ─┬─ mailboxes ─┬─ messages ─┬─ deliveries            (message × route)
              │             │            ├─ problems              (message × route, or × 0: about the message itself)
              │             │            ├─ uncertain_outcomes    (message × route: each time an outcome was unknown)
              │             │            └─ intents               (message × route: what was about to be done)
              │             └─ listings, planned, became          (mailbox; mailbox × route)
              └─ jobs ─┬─ routes ─── extents
    archives ──────────┘  ├─ runs ─── run_notes, permits
                          └─ definitions ─── documents        (what the configuration says of a job, applied)
    suspensions (route or account), names (of accounts and archives), leases, workers, notices (job × channel)
    users ─── web_sessions, tokens, signin_attempts           (who may use the page and the API)
    errands ─── errand_reports                                (what a person asked the page for, and what was found)

Units, everywhere the same: instants are whole microseconds since 1970 UTC. `deliveries.at` is whole seconds (there is
one for every message: 10 million messages are to fit into 2 GB); `leases.expires_at` and each `seen_at` are seconds by
the database's own clock. States are the numbers of `states.py`; uids, UUIDs and digests are octets, as uids may
contain anything. SQLite and PostgreSQL run everything here alike. A change needs a migration, and a test compares the
two.
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
    Column("name", Text, nullable=False),  # see `names`
    Column("protocol", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("username", Text, nullable=False),
    Column("fingerprint", Text, nullable=False, unique=True),
)

archives = Table(
    "archives",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("uuid", LargeBinary(16), nullable=False, unique=True),
    Column("name", Text, nullable=False),  # see `names`
    Column("path", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("made", Boolean, nullable=False),  # it exists on disk, or did
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", Text, nullable=False),
    Column("account_id", ForeignKey("accounts.id"), nullable=False, index=True),  # the source
    Column("enabled", Boolean, nullable=False),
    Column("removal_confirmed_at", BigInteger),
    Column("removes", Boolean, nullable=False),  # the job removes mail at its source
    Column("configuration", Text, nullable=False, server_default=text("''")),  # that names it; "": not known
    Column("trouble", Text, nullable=False, server_default=text("''")),  # that its last run ended with, see troubles.py
    Column("trouble_text", Text, nullable=False, server_default=text("''")),
    Column("trouble_since", BigInteger),
    Column("paused_since", BigInteger),  # null: it runs by its schedule
    Column("paused_why", SmallInteger),  # rows.Paused
    Column("refusals", Integer, nullable=False, server_default=text("0")),  # of its sign-in, in a row
    Column("succeeded_at", BigInteger),  # its last run that was done
    UniqueConstraint("configuration", "name"),
)

documents = Table(  # what a configuration said of a job, canonical JSON; a run keeps the one that it began with
    "documents",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),  # SHA-256 of the text
    Column("text", Text, nullable=False),
)

definitions = Table(  # what the service needs of each applied job without reading its document
    "definitions",
    metadata,
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    Column("digest", LargeBinary(32), ForeignKey("documents.digest"), nullable=False, index=True),
    Column("site", Text, nullable=False),  # where its archives are; "": anywhere
    Column("schedule", Text, nullable=False),  # as people write it; "": only when asked for
    Column("timezone", Text, nullable=False),
    Column("jitter_s", Integer, nullable=False),
    Column("quiet_hours", Text, nullable=False),
    Column("late_after_s", BigInteger),
    Column("next_due", BigInteger),  # null: nothing is due, or it is to be computed
    Column("applied_at", BigInteger, nullable=False),
)
Index("ix_definitions_next_due", definitions.c.next_due)

names = Table(  # what a configuration calls an account or archive; the column there has the name that was given last
    "names",
    metadata,
    Column("configuration", Text, primary_key=True),
    Column("kind", Text, primary_key=True),  # "account" | "archive"
    Column("name", Text, primary_key=True),
    Column("target", BigInteger, nullable=False),  # accounts.id or archives.id, by kind
    Index("ix_names_kind_target", "kind", "target"),
    sqlite_with_rowid=False,
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
    Column("repeat", Text, nullable=False),  # mail.outcome.Repeat: what delivering again does
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
    Column("name", LargeBinary, nullable=False),  # the server's octets
    Column("path", Text, nullable=False),  # JSON: a list of texts, one a level
    Column("use", Text, nullable=False, server_default=text("''")),  # special use (RFC 6154)
    Column("subscribed", Boolean, nullable=False),
    Column("epoch", BigInteger, nullable=False),  # UIDVALIDITY, or the generation of ids that we count
    Column("frozen_at", BigInteger),  # since then no message is removed here, until a person lifts it
    Column("frozen_why", SmallInteger),  # Freeze
    Column("frozen_reason", Text),
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
    Column("receipt", Text),  # the receipt's hint, where it is not empty
    sqlite_with_rowid=False,
)
Index(  # deliveries that are still to be made, or uncertain; empty when all is delivered
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
    Column("trigger", Text, nullable=False),  # who asked for it: "schedule", "hand" or "here"
    Column("due_at", BigInteger),  # by the schedule; null: asked for by hand
    Column("not_before", BigInteger),  # null: at once
    Column("queued_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("updated_at", BigInteger),  # of counts, phase and notes
    Column("finished_at", BigInteger),
    Column("exit_code", SmallInteger),
    Column("holder", Text),  # JSON: who works on it, as in a lease; null while it is queued
    Column("generation", Integer, nullable=False, server_default=text("0")),  # grows with each claim
    Column("slices", Integer, nullable=False, server_default=text("0")),
    Column("phase", Text, nullable=False, server_default=text("''")),
    Column("cancel_requested", Boolean, nullable=False, server_default=text("false")),
    Column("counts", Text, nullable=False, server_default=text("'{}'")),  # JSON: name → number
    Column("message", Text, nullable=False, server_default=text("''")),  # the error line of a run that failed
    Column("digest", LargeBinary(32)),  # documents.digest of the definition it began with; null: `syncd run`
    Column(
        "deaths", SmallInteger, nullable=False, server_default=text("0")
    ),  # of its workers, since a slice ended well
    Column("missed", Integer, nullable=False, server_default=text("0")),  # further due times that this run covers
    Column("idle", Boolean, nullable=False, server_default=text("false")),  # it found nothing to do: soon thrown away
    UniqueConstraint("job_id", "due_at"),  # a due time has one run; NULLs are distinct
    Index("ix_runs_job_id_id", "job_id", "id"),
)
Index(  # a job has one open run; the numbers are QUEUED and RUNNING
    "uq_runs_open", runs.c.job_id, unique=True, sqlite_where=text("state IN (0, 1)")
)

Index(  # the few runs that a worker may claim: QUEUED
    "ix_runs_queued", runs.c.not_before, sqlite_where=text("state = 0")
)

Index("ix_runs_idle", runs.c.finished_at, sqlite_where=text("idle"))

permits = Table(  # connections that a run may have open, for limits that hold across all workers
    "permits",
    metadata,
    Column("subject", Text, primary_key=True),  # such as "host pop.example.net"
    Column("run_id", ForeignKey("runs.id"), primary_key=True),
    Column("generation", Integer, nullable=False),  # of the run: a permit ends with the claim that took it
    sqlite_with_rowid=False,
)

workers = Table(  # processes of the service
    "workers",
    metadata,
    Column("holder", Text, primary_key=True),  # JSON, see holder.py
    Column("role", Text, nullable=False),  # "worker" | "scheduler" | "web"
    Column("sites", Text, nullable=False),  # JSON: a list; a worker without a site serves jobs without one
    Column("threads", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("seen_at", Double, nullable=False),  # by the database's clock, as leases
    sqlite_with_rowid=False,
)

notices = Table(  # what people were told of a job, by each channel; gone a day after the job is well again
    "notices",
    metadata,
    Column("channel", Text, primary_key=True),  # "email" | "webhook"
    Column("job_id", ForeignKey("jobs.id"), primary_key=True),
    Column("told", Text, nullable=False),  # the marks of services.notify that people know of, joined by ","
    Column("told_at", BigInteger),  # null: a message was tried, and none has left yet
    Column("claimed_until", BigInteger),  # somebody sends a message, or it is too early to try again
    Column("tries", Integer, nullable=False),  # that failed, in a row
    sqlite_with_rowid=False,
)

days = Table(  # what the runs of a configuration did each day, for the plots of the page; a row a day, never deleted
    "days",
    metadata,
    Column("configuration", Text, primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),  # since 1970-01-01, UTC
    Column("runs", BigInteger, nullable=False),  # that ended, without idle ones
    Column("failures", BigInteger, nullable=False),  # runs that failed
    Column("messages", BigInteger, nullable=False),  # fetched
    Column("octets", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

traffic = Table(  # octets that an account with a daily limit gave or took; gone after a day
    "traffic",
    metadata,
    Column("account_id", ForeignKey("accounts.id"), primary_key=True),
    Column("direction", Integer, primary_key=True, autoincrement=False),  # `mail.allowance.Direction`
    Column("since", BigInteger, primary_key=True, autoincrement=False),  # seconds since 1970: begin of a quarter hour
    Column("octets", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

run_notes = Table(  # lines for a person, such as a frozen removal
    "run_notes",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("run_id", ForeignKey("runs.id"), nullable=False, index=True),
    Column("at", BigInteger, nullable=False),
    Column("text", Text, nullable=False),
)

problems = Table(
    "problems",
    metadata,
    Column("message_id", ForeignKey("messages.id"), primary_key=True),
    Column("route_id", BigInteger, primary_key=True, autoincrement=False),  # or ABOUT_MESSAGE
    Column("kind", SmallInteger, nullable=False),  # ProblemKind
    Column("code", Text, nullable=False),  # the kind of a server's refusal, such as "550 5.7.60"; often empty
    Column("insisted", Boolean, nullable=False),  # a person wants it sent although it looks like a loop
    Column("reason", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("first_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("retry_at", BigInteger),  # null: waits for a person
    Column("run_id", ForeignKey("runs.id"), nullable=False),
    Index("ix_problems_run_id", "run_id"),
    sqlite_with_rowid=False,
)

uncertain_outcomes = Table(  # never deleted: copies at a destination ≤ 1 + rows here
    "uncertain_outcomes",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("message_id", ForeignKey("messages.id"), nullable=False),
    Column("route_id", ForeignKey("routes.id"), nullable=False),
    Column("run_id", ForeignKey("runs.id"), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("noted", Boolean, nullable=False),  # a person has seen it and need not be told again
    Index("ix_uncertain_outcomes_message_id_route_id", "message_id", "route_id"),
    Index("ix_uncertain_outcomes_run_id", "run_id"),
)

intents = Table(  # of deliveries that are `sending`: where the destination is to be asked after a crash
    "intents",
    metadata,
    Column("message_id", ForeignKey("messages.id"), primary_key=True),
    Column("route_id", ForeignKey("routes.id"), primary_key=True),
    Column("place", LargeBinary, nullable=False),  # mail.outcome.Intent
    Column("validity", BigInteger, nullable=False),
    Column("following", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

suspensions = Table(
    "suspensions",
    metadata,
    Column("subject", Text, primary_key=True),  # "route 5", "account 3"
    Column("cause", SmallInteger, nullable=False),  # Cause
    Column("tries", Integer, nullable=False),  # in a row, where the back-off is ours
    Column("until", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("limit", Text, nullable=False),  # the job's own limit that is used up, as its settings write it; else empty
    sqlite_with_rowid=False,
)

listings = Table(  # one for each listing that changed something
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
    Column("complete", Boolean, nullable=False),
    Index("ix_listings_mailbox_id_id", "mailbox_id", "id"),
    Index("ix_listings_run_id", "run_id"),  # whether a run may be thrown away; the same below
)

planned = Table(  # from which contents of a mailbox the deliveries of a route were planned
    "planned",
    metadata,
    Column("mailbox_id", ForeignKey("mailboxes.id"), primary_key=True),
    Column("route_id", ForeignKey("routes.id"), primary_key=True),
    Column("listing_id", BigInteger, nullable=False),  # listings.id; no foreign key: old listings may be thrown away
    Column("contents", LargeBinary, nullable=False),  # the source's token, or the listing's digest; empty: list again
    Column("modseq", BigInteger),
    sqlite_with_rowid=False,
)

became = Table(  # the mailbox of an account as destination that a mailbox of a source became
    "became",
    metadata,
    Column("mailbox_id", ForeignKey("mailboxes.id"), primary_key=True),
    Column("route_id", ForeignKey("routes.id"), primary_key=True),
    Column("label", Text, primary_key=True),  # the special use that Gmail's labels tell; else empty
    Column("path", Text, nullable=False),  # JSON, as in `mailboxes`
    Column("by_use", Boolean, nullable=False),  # a special use gave it
    sqlite_with_rowid=False,
)

extents = Table(
    "extents",
    metadata,
    Column("route_id", ForeignKey("routes.id"), primary_key=True),
    Column("octets", BigInteger, nullable=False),  # of its archive, known to be durable
    Column("ask", Boolean, nullable=False),  # the archive is to be filled again, and was not asked yet what it has
    sqlite_with_rowid=False,
)

leases = Table(
    "leases",
    metadata,
    Column("resource", Text, primary_key=True),  # such as "job:7", "archive:<uuid>"
    Column("generation", BigInteger, nullable=False),  # only grows: rows are never deleted
    Column("holder", Text, nullable=False),  # JSON, see leases.py; "" when nobody holds it
    Column("expires_at", Double, nullable=False),
)

users = Table(  # people who may sign in to the page
    "users",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("role", SmallInteger, nullable=False),  # people.Role
    Column("password", Text, nullable=False),  # argon2id with its parameters and salt
    Column("created_at", BigInteger, nullable=False),
    Column("signed_in_at", BigInteger),
)

web_sessions = Table(  # browsers that are signed in
    "web_sessions",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),  # SHA-256 of what the cookie has
    Column("user_id", ForeignKey("users.id"), nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

tokens = Table(  # what programs show instead of a password, and what the first person shows to become the first user
    "tokens",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", LargeBinary(32), nullable=False, unique=True),  # SHA-256 of the token
    Column("purpose", SmallInteger, nullable=False),  # people.Purpose
    Column("role", SmallInteger, nullable=False),  # people.Role: its scope
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),  # null: never
)
Index("uq_tokens_name_api", tokens.c.name, unique=True, sqlite_where=text("purpose = 1"))  # API

signin_attempts = Table(  # that failed, or are not judged yet, in a row
    "signin_attempts",
    metadata,
    Column("subject", Text, primary_key=True),  # "user NAME" or "address ADDRESS"
    Column("failures", Integer, nullable=False),
    Column("until", BigInteger, nullable=False),  # before then no further one is judged
    sqlite_with_rowid=False,
)

errands = Table(  # what a person asked the page for, and what was found
    "errands",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("configuration", Text, nullable=False),
    Column("kind", SmallInteger, nullable=False),  # errands.Kind
    Column("name", Text, nullable=False, index=True),  # of the job, the account or the archive
    Column("read", Boolean, nullable=False),  # a verification reads every octet
    Column("asked_by", Text, nullable=False),
    Column("asked_at", BigInteger, nullable=False),
    Column("site", Text),  # whose workers do it; null: a process that serves the page does
    Column("document", Text),  # settings for a worker, as in `documents`
    Column("state", SmallInteger, nullable=False),  # errands.State
    Column("holder", Text, nullable=False),  # JSON, see holder.py; "" before it has begun
    Column("seen_at", Double, nullable=False),  # when its process was heard of last
    Column("cancel", Boolean, nullable=False),  # somebody asked for its end
    Column("began_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("progress", Text, nullable=False),  # JSON
    Column("error", Text, nullable=False),
    Column("result", Text),  # JSON
)
Index(
    "uq_errands_open",
    *(errands.c.configuration, errands.c.kind, errands.c.name),
    unique=True,
    sqlite_where=text("state IN (0, 1)"),  # queued, running
)

errand_reports = Table(  # of verifications, zstd
    "errand_reports",
    metadata,
    Column("errand_id", ForeignKey("errands.id"), primary_key=True),
    Column("form", Text, primary_key=True),  # "md", "json", "html"
    Column("content", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
