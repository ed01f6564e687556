"""Notes of one verification: the messages that each end shows, what was found, what is still looked for.

A scratch database of SQLite's own, in a temporary file: memory stays flat for mailboxes of any size. A *box* is a
mailbox at one end, by a number. Messages of a box are told apart by uid and occurrence (from 1, where one uid comes
more than once). A message at a destination is *claimed* by the message of the source that it is the copy of.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from syncd.errors import StorageError, printable
from syncd.mail.flags import Flags, from_octets, to_octets
from syncd.mail.listing import Facts
from syncd.mail.mailbox import Path
from syncd.services.verify.comparison import Fact, Original, date_of, seconds
from syncd.services.verify.values import Case, Entry, Status

PAGE: Final = 1000
FEW: Final = 20  # candidates for one message
CACHED: Final = 256  # sets of flags: a mailbox has a few dozen
SOURCE: Final = 0  # the box of the source's mailbox that is compared now

_SCHEMA: Final = """
PRAGMA journal_mode = OFF;
CREATE TABLE shown (box INTEGER, uid BLOB, occurrence INTEGER, number INTEGER, octets INTEGER, flags BLOB,
    date INTEGER, sha256 BLOB, problem TEXT, claimed INTEGER, header BLOB, PRIMARY KEY (box, uid, occurrence))
    WITHOUT ROWID;
CREATE INDEX by_number ON shown (box, number);
CREATE TABLE entries (id INTEGER PRIMARY KEY, mailbox INTEGER, destination INTEGER, uid BLOB, occurrence INTEGER,
    place TEXT, status TEXT, reason TEXT, digits INTEGER);
CREATE TABLE lost (id INTEGER PRIMARY KEY, destination INTEGER, mailbox INTEGER, uid BLOB, occurrence INTEGER,
    octets INTEGER, sha256 BLOB, header BLOB, listed INTEGER, at INTEGER, receipt TEXT, number INTEGER,
    here_octets INTEGER, here_flags BLOB, here_date INTEGER, here_sha256 BLOB, here_problem TEXT,
    box INTEGER, place TEXT, reason TEXT, certain INTEGER, found INTEGER);
