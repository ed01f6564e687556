"""What an archive of packs holds, from its index; in pages, so that no read transaction stays open."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple
from uuid import UUID

from syncd.formats.packs.index import Index
from syncd.formats.packs.meta import flags_of, octets_of
from syncd.formats.packs.reader import Location
from syncd.mail.message import MessageRef, Origin

PAGE = 1_000  # messages

_COLUMNS = """m.id, m.sha256, m.header_hash, m.octets, m.stored_at,
    m.pack, m.frame, m.offset, m.length, m.parts, m.crlf,
    o.account, o.name, o.mailbox, o.epoch, p.uid, p.occurrence, p.flags, p.date, p.removed_at"""
_STORED = f"""SELECT {_COLUMNS} FROM messages m
    LEFT JOIN places p ON p.message = m.id LEFT JOIN origins o ON o.id = p.origin"""  # noqa: S608
_BY_UID = "SELECT message FROM places WHERE origin = ? AND uid = ?"
_BY_DIGEST = "SELECT id FROM messages WHERE sha256 BETWEEN ? AND ?"
_DIGEST_START = re.compile(r"[0-9A-Fa-f]{4,64}")
_ORDER = "ORDER BY m.id, o.account, o.mailbox, o.epoch, p.uid, p.occurrence"


class StoredPlace(NamedTuple):
    """Where octets were seen, and what was said of them there."""

    ref: MessageRef
    flags: tuple[str, ...]
    internal_date: datetime | None
    removed_at: datetime | None


class StoredMessage(NamedTuple):
    """Octets that are stored once, and every place where they were seen."""

    sha256: bytes
    header_hash: bytes
    octets: int
    stored_at: datetime
    location: Location
    places: tuple[StoredPlace, ...]


@dataclass(frozen=True, slots=True)
class Stats:
    """An archive in figures; octets are those of the messages, `pack_octets` those of the files."""

    messages: int
    octets: int
    places: int
    removed: int
    accounts: int
    packs: int
    pack_octets: int
    index_octets: int


def stored(index: Index) -> Iterator[StoredMessage]:
    """Every message in the order of the packs."""
    after = 0
    while True:
        rows = index.connection.execute(
            f"{_STORED} WHERE m.id > ? AND m.id <= ? {_ORDER}", (after, after + PAGE)
        ).fetchall()
        yield from _messages(rows)
        after += PAGE
        if not rows and after >= _last(index):
            return


def find(index: Index, what: str) -> Iterator[StoredMessage]:
    """Messages whose SHA-256 in hexadecimal starts with `what` (4 digits or more), or that have it as a uid."""
    uid = [(number, octets_of(what)) for number in index.origins().values()]
    numbers = {n for pair in uid for (n,) in index.connection.execute(_BY_UID, pair)}
    if _DIGEST_START.fullmatch(what):
        low, high = (bytes.fromhex(what.ljust(64, digit)) for digit in "0f")
        numbers |= {n for (n,) in index.connection.execute(_BY_DIGEST, (low, high))}
    for number in sorted(numbers):
        yield from _messages(index.connection.execute(f"{_STORED} WHERE m.id = ? {_ORDER}", (number,)).fetchall())


def locate(index: Index, sha256: bytes) -> Location | None:
    """Where these octets are."""
    row = index.connection.execute(
        "SELECT pack, frame, offset, length, parts, crlf FROM messages WHERE sha256 = ?", (sha256,)
    ).fetchone()
    return Location(*row) if row else None


def places(index: Index, account: UUID) -> Iterator[tuple[MessageRef, bytes, int, bytes]]:
    """Everything seen at an account: its place, SHA-256, octets, header_hash; in the order in which it was stored."""
    origins = {number: origin for origin, number in index.origins().items() if origin.account == account}
    after = 0
    while origins and after < _last(index):
        rows = index.connection.execute(
            """SELECT p.origin, p.uid, p.occurrence, m.sha256, m.octets, m.header_hash
               FROM places p JOIN messages m ON m.id = p.message
               WHERE p.message > ? AND p.message <= ? ORDER BY p.message""",
            (after, after + PAGE),
        ).fetchall()
        after += PAGE
        for origin, uid, occurrence, *rest in rows:
            if origin in origins:
                sha256, octets, header_hash = rest
                yield MessageRef(origins[origin], uid, occurrence), sha256, octets, header_hash


def figures(index: Index, pack_octets: dict[int, int], index_octets: int) -> Stats:
    """The archive in figures."""
    one = index.connection.execute
    messages, octets = one("SELECT count(*), coalesce(sum(octets), 0) FROM messages").fetchone()
    (placed, removed) = one("SELECT count(*), count(removed_at) FROM places").fetchone()
    (accounts,) = one("SELECT count(DISTINCT account) FROM origins").fetchone()
    return Stats(messages, octets, placed, removed, accounts, len(pack_octets), sum(pack_octets.values()), index_octets)


def _last(index: Index) -> int:
    number: int
    (number,) = index.connection.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()
    return number


def _messages(rows: list[tuple[Any, ...]]) -> Iterator[StoredMessage]:
    for _, same in groupby(rows, key=itemgetter(0)):
        group = list(same)
        _, sha256, header_hash, octets, stored_at, *at = group[0][:11]
        where = Location(at[0], at[1], at[2], at[3], at[4], bool(at[5]))
        seen = tuple(_place(row[11:]) for row in group if row[11] is not None)
        yield StoredMessage(sha256, header_hash, octets, datetime.fromtimestamp(stored_at, UTC), where, seen)


def _place(row: tuple[Any, ...]) -> StoredPlace:
    account, name, mailbox, epoch, uid, occurrence, flags, date, removed_at = row
    ref = MessageRef(Origin(UUID(bytes=account), name, mailbox, epoch), uid, occurrence)
    return StoredPlace(
        ref,
        flags_of(flags),
        datetime.fromisoformat(date) if date else None,
        None if removed_at is None else datetime.fromtimestamp(removed_at, UTC),
    )
