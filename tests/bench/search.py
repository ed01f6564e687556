"""Measures of search: how fast an archive is indexed, how large its index is, and how long a first page takes."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import accumulate, islice
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import text as sql

from syncd.db.database import Database
from syncd.db.search.index import TableIndex
from syncd.destinations.packs import PacksArchive
from syncd.formats.search.contract import Document, Index
from syncd.formats.search.index import SearchIndex
from syncd.formats.search.order import packed
from syncd.formats.search.question import parse
from syncd.formats.view import ArchiveView
from syncd.mail.mailbox import Epoch
from syncd.mail.message import Origin
from syncd.mail.mime.structure import structure
from syncd.services import search
from syncd.services.archive import open_view
from syncd.services.indexes import FILES, Indexes, Tables
from tests.contract.destination_kit import message
from tests.servers.postgresql import Postgresql
from tests.support import mail

MAILS: Final = 20_000
MESSAGES: Final = 1_000_000
WORDS: Final = 60  # of a message
KNOWN: Final = 60_000  # different words
POOL: Final = 2_000_000
BATCH: Final = 1_000
QUESTIONS: Final = (
    "w0", "w0 w1", "w5 w100", "w0 w30000", "from:w0", "has:attachment w0", "larger:300k w0", "before:2006-01-01 w0",
    "after:2024-01-01", "w1f* w0", "mailbox:Rare w0", "mailbox:Rare", "w0 w1 w2 w3 before:2010-01-01 larger:10k", "",
    "w100 OR w200", "w5 -w0", "before:2010-01-01 -w0",
)  # fmt: skip


def indexing() -> Iterator[tuple[str, str, str]]:
    """The index of an archive of small mail, made from nothing."""
    with _archive(mail.small(MAILS, 1)) as (view, texts, octets):
        rate = _rate_of(view, FILES)
        size = view.search_index.stat().st_size
    yield "indexing of mail of 2 KiB", "≥ 2,000 messages/s", rate
    yield "its index", "≤ 25 % of the text", _share(size, texts, octets)


def indexing_tables() -> Iterator[tuple[str, str, str]]:
    """The same in PostgreSQL; and how large the index of realistic mail is there."""
    for kind, mails in (("of 2 KiB", mail.small(MAILS, 1)), ("of all sizes", mail.realistic(MAILS // 2, 1))):
        with _archive(mails) as (view, texts, octets), _database() as database:
            rate = _rate_of(view, Tables(database, "bench", {view.path: "archive"}))
            share = _share(_octets_of(database), texts, octets)
        yield f"indexing of mail {kind} in PostgreSQL", "≥ 2,000 messages/s" if kind == "of 2 KiB" else "", rate
        yield f"index of mail {kind} in PostgreSQL", "≤ 25 % of the text", share


@contextmanager
def _archive(mails: Iterable[bytes]) -> Iterator[tuple[ArchiveView, int, int]]:
    """An archive of some mail, the octets of its texts, and those of the mail."""
    with tempfile.TemporaryDirectory(prefix="syncd-bench-") as place:
        archive, texts, octets = PacksArchive(Path(place) / "mail"), 0, 0
        archive.create(uuid4())
        archive.open()
        numbered = enumerate(mails)
        for some in iter(lambda: list(islice(numbered, BATCH)), []):
            octets += sum(len(data) for _, data in some)
            texts += sum(len(text.encode()) for _, data in some for text in search.texts(structure([data])))
            list(archive.deliver([message(number, data) for number, data in some]))
        archive.close()
        with closing(open_view(None, str(archive.path))) as view:
            yield view, texts, octets


@contextmanager
def _database() -> Iterator[Database]:
    """A database on a server as an administrator has it."""
    with (
        tempfile.TemporaryDirectory(prefix="syncd-bench-") as place,
        Postgresql(as_installed=True) as server,
        Database.open(server.new_database(), Path(place)) as database,
    ):
        yield database


def _octets_of(database: Database) -> int:
    """Octets of the tables of search indexes, all that belongs to them included."""
    sizes = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'search\\_%'"
    with database.read() as connection:
        return int(connection.execute(sql(sizes)).scalar_one())


def _rate_of(view: ArchiveView, indexes: Indexes) -> str:
    began, worked = time.perf_counter(), time.process_time()
    done = search.rebuild(view, indexes)
    began, worked = time.perf_counter() - began, time.process_time() - worked
    return f"{done.messages / began:,.0f} messages/s ({done.messages / worked:,.0f} a second of our CPU)"


def _share(size: int, texts: int, octets: int) -> str:
    return f"{size / texts:.0%} of the text, {size / octets:.0%} of the mail"


def searching() -> Iterator[tuple[str, str, str]]:
    """First pages of results from a large index in a file, by questions of all kinds."""
    with (
        tempfile.TemporaryDirectory(prefix="syncd-bench-") as place,
        closing(SearchIndex.make(Path(place) / "search.sqlite", UUID(int=1))) as index,
    ):
        _fill(index)
        yield _first_pages(index, "")


def searching_tables() -> Iterator[tuple[str, str, str]]:
    """The same from an index in PostgreSQL, and how fast it was filled."""
    with _database() as database:
        index = TableIndex.make(database, "bench", "archive", UUID(int=1))
        began = time.perf_counter()
        _fill(index)
        began = time.perf_counter() - began
        index.tidy()
        filled = f"{MESSAGES / began:,.0f} messages/s; {_octets_of(database) / MESSAGES:,.0f} octets a message"
        yield f"{MESSAGES:,} messages of {WORDS} words put into PostgreSQL", "≥ 2,000 messages/s", filled
        yield _first_pages(index, " in PostgreSQL")


def _first_pages(index: Index, where: str) -> tuple[str, str, str]:
    taken: dict[str, float] = {}
    rare = [number for number, box in index.mailboxes().items() if box.path == ("Rare",)]
    for text in QUESTIONS:
        asked, times = parse(text, UTC), []
        for _ in range(5):
            began = time.perf_counter()
            index.find(asked, 51, None, rare if asked.mailboxes else None)
            times.append(time.perf_counter() - began)
        taken[text] = statistics.median(times) * 1000
    slowest = max(taken, key=taken.__getitem__)
    reached = (
        f"{statistics.median(taken.values()):.1f} ms; the slowest of {len(taken)}: {taken[slowest]:.0f} ms ({slowest})"
    )
    return f"first page of a search over {MESSAGES:,} messages{where}", "≤ 200 ms", reached


def _fill(index: Index) -> None:
    """Have messages whose words are as frequent as words are (Zipf), over twenty years, in three mailboxes."""
    rng, base = random.Random("search"), datetime(2005, 1, 1, tzinfo=UTC)
    known = [f"w{number:x}" for number in range(KNOWN)]
    pool = rng.choices(known, cum_weights=list(accumulate(1 / (rank + 1) for rank in range(KNOWN))), k=POOL)
    boxes = [Origin(UUID(int=1), "road", name.encode(), Epoch(1), (name,)) for name in ("INBOX", "Lists", "Rare")]
    for start in range(0, MESSAGES, BATCH):
        documents = []
        for number in range(start, start + BATCH):
            at = rng.randrange(POOL - WORDS)
            marks = {f"\x81{pool[at]}", f"\x85{rng.randrange(10, 20)}"} | (
                {"\x84attachment"} if number % 10 == 0 else set()
            )
            documents.append(
                Document(
                    number.to_bytes(4, "big") * 8,
                    base + timedelta(seconds=rng.randrange(630_000_000)),
                    rng.randrange(1_000, 400_000),
                    int(number % 10 == 0),
                    f"Someone <some{number % 500}@example.net>",
                    f"The subject of number {number}",
                    " ".join({*pool[at : at + WORDS], *marks}),
                    packed({*pool[at : at + WORDS]}, [pool[at : at + WORDS]]) if index.keeps_order else b"",
                    (boxes[2 if number % 10_000 == 0 else number % 2],),
                )
            )
        with index.writing():
            index.add(documents)
