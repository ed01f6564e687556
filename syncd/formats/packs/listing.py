"""What an archive of packs holds as a listing: one line for each place of each message, in an order that lasts.

The order is that of the packs: what is stored later comes later, except a further place of octets that are stored
already, which comes with them. So a listing to which nothing was added is the same again.

A line's uid names the message for good, in every index that is built from the packs: the first 32 hexadecimal
digits of the SHA-256 over

    the account's UUID (16 octets) · the epoch · the number of octets of the mailbox's name · the mailbox's name
    · the occurrence · the uid that the server gave · the SHA-256 of the message (32 octets)

where the numbers are decimal with a space behind. Each part has its length, or all that is left between two that have:
no two places are written alike. The digest of the message is part of it because a server may come to show other mail
under an id that it gave before; that is another message.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple

from syncd.formats.packs.index import Index
from syncd.formats.packs.meta import flags_of
from syncd.formats.packs.reader import Location

PAGE: Final = 1_000  # lines
UID_DIGITS: Final = 32

Key = tuple[int, int, bytes, int]  # of a row in `places`; it means something in this index only
FIRST: Final[Key] = (0, 0, b"", 0)  # before every row: they are numbered from 1

_FROM: Final = "FROM places p CROSS JOIN messages m ON m.id = p.message CROSS JOIN origins o ON o.id = p.origin"
_KEY: Final = "p.message, p.origin, p.uid, p.occurrence"
_PLACE: Final = "o.account, o.epoch, o.mailbox, p.occurrence, p.uid, m.sha256"
_AT: Final = "m.pack, m.frame, m.offset, m.length, m.parts, m.crlf"
_LINES: Final = f"""SELECT {_KEY}, m.octets, {_PLACE} {_FROM}
    WHERE ({_KEY}) > (?,?,?,?) AND p.message <= ? ORDER BY {_KEY} LIMIT {PAGE}"""
_BETWEEN: Final = f"""SELECT {_PLACE}, m.header_hash, p.flags, p.date, {_AT} {_FROM}
    WHERE ({_KEY}) > (?,?,?,?) AND ({_KEY}) <= (?,?,?,?)"""
_TOTALS: Final = "SELECT count(*), coalesce(sum(m.octets), 0) FROM places p CROSS JOIN messages m ON m.id = p.message"


class Place(NamedTuple):
    """What makes a line another one than all others."""

    account: bytes
    epoch: int
    mailbox: bytes
    occurrence: int
    uid: bytes
    sha256: bytes


class Line(NamedTuple):
    """One line of the listing; `octets` are those of the message as it was received."""

    key: Key
    uid: bytes
    octets: int


class Placed(NamedTuple):
    """A message at one place: how it is read and checked, and what is known of it there."""

    sha256: bytes
    header_hash: bytes
    location: Location
    flags: tuple[str, ...]
    internal_date: datetime | None


def uid_of(place: Place) -> bytes:
    """The uid of the line for a place, as described above."""
    account, epoch, mailbox, occurrence, uid, digest = place
    octets = b"%b%d %d %b%d %b%b" % (account, epoch, len(mailbox), mailbox, occurrence, uid, digest)
    return sha256(octets).hexdigest()[:UID_DIGITS].encode("ascii")


def lines(index: Index) -> Iterator[list[Line]]:
    """The listing in pages of PAGE lines, the last one shorter. Raises sqlite3.Error.

    All that was there at the beginning is in it, and of what is added meanwhile only further places of that.
    """
    (newest,) = index.connection.execute("SELECT coalesce(max(id), 0) FROM messages").fetchone()
    last = FIRST
    while rows := index.connection.execute(_LINES, (*last, newest)).fetchall():
        page = [Line(row[:4], uid_of(Place(*row[5:])), row[4]) for row in rows]
        last = page[-1].key
        yield page


def between(index: Index, after: Key, last: Key) -> dict[bytes, Placed]:
    """The messages of the lines behind `after` up to `last`, by their uid. Raises sqlite3.Error."""
    rows = index.connection.execute(_BETWEEN, after + last)
    return {uid_of(Place(*row[:6])): _placed(*row[5:]) for row in rows}


def totals(index: Index) -> tuple[int, int]:
    """Lines, and the octets of all of them together. Raises sqlite3.Error."""
    number, octets = index.connection.execute(_TOTALS).fetchone()
    return int(number), int(octets)


def _placed(digest: bytes, header_hash: bytes, flags: str, date: str, *at: Any) -> Placed:
    """`at` is the location as sqlite3 gives it: six numbers."""
    *where, crlf = at
    location = Location._make((*where, bool(crlf)))
    return Placed(digest, header_hash, location, flags_of(flags), datetime.fromisoformat(date) if date else None)
