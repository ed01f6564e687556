"""Questions as statements on the tables of search indexes. Pure; the same answers as `formats.search.statement`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

from sqlalchemy import Select, cast, exists, select
from sqlalchemy.dialects.postgresql import TSQUERY

from syncd.db.search.tables import ARCHIVE_MARK, search_messages, search_places
from syncd.formats.search.question import Question, Term
from syncd.formats.search.statement import MINUTE_S, seconds, sizes_of
from syncd.formats.search.words import Field

_M: Final = search_messages.c


def statement(
    question: Question,
    archive: int,
    latest: int,
    below: int | None,
    *,
    within: Collection[int] | None,
    without: Collection[int],
) -> Select[Any]:
    """Returns what selects messages of an archive, the newest first.

    `latest` is the largest distance of an id from its minute; with `below`, only messages after this place. `within`
    are the mailboxes to look in (None: all), and no message may be in one of `without`.
    """
    found = select(_M.id, _M.key, _M.at, _M.octets, _M.attachments, _M.sender, _M.subject).where(
        _M.archive_id == archive
    )
    asked = query(question)
    if asked:
        words = f"{_word(f'{ARCHIVE_MARK}{archive}')} & {asked}"
        found = found.where(_M.words.op("@@")(cast(words, TSQUERY)))
    if below is not None:
        found = found.where(_M.id < below)
    if question.before is not None:
        before = seconds(question.before)
        found = found.where(_M.id <= before // MINUTE_S + latest, _M.at < before)
    if question.after is not None:
        after = seconds(question.after)
        found = found.where(_M.id >= after // MINUTE_S, _M.at >= after)
    if question.larger is not None:
        found = found.where(_M.octets > question.larger)
    if question.at_most is not None:
        found = found.where(_M.octets <= question.at_most)
    if within is not None:
        found = found.where(_seen_in(archive, within))
    if without:
        found = found.where(~_seen_in(archive, without))
    return found.order_by(_M.id.desc())


def _seen_in(archive: int, mailboxes: Collection[int]) -> Any:  # a condition
    place = search_places.c
    return exists().where(
        place.archive_id == archive,
        place.message == _M.id,
        place.mailbox_id.in_(list(mailboxes)),
        _M.archive_id == archive,
    )


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
