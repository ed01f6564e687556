"""An archive of packs as mailboxes, and each mailbox as a listing: one line for each place of each message.

A mailbox is one of an account, in all its epochs together. Its name is the account's UUID in text, "/", and the octets
of its name there; its path, special use and subscription are those that were recorded last.

The order of lines is that of the packs: a message that is stored later comes later, but a further place of octets that
are stored already comes with them. So a mailbox to which nothing was added gives the same listing again.

A line's uid names the message for good, in every index that is built from the packs: the first 32 hexadecimal
digits of the SHA-256 over

    the account's UUID (16 octets) · the epoch · the number of octets of the mailbox's name · the mailbox's name
    · the occurrence · the uid that the server gave · the SHA-256 of the message (32 octets)

where the numbers are decimal with a space behind. Each part has a known length, or is what remains between two that
have: no two places are written alike. The digest of the message is part of it because a server may come to show other
mail under an id that it gave before; that is another message.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple
from uuid import UUID

from syncd.formats.packs.index import Index
from syncd.formats.packs.meta import date_of, flags_of, path_of
from syncd.formats.packs.reader import Location
from syncd.formats.view import Kept
from syncd.mail.flags import Flags, canonical
from syncd.mail.listing import Listed, Totals
from syncd.mail.mailbox import Mailbox
from syncd.mail.message import MessageRef, Uid

PAGE: Final = 1_000  # lines, or mailboxes
UID_DIGITS: Final = 32

_MAILBOXES: Final = """SELECT account, mailbox, path, use, subscribed
    FROM (SELECT min(id) AS first, max(id) AS last FROM origins GROUP BY account, mailbox) JOIN origins ON id = last
    ORDER BY first"""
_KNOWN: Final = "SELECT 1 FROM origins o WHERE o.account = ? AND o.mailbox = ? LIMIT 1"
_IN_MAILBOX: Final = """FROM origins o CROSS JOIN places p INDEXED BY places_by_uid ON p.origin = o.id"""
_WHICH: Final = "WHERE o.account = ? AND o.mailbox = ?"
_ORDER: Final = "p.message, p.origin, p.uid, p.occurrence"
_SCRATCH: Final = """CREATE TEMP TABLE IF NOT EXISTS lines (
    number INTEGER PRIMARY KEY, message INTEGER, origin INTEGER, uid BLOB, occurrence INTEGER)"""
_CLEAR: Final = "DELETE FROM temp.lines"
_FILL: Final = f"""INSERT INTO temp.lines (message, origin, uid, occurrence)
    SELECT {_ORDER} {_IN_MAILBOX} {_WHICH} ORDER BY {_ORDER}"""
_IDENTITY: Final = "o.account, o.epoch, o.mailbox, l.occurrence, l.uid, m.sha256"
_AT: Final = "m.pack, m.frame, m.offset, m.length, m.parts, m.crlf"
_FROM: Final = """FROM temp.lines l CROSS JOIN messages m ON m.id = l.message CROSS JOIN origins o ON o.id = l.origin"""
_BETWEEN: Final = "WHERE l.number > ? AND l.number <= ?"
_LINES: Final = f"SELECT l.number, m.octets, {_IDENTITY} {_FROM} {_BETWEEN} ORDER BY l.number"
_PLACED: Final = f"""SELECT {_IDENTITY}, p.flags, p.date, p.labels, {_AT} {_FROM}
    CROSS JOIN places p ON p.message = l.message AND p.origin = l.origin AND p.uid = l.uid
    AND p.occurrence = l.occurrence {_BETWEEN}"""
_TOTALS: Final = f"""SELECT count(*), coalesce(sum(m.octets), 0) {_IN_MAILBOX}
    CROSS JOIN messages m ON m.id = p.message {_WHICH}"""


class Identity(NamedTuple):
    """Everything that distinguishes a line from every other line."""

    account: bytes
    epoch: int
    mailbox: bytes
    occurrence: int
    uid: bytes
    sha256: bytes


class Placed(NamedTuple):
    """A message at one place: where its octets are, and its flags, date and labels there."""

    sha256: bytes
    location: Location
    flags: Flags
    internal_date: datetime | None
    labels: tuple[str, ...]


def uid_of(identity: Identity) -> Uid:
    """Returns the uid of a line, as described above."""
    account, epoch, mailbox, occurrence, uid, digest = identity
    octets = b"%b%d %d %b%d %b%b" % (account, epoch, len(mailbox), mailbox, occurrence, uid, digest)
    return Uid(sha256(octets).hexdigest()[:UID_DIGITS].encode("ascii"))


def kept(ref: MessageRef, sha256: bytes) -> Kept:
    """Returns where a message at one of its places is, as a source names it."""
    origin = ref.origin
    identity = Identity(origin.account.bytes, origin.epoch, origin.mailbox, ref.occurrence, ref.uid, sha256)
    return Kept(f"{origin.account}/".encode() + origin.mailbox, uid_of(identity))


def mailboxes(index: Index) -> Iterator[list[Mailbox]]:
    """Every mailbox in chunks of PAGE, in the order in which they were first named. Raises sqlite3.Error."""
    rows = index.connection.execute(_MAILBOXES).fetchall()
    for start in range(0, len(rows), PAGE):
        yield [_mailbox(*row) for row in rows[start : start + PAGE]]


def is_known(index: Index, name: bytes) -> bool:
    """Tells whether `name` is that of a mailbox. Raises sqlite3.Error."""
    return index.connection.execute(_KNOWN, _key(name)).fetchone() is not None


class Lines:
    """The lines of one mailbox, noted in a scratch table of the connection: memory stays flat.

    Only the last one that was made for an index can be used. Raises sqlite3.Error.
    """

    def __init__(self, index: Index, name: bytes) -> None:
        self._connection = index.connection
        self._which = _key(name)
        self._connection.execute(_SCRATCH)
        self._connection.execute(_CLEAR)

    def note(self) -> int:
        """Note the lines that are there now, and return how many there are."""
        self._connection.execute(_CLEAR)
        return self._connection.execute(_FILL, self._which).rowcount

    def pages(self) -> Iterator[list[Listed]]:
        """The noted lines in pages of PAGE, the last one shorter, without lines whose message is not in the index."""
        last = 0
        while rows := self._connection.execute(_LINES, (last, last + PAGE)).fetchall():
            yield [Listed(number, uid_of(Identity(*identity)), octets) for number, octets, *identity in rows]
            last += PAGE

    def page(self, number: int) -> dict[Uid, Placed]:
        """Returns the messages of the noted lines of a page (counted from 0) by their uid."""
        rows = self._connection.execute(_PLACED, (number * PAGE, (number + 1) * PAGE))
        return {uid_of(Identity(*row[:6])): _placed(*row[5:]) for row in rows}

    def totals(self) -> Totals:
        """Returns how many places the mailbox has now, and the octets of the messages there."""
        return Totals(*self._connection.execute(_TOTALS, self._which).fetchone())


def _key(name: bytes) -> tuple[bytes, bytes]:
    """Returns account and mailbox of a name, as the index has them."""
    account, _, mailbox = name.partition(b"/")
    return bytes.fromhex(account.replace(b"-", b"").decode("ascii")), mailbox


def _mailbox(account: bytes, name: bytes, path: str, use: str, subscribed: int) -> Mailbox:
    owner = UUID(bytes=account)
    handle = str(owner).encode("ascii") + b"/" + name
    return Mailbox(handle, path_of(json.loads(path)), use, subscribed=bool(subscribed), account=owner)


def _placed(digest: bytes, flags: str, date: str, labels: str, *at: Any) -> Placed:
    """`at` is the location as sqlite3 gives it: six numbers."""
    *where, crlf = at
    location = Location._make((*where, bool(crlf)))
    return Placed(digest, location, canonical(flags_of(flags)), date_of(date), flags_of(labels))
