"""Questions as statements on the tables of search indexes. Pure; the same answers as `formats.search.statement`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Select, any_, cast, exists, select
from sqlalchemy.dialects.postgresql import ARRAY, TSQUERY

from syncd.db.search.tables import ARCHIVE_MARK, search_messages, search_places
from syncd.formats.search.question import Question, Term
from syncd.formats.search.statement import MINUTE_S, seconds, sizes_of
from syncd.formats.search.words import Field

Columns = Any  # of a table or a subquery, by their names
NEWEST: Final = 4_000  # messages that are looked at one by one: some 20 ms
_M: Final = search_messages.c
_HIT: Final = (_M.id, _M.key, _M.at, _M.octets, _M.attachments, _M.sender, _M.subject)


class Part(NamedTuple):
    """What is asked of an archive: `latest` is the largest distance of an id from its minute.

    With `below`, only messages after this place. `within` are the mailboxes to look in (None: all), and no message may
    be in one of `without`.
    """

    archive: int
    latest: int
    below: int | None
    within: Collection[int] | None
    without: Collection[int]


def statements(question: Question, part: Part) -> list[Select[Any]]:
    """Returns what selects messages of an archive, the newest first. The last one gives all; one before it may do.

    Left to itself, PostgreSQL would read an archive from its newest message on for what is rare, as it knows the
    frequency of a thousand words alone, and no ages. So the newest messages are looked at for what is frequent, and if
    these are too few, all are gathered in the way that reads least, and sorted.
    """
    asked, span = query(question), tuple(_span(question, part))
    if not asked and part.within is None:
        return [_ordered(select(*_HIT).where(*span, *_rest(_M, question, part)), _M)]
    words = cast(f"{_word(f'{ARCHIVE_MARK}{part.archive}')} & {asked}", TSQUERY) if asked else None
    newest = select(*_HIT, _M.words).where(*span).order_by(_M.id.desc()).limit(NEWEST).subquery().c
    first = select(*(newest[column.name] for column in _HIT)).where(*_rest(newest, question, part, words))
    every = select(*_HIT).where(*span, *_rest(_M, question, part, words)).cte().prefix_with("MATERIALIZED")
    return [_ordered(first, newest), _ordered(select(every), every.c)]


def _ordered(found: Select[Any], table: Columns) -> Select[Any]:
    return found.order_by(table.id.desc())


def _span(question: Question, part: Part) -> Iterator[ColumnElement[bool]]:
    """The messages between two places of the archive's order, and between two instants."""
    yield _M.archive_id == part.archive
    if part.below is not None:
        yield _M.id < part.below
    if question.before is not None:
        yield _M.id <= seconds(question.before) // MINUTE_S + part.latest
        yield _M.at < seconds(question.before)
    if question.after is not None:
        yield _M.id >= seconds(question.after) // MINUTE_S
        yield _M.at >= seconds(question.after)


def _rest(
    table: Columns, question: Question, part: Part, words: ColumnElement[Any] | None = None
) -> Iterator[ColumnElement[bool]]:
    """What else is asked of a message."""
    if words is not None:
        yield table.words.op("@@")(words)
    if question.larger is not None:
        yield table.octets > question.larger
    if question.at_most is not None:
        yield table.octets <= question.at_most
    if part.within is not None:
        yield _seen_in(table, part.archive, part.within)
    if part.without:
        yield ~_seen_in(table, part.archive, part.without)


def _seen_in(table: Columns, archive: int, mailboxes: Collection[int]) -> ColumnElement[bool]:
    place = search_places.c
    numbers = cast(list(mailboxes), ARRAY(BigInteger))  # one value: a statement has at most 65,535 of them
    return exists().where(place.archive_id == archive, place.message == table.id, place.mailbox_id == any_(numbers))


def query(question: Question) -> str:
    """Returns a question as a tsquery; "" where it asks for no words."""
    wanted = [_one_of(map(_all_of, group)) for group in question.terms]
    wanted += [f"!{_all_of(term)}" for term in question.without if not term.in_order]
    if question.larger or question.at_most is not None:
        sizes = [_word(f"{Field.SIZE.value}{size}") for size in sizes_of(question)]
        wanted += [_one_of(sizes)] if sizes else []
    return " & ".join(wanted)


def _one_of(words: Iterable[str]) -> str:
    return f"({' | '.join(words)})"


def _all_of(term: Term) -> str:
    mark = term.field.value if term.field else ""
    *first, last = (_word(f"{mark}{word}") for word in term.words)
    return f"({' & '.join([*first, f'{last}:*' if term.open else last])})"


def _word(word: str) -> str:
    """Returns a word in quotes; words are letters and digits, with a control character before them or none."""
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"