CREATE INDEX in_order ON entries (mailbox, destination, digits, uid, id);
BEGIN;
"""
_ADD: Final = """INSERT INTO shown SELECT ?1, ?2, 1 + (SELECT count(*) FROM shown WHERE box = ?1 AND uid = ?2),
    ?3, ?4, ?5, ?6, ?7, '', 0, NULL"""
_ROW: Final = "SELECT box, occurrence, claimed, uid, number, octets, flags, date, sha256, problem FROM shown"
_ONE: Final = f"{_ROW} WHERE box = ? AND uid = ? AND occurrence = ?"
_STARTING: Final = f"{_ROW} WHERE box = ? AND uid >= ? AND uid < ? LIMIT 1"
_ORDERED: Final = f"{_ROW} WHERE box = ? AND (uid, occurrence) > (?, ?) ORDER BY uid, occurrence LIMIT {PAGE}"
_NUMBERED: Final = f"{_ROW} WHERE box = ? AND number > ? ORDER BY number LIMIT {PAGE}"
_FREE: Final = f"{_ROW} WHERE claimed = 0 AND box > 0 AND +box >= ? AND +box < ?"
_READ: Final = "UPDATE shown SET octets = ?, sha256 = ?, problem = ? WHERE box = ? AND number = ?"
_HEADER: Final = "UPDATE shown SET header = ? WHERE box = ? AND number = ?"
_CLAIM: Final = "UPDATE shown SET claimed = 1 WHERE box = ? AND uid = ? AND occurrence = ?"
_TOTALS: Final = "SELECT count(*), coalesce(sum(octets), 0) FROM shown WHERE box = ?"
_OTHERS: Final = f"{_TOTALS} AND claimed = 0"
_FEW_NEXT: Final = f"AND box = ? AND number > ? ORDER BY number LIMIT {PAGE}"
_LOST_OCTETS: Final = "SELECT octets FROM lost WHERE destination = ?"
_UNCLAIMED: Final = f"{_ROW} WHERE claimed = 0 {_FEW_NEXT}"
_SIZED: Final = f"{_ROW} WHERE claimed = 0 AND octets IN ({_LOST_OCTETS}) {_FEW_NEXT}"
_CLAIMED: Final = "CREATE INDEX IF NOT EXISTS by_claim ON shown (box, octets, date) WHERE claimed = 1"
_ALIKE: Final = """SELECT count(*) FROM shown s WHERE box = ? AND claimed = 0 AND EXISTS (SELECT 1 FROM shown c
    WHERE c.claimed = 1 AND c.box = s.box AND c.octets = s.octets AND c.date IS s.date AND c.sha256 IS s.sha256)"""
_SEARCHED: Final = tuple(  # when everything is noted
    f"CREATE INDEX IF NOT EXISTS by_{name} ON shown ({columns}) WHERE claimed = 0 AND box > 0"
    for name, columns in (("octets", "octets, date"), ("date", "date"), ("sha256", "sha256"), ("header", "header"))
)
_TELL: Final = "INSERT INTO entries VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?)"
_TOLD: Final = """SELECT mailbox, destination, digits, uid, id, occurrence, place, status, reason FROM entries
    WHERE (mailbox, destination, digits, uid, id) > (?, ?, ?, ?, ?) ORDER BY mailbox, destination, digits, uid, id
    LIMIT 1000"""
_LOSE: Final = "INSERT INTO lost VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)"
_LOSSES: Final = "SELECT * FROM lost WHERE destination = ? AND id > ? AND found = 0 ORDER BY id"
_LOST: Final = f"{_LOSSES} LIMIT {PAGE}"
_FOUND: Final = "UPDATE lost SET found = 1 WHERE id = ?"


class Spotted(NamedTuple):
    """A message at a destination, where it is, and whether another message has claimed it before."""

    box: int
    occurrence: int
    fact: Fact
    claimed: bool = False


class Lost(NamedTuple):
    """A message of the source that is not where its receipt says, or whose receipt says nothing.

    `box` is where it should be, `place` what that is called. With `certain=True` it was there and is not any more.
    """

    case: Case
    original: Original
    here: Fact
    box: int
    place: str
    reason: str
    certain: bool


class Scratch:
    """The notes. For one thread; raises StorageError."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Throw the notes away. Repeatable."""
        self._connection.close()

    # --- what an end shows -----------------------------------------------------------------------------

    def empty(self, box: int) -> None:
        """Forget what was shown in a box."""
        self._run("DELETE FROM shown WHERE box = ?", (box,))

    def add(self, box: int, chunk: Sequence[Facts]) -> None:
        """Note a chunk of a listing."""
        rows = [
            (
                *(box, one.uid, one.number, one.octets),
                None if one.flags is None else b" ".join(to_octets(one.flags)),
                *(seconds(one.internal_date), one.sha256),
            )
            for one in chunk
        ]
        try:
            self._connection.executemany(_ADD, rows)
        except sqlite3.Error as error:
            raise _failure(error) from error

    def note_read(self, box: int, number: int, octets: int, sha256: bytes | None, problem: str = "") -> None:
        """Note what was read of a message, or why it could not be."""
        self._run(_READ, (octets, sha256, problem, box, number))

    def note_header(self, box: int, number: int, header_hash: bytes) -> None:
        """Note the hash of a message's header."""
        self._run(_HEADER, (header_hash, box, number))

    def pages(self, box: int) -> Iterator[list[Fact]]:
        """The messages of a box in the order of its listing, in pages: the notes may change meanwhile."""
        last = 0
        while page := [_spotted(row).fact for row in self._run(_NUMBERED, (box, last)).fetchall()]:
            yield page
            last = page[-1].number

    def ordered(self, box: int) -> Iterator[tuple[int, Fact]]:
        """Yields occurrence and message, by uid and occurrence."""
        last = (b"", 0)
        while page := list(map(_spotted, self._run(_ORDERED, (box, *last)).fetchall())):
            last = (page[-1].fact.uid, page[-1].occurrence)
            for one in page:
                yield one.occurrence, one.fact

    def totals(self, box: int) -> tuple[int, int]:
        """Returns messages and octets of a box."""
        messages, octets = self._one(_TOTALS, (box,))
        return messages, octets

    # --- copies ----------------------------------------------------------------------------------------

    def find(self, box: int, uid: bytes, occurrence: int = 1) -> Spotted | None:
        """Returns a message of a box."""
        row = self._run(_ONE, (box, uid, occurrence)).fetchone()
        return None if row is None else _spotted(row)

    def starting(self, box: int, start: bytes) -> Spotted | None:
        """Returns a message of a box whose uid starts so."""
        row = self._run(_STARTING, (box, start, start + b"\xff")).fetchone()
        return None if row is None else _spotted(row)

    def claim(self, spotted: Spotted) -> None:
        """Note that a message is the copy of a message of the source."""
        self._run(_CLAIM, (spotted.box, spotted.fact.uid, spotted.occurrence))

    def others(self, box: int) -> tuple[int, int]:
        """Returns messages and octets of a box that nothing claims."""
        messages, octets = self._one(_OTHERS, (box,))
        return messages, octets

    def unclaimed(self, box: int, destination: int | None = None) -> Iterator[Fact]:
        """Yields messages of a box that nothing claims; with a destination, those with the octets of a lost message."""
        last = 0
        query, values = (_UNCLAIMED, ()) if destination is None else (_SIZED, (destination,))
        while page := [_spotted(row).fact for row in self._run(query, (*values, box, last)).fetchall()]:
            yield from page
            last = page[-1].number

    def alike(self, box: int) -> int:
        """Returns how many messages of a box that nothing claims have octets, date and SHA-256 of a claimed one."""
        self._run(_CLAIMED)
        [number] = self._one(_ALIKE, (box,))
        return int(number)

    def begin_search(self) -> None:
        """Make `free` and `like` quick, when everything is noted."""
        for statement in _SEARCHED:
            self._run(statement)

    def free(
        self,
        boxes: range,
        *,
        octets: int | None = None,
        date: int | None = None,
        sha256: bytes | None = None,
        header: bytes | None = None,
        silent: bool = False,
    ) -> list[Spotted]:
        """Returns a few messages in `boxes` that nothing claims, with everything that is given.

        With `silent=True` only messages whose header was not given.
        """
        facts = {"octets": octets, "date": date, "sha256": sha256, "header": header}
        given = {name: value for name, value in facts.items() if value is not None}
        query = _FREE + "".join(f" AND {name} = ?" for name in given)
        query += " AND header IS NULL" if silent else ""
        rows = self._run(f"{query} LIMIT {FEW}", [boxes.start, boxes.stop, *given.values()]).fetchall()
        return list(map(_spotted, rows))

    # --- results ---------------------------------------------------------------------------------------

    def tell(  # noqa: PLR0917  the columns of a row
        self, mailbox: int, destination: int, uid: bytes, occurrence: int, place: str, status: Status, reason: str
    ) -> None:
        """Note an entry of the report; mailbox and destination by their numbers."""
        row = (mailbox, destination, uid, occurrence, place, status.value, reason, len(uid) if uid.isdigit() else 0)
        self._run(_TELL, row)

    def entries(self, paths: Sequence[Path], names: Sequence[str]) -> Iterator[Entry]:
        """The entries, by mailbox, destination, and the order in which they were noted. `paths` and `names`: theirs."""
        last = (-1, -1, -1, b"", 0)
        while page := self._run(_TOLD, last).fetchall():
            last = page[-1][:5]
            for mailbox, destination, _, uid, _, occurrence, place, status, reason in page:
                named = (paths[mailbox], printable(uid), occurrence, names[destination])
                yield Entry(*named, place, Status(status), reason)

    def lose(self, lost: Lost) -> None:
        """Note a message that is to be looked for when everything has been claimed that has a receipt."""
        octets, sha256, header, listed, at, receipt = lost.original
        here = lost.here
        flags = None if here.flags is None else b" ".join(to_octets(here.flags))
        row = (
            *(lost.case.destination, lost.case.mailbox, here.uid, lost.case.occurrence),
            *(octets, sha256, header, listed, seconds(at), receipt),
            *(here.number, here.octets, flags, here.date, here.sha256, here.problem),
            *(lost.box, lost.place, lost.reason, lost.certain),
        )
        self._run(_LOSE, row)

    def lost(self, destination: int) -> Iterator[tuple[int, Lost]]:
        """What is still to be looked for, each with its key, in the order in which it was noted."""
        last = 0
        while page := self._run(_LOST, (destination, last)).fetchall():
            last = page[-1][0]
            for key, _, mailbox, uid, occurrence, octets, sha256, header, listed, at, receipt, *rest in page:
                *here, box, place, why, certain, _ = rest
                case = Case(mailbox, destination, uid, occurrence)
                delivered = None if at is None else date_of(at)
                original = Original(octets, sha256, header, listed, delivered, receipt)
                yield key, Lost(case, original, _fact((uid, *here)), box, place, why, bool(certain))

    def find_lost(self, key: int) -> None:
        """Note that a lost message was found: `lost` has it no more."""
        self._run(_FOUND, (key,))

    # --- inside ----------------------------------------------------------------------------------------

    def _run(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(statement, values)
        except sqlite3.Error as error:
            raise _failure(error) from error

    def _one(self, statement: str, values: Sequence[Any]) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self._run(statement, values).fetchone()
        return row


def _spotted(row: Sequence[Any]) -> Spotted:
    box, occurrence, claimed, *fact = row
    return Spotted(box, occurrence, _fact(fact), bool(claimed))


def _fact(row: Sequence[Any]) -> Fact:
    uid, number, octets, flags, date, sha256, problem = row
    return Fact(uid, number, octets, None if flags is None else _flags(flags), date, sha256, problem)


@lru_cache(CACHED)
def _flags(octets: bytes) -> Flags:
    return from_octets(filter(None, octets.split(b" ")))


def _failure(error: sqlite3.Error) -> StorageError:
    return StorageError(f"cannot note what is compared in a temporary file: {error}")
