"""Questions as statements on a search index, whose tables `index` describes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from syncd.formats.search.question import Question
from syncd.formats.search.words import Field

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE_S: Final = 60  # larger steps have smaller numbers, and a hundred messages may share an hour
MAX_BITS: Final = 42  # of a message's octets; a terabyte has 41
_HIT: Final = "m.id, m.key, m.at, m.octets, m.attachments, m.sender, m.subject"
_OF_FEW: Final = "(SELECT DISTINCT message FROM places WHERE mailbox IN ({})) p CROSS JOIN"
_TABLES: Final = {  # whether words are asked for, whether in mailboxes with few messages → where from, in which order
    (True, False): ("words w CROSS JOIN messages m ON m.id = w.rowid", "w.rowid"),
    (True, True): (f"{_OF_FEW} words w ON w.rowid = p.message CROSS JOIN messages m ON m.id = p.message", "m.id"),
    (False, False): ("messages m", "m.id"),
    (False, True): (f"{_OF_FEW} messages m ON m.id = p.message", "m.id"),
}


class Places(NamedTuple):
    """Mailboxes to look in, by their numbers with commas between, and whether they have few messages."""

    mailboxes: str
    are_few: bool


def statement(question: Question, latest: int, below: int | None, places: Places | None) -> tuple[str, list[object]]:
    """Returns what selects messages, the newest first, with its values; a last one is how many.

    `latest` is the largest distance of an id from its minute; with `below`, only messages after this place.
    """
    asked = match(question)
    tables, order = _TABLES[bool(asked), places is not None and places.are_few]
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
    clauses = ["m.key IS NOT NULL", *(clause for clause, _ in wanted)]
    if places is not None:
        tables = tables.format(places.mailboxes)
        if not places.are_few:
            here = f"p.message = m.id AND p.mailbox IN ({places.mailboxes})"
            clauses.append(f"EXISTS (SELECT 1 FROM places p WHERE {here})")  # noqa: S608  numbers
    where = " AND ".join(clauses)
    selected = f"SELECT {_HIT} FROM {tables} WHERE {where} ORDER BY {order} DESC LIMIT ?"  # noqa: S608  no value in it
    return selected, [value for _, value in wanted]


def match(question: Question) -> str:
    """Returns a question in the words of FTS5; "" where it asks for no words."""
    found = []
    for term in question.terms:
        mark = term.field.value if term.field else ""
        *first, last = (f'"{mark}{word}"' for word in term.words)
        found += [*first, f"{last}*" if term.open else last]
    if question.has_attachment:
        found.append(f'"{Field.HAS.value}attachment"')
    if question.larger:
        sizes = range((question.larger + 1).bit_length(), MAX_BITS)
        found.append("(" + " OR ".join(f'"{Field.SIZE.value}{size}"' for size in sizes) + ")")
    return " AND ".join(found)


def numbers(within: Iterable[int]) -> str:
    """Returns the numbers of mailboxes as a list of SQL; of none a list that nothing is in."""
    return ",".join(map(str, map(int, within))) or "NULL"


def seconds(at: datetime) -> int:
    """Returns an instant as seconds since 1970."""
    return int((at - EPOCH).total_seconds())
