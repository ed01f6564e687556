"""Questions to the index of an archive of packs; answered in pages, so that no read transaction stays open."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple
from uuid import UUID

from syncd.formats.packs.index import ORIGIN, Index, origin_of
from syncd.formats.packs.meta import date_of, flags_of, octets_of
from syncd.formats.packs.reader import Location
from syncd.mail.flags import Flags, canonical
from syncd.mail.message import MessageRef, Origin

PAGE = 1_000  # messages

_COLUMNS = """m.id, m.sha256, m.header_hash, m.octets, m.stored_at,
    m.pack, m.frame, m.offset, m.length, m.parts, m.crlf,
    p.origin, p.uid, p.occurrence, p.flags, p.date, p.labels, p.removed_at"""
_STORED = f"""SELECT {_COLUMNS} FROM messages m
    LEFT JOIN places p ON p.message = m.id LEFT JOIN origins o ON o.id = p.origin"""  # noqa: S608
_ORIGIN = f"SELECT {ORIGIN} FROM origins WHERE id = ?"  # noqa: S608
_READ = """SELECT m.pack, m.frame, m.offset, m.length, m.parts, m.crlf, p.flags, p.date, p.labels FROM messages m
    LEFT JOIN places p ON p.message = m.id LEFT JOIN origins o ON o.id = p.origin WHERE m.sha256 = ?
    ORDER BY o.account IS ? AND o.mailbox IS ? DESC, o.epoch IS ? AND p.uid IS ? AND p.occurrence IS ? DESC,
    p.origin, p.uid, p.occurrence LIMIT 1"""
_BY_UID = "SELECT message FROM places WHERE origin = ? AND uid = ?"
_BY_DIGEST = "SELECT id FROM messages WHERE sha256 BETWEEN ? AND ?"
_DIGEST_START = re.compile(r"[0-9A-Fa-f]{4,64}")
_ORDER = "ORDER BY m.id, o.account, o.mailbox, o.epoch, p.uid, p.occurrence"


class PlaceRecord(NamedTuple):
    """A place where octets were seen, and what was said of them there."""

    ref: MessageRef
    flags: Flags
    internal_date: datetime | None
    labels: tuple[str, ...]
    removed_at: datetime | None


class MessageRecord(NamedTuple):
    """Octets that are stored once, and every place where they were seen."""

    sha256: bytes
    header_hash: bytes
    octets: int
    stored_at: datetime
    location: Location
    places: tuple[PlaceRecord, ...]


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


def stored(index: Index, after: int = 0) -> Iterator[MessageRecord]:
    """Every message in the order of the packs; with `after`, those behind this number."""
    origins = _Origins(index)
    while True:
        rows = index.connection.execute(
            f"{_STORED} WHERE m.id > ? AND m.id <= ? {_ORDER}", (after, after + PAGE)
        ).fetchall()
        yield from _messages(rows, origins)
        after += PAGE
        if not rows and after >= _last(index):
            return


def find(index: Index, what: str) -> Iterator[MessageRecord]:
    """Messages whose SHA-256 in hexadecimal starts with `what` (4 digits or more), or that have it as a uid."""
    octets = octets_of(what) if what.isprintable() else os.fsencode(what)
    uid = [(number, octets) for number in index.origins().values()]
    numbers = {n for pair in uid for (n,) in index.connection.execute(_BY_UID, pair)}
    if _DIGEST_START.fullmatch(what):
        low, high = (bytes.fromhex(what.ljust(64, digit)) for digit in "0f")
        numbers |= {n for (n,) in index.connection.execute(_BY_DIGEST, (low, high))}
    origins = _Origins(index)
    for number in sorted(numbers):
        rows = index.connection.execute(f"{_STORED} WHERE m.id = ? {_ORDER}", (number,)).fetchall()
        yield from _messages(rows, origins)


def by_digest(index: Index, sha256: bytes) -> MessageRecord | None:
    """Returns the message with this SHA-256, None if the index does not know it."""
    rows = index.connection.execute(f"{_STORED} WHERE m.sha256 = ? {_ORDER}", (sha256,)).fetchall()
    return next(_messages(rows, _Origins(index)), None)


def locate(index: Index, sha256: bytes) -> Location | None:
    """Returns where these octets are, None if the index does not know them."""
    found = locate_at(index, sha256, None)
    return found[0] if found else None


def locate_at(
    index: Index, sha256: bytes, ref: MessageRef | None
) -> tuple[Location, Flags, datetime | None, tuple[str, ...]] | None:
    """Returns where these octets are, with flags, date and labels of the place `ref`.

    Where the index does not know that place, they are those of another place, of the same mailbox if there is one.
    """
    where: tuple[object, ...] = (None,) * 5
    if ref is not None:
        where = (ref.origin.account.bytes, ref.origin.mailbox, ref.origin.epoch, ref.uid, ref.occurrence)
    row = index.connection.execute(_READ, (sha256, *where)).fetchone()
    if row is None:
        return None
    *at, crlf, flags, date, labels = row
    where_it_is = Location._make((*at, bool(crlf)))
    return where_it_is, canonical(flags_of(flags or "")), date_of(date or ""), flags_of(labels or "")


def places(index: Index, account: UUID) -> Iterator[tuple[MessageRef, bytes, int, bytes]]:
    """Every place at an account with SHA-256, octets, header_hash; in the order in which messages were stored."""
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


class _Origins(dict[int, Origin]):
    """Origins by their number, each read once."""

    def __init__(self, index: Index) -> None:
        super().__init__()
        self._index = index

    def __missing__(self, number: int) -> Origin:
        row = self._index.connection.execute(_ORIGIN, (number,)).fetchone()
        origin = self[number] = origin_of(row)
        return origin


def _messages(rows: list[tuple[Any, ...]], origins: _Origins) -> Iterator[MessageRecord]:
    for _, same in groupby(rows, key=itemgetter(0)):
        group = list(same)
        _, sha256, header_hash, octets, stored_at, *at = group[0][:11]
        where = Location(at[0], at[1], at[2], at[3], at[4], bool(at[5]))
        seen = tuple(_place(origins[row[11]], row[12:]) for row in group if row[11] is not None)
        yield MessageRecord(sha256, header_hash, octets, datetime.fromtimestamp(stored_at, UTC), where, seen)


def _place(origin: Origin, row: tuple[Any, ...]) -> PlaceRecord:
    uid, occurrence, flags, date, labels, removed_at = row
    removed = None if removed_at is None else datetime.fromtimestamp(removed_at, UTC)
    ref = MessageRef(origin, uid, occurrence)
    return PlaceRecord(ref, canonical(flags_of(flags)), date_of(date), flags_of(labels), removed)
