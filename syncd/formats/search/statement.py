"""Questions as statements on a search index, whose tables `index` describes. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Final, NamedTuple

from syncd.formats.search.question import Question, Term
from syncd.formats.search.words import Field

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE_S: Final = 60  # larger steps have smaller numbers, and a hundred messages may share an hour
SOME_BITS: Final = 32  # of a digest
MAX_BITS: Final = 42  # of a message's octets; a terabyte has 41
_HIT: Final = "m.id, m.key, m.at, m.octets, m.attachments, m.sender, m.subject"
_OF_FEW: Final = "(SELECT DISTINCT message FROM places WHERE mailbox IN ({})) p CROSS JOIN"
_SEEN_IN: Final = "SELECT 1 FROM places p WHERE p.message = m.id AND p.mailbox IN ({})"
_TABLES: Final = {  # whether words are asked for, whether in mailboxes with few messages → where from, in which order
    (True, False): ("words w CROSS JOIN messages m ON m.id = w.rowid", "w.rowid"),
    (True, True): (f"{_OF_FEW} words w ON w.rowid = p.message CROSS JOIN messages m ON m.id = p.message", "m.id"),
    (False, False): ("messages m", "m.id"),
    (False, True): (f"{_OF_FEW} messages m ON m.id = p.message", "m.id"),
}


class Places(NamedTuple):
    """Mailboxes to look in (None: all), whether they have few messages, and those in which no message may be.

    They are numbers with commas between.
    """

    mailboxes: str | None = None
    are_few: bool = False
    without: str = ""


def statement(question: Question, latest: int, below: int | None, places: Places) -> tuple[str, list[object]]:
    """Returns what selects messages, the newest first, with its values; a last one is how many.

    `latest` is the largest distance of an id from its minute; with `below`, only messages after this place.
    """
    asked = match(question)
    tables, order = _TABLES[bool(asked), places.are_few]
    wanted: list[tuple[str, object]] = [("words MATCH ?", asked)] if asked else []
    if below is not None:
        wanted.append((f"{order} < ?", below))
    if question.before is not None:
        before = seconds(question.before)
        wanted += [(f"{order} <= ?", before // MINUTE_S + latest), ("m.at < ?", before)]
    if question.after is not None:
        after = seconds(question.after)
        wanted += [(f"{order} >= ?", after // MINUTE_S), ("m.at >= ?", after)]
    if question.larger is not None:
        wanted.append(("m.octets > ?", question.larger))
    if question.at_most is not None:
        wanted.append(("m.octets <= ?", question.at_most))
    clauses = ["m.key IS NOT NULL", *(clause for clause, _ in wanted)]
    if places.mailboxes is not None:
        tables = tables.format(places.mailboxes)
        if not places.are_few:
            clauses.append(f"EXISTS ({_SEEN_IN.format(places.mailboxes)})")
    if places.without:
        clauses.append(f"NOT EXISTS ({_SEEN_IN.format(places.without)})")
    where = " AND ".join(clauses)
    selected = f"SELECT {_HIT} FROM {tables} WHERE {where} ORDER BY {order} DESC LIMIT ?"  # noqa: S608  no value in it
    return selected, [value for _, value in wanted]


def match(question: Question) -> str:
    """Returns a question in the words of FTS5; "" where it asks for no words."""
    wanted = [_one_of(group) for group in question.terms]
    excluded = [_all_of(term) for term in question.without if not term.in_order]  # who has a phrase's words may stay
    sizes = sizes_of(question)
    if sizes and (
        question.larger or question.at_most is not None or (excluded and not wanted)
    ):  # NOT follows something
        wanted.append("(" + " OR ".join(f'"{Field.SIZE.value}{size}"' for size in sizes) + ")")
    found = " AND ".join(wanted)
    return f"({found}) NOT ({' OR '.join(excluded)})" if found and excluded else found


def _one_of(group: Iterable[Term]) -> str:
    return "(" + " OR ".join(map(_all_of, group)) + ")"


def _all_of(term: Term) -> str:
    mark = term.field.value if term.field else ""
    *first, last = (f'"{mark}{word}"' for word in term.words)
    return "(" + " AND ".join([*first, f"{last}*" if term.open else last]) + ")"


def sizes_of(question: Question) -> range:
    """Returns how many binary digits the octets of messages that answer a question may have."""
    end = MAX_BITS if question.at_most is None else min(MAX_BITS, question.at_most.bit_length() + 1)
    return range(0 if question.larger is None else (question.larger + 1).bit_length(), end)


def numbers(within: Iterable[int]) -> str:
    """Returns the numbers of mailboxes as a list of SQL; of none a list that nothing is in."""
    return ",".join(map(str, map(int, within))) or "NULL"


def seconds(at: datetime) -> int:
    """Returns an instant as seconds since 1970."""
    return int((at - EPOCH).total_seconds())


def candidates(key: bytes, at: int) -> Iterator[int]:
    """The ids that a message may have, not far behind the minute of its instant: the first that is free is its own."""
    minute, some = at // MINUTE_S, int.from_bytes(hashlib.sha256(key).digest()[: SOME_BITS // 8])
    yield minute
    yield from (minute + (some & ((1 << width) - 1)) for width in range(1, SOME_BITS + 1))
    yield from count(minute + some + 1)
