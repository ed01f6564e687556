"""What people ask an archive: words, phrases, and fields with a colon.

    invoice 2024            both words, anywhere: sender, recipients, subject, names of attachments, text
    "annual report"         these words one after another
    invoi*                  words that begin so
    from:ann to:team subject:"annual report"
    has:attachment  larger:5M  before:2024-01-01  after:2023-12-24
    account:road mailbox:Lists/2019

Everything must match. A word with signs in it (an address, a version) stands for its parts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from typing import Final

from syncd.errors import UsageError, printable
from syncd.formats.search.words import Field, words

MAX_QUESTION: Final = 1_000  # characters
MAX_TERMS: Final = 50  # words
MOST_OCTETS: Final = 1 << 40  # no message has more
MIN_START: Final = 3  # letters before a *: fewer are those of thousands of words
_TERM: Final = re.compile(r'\s*(?:([A-Za-z]+):\s*)?(?:"([^"]*)"?|([^\s"]\S*))?')
_SIZE: Final = re.compile(r"(\d{1,12})(?:([kmg])(?:i?b)?)?", re.IGNORECASE)
_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_TEXTS: Final = {"from": Field.FROM, "to": Field.TO, "subject": Field.SUBJECT}
_DAY: Final = len("2024-01-31")
FIELDS: Final = ("from", "to", "subject", "has", "before", "after", "larger", "account", "mailbox")


@dataclass(frozen=True, slots=True)
class Term:
    """Words that must be there, in one field or anywhere.

    With `in_order=True` they come one after another; with `open=True` a word that begins as the last one will do.
    """

    words: tuple[str, ...]
    field: Field | None = None
    in_order: bool = False
    open: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """A question to an archive. Instants: `after` counts, `before` does not."""

    terms: tuple[Term, ...] = ()
    has_attachment: bool = False
    before: datetime | None = None
    after: datetime | None = None
    larger: int | None = None  # octets that the message must have more of
    account: str | None = None
    mailbox: str | None = None

    @property
    def phrases(self) -> tuple[Term, ...]:
        """Returns what only the messages themselves can tell: words one after another."""
        return tuple(term for term in self.terms if term.in_order)


def parse(text: str, zone: tzinfo | None = None) -> Question:
    """Read a question; days are those of `zone`, None: of the system. Raises UsageError with what is expected."""
    if len(text) > MAX_QUESTION:
        raise UsageError(f"a search has at most {MAX_QUESTION:,} characters")
    question = Question()
    for found in _TERM.finditer(text):
        if not found[0].strip():
            continue
        name, quoted, plain = (found[1] or "").lower(), found[2], found[3] or ""
        value = plain if quoted is None else quoted
        if name and name not in FIELDS:
            if not plain.startswith("//"):
                known = ", ".join(FIELDS)
                raise UsageError(f'there is no field {printable(name)!r}; fields are {known}; for the word: "{name}"')
            name, value = "", f"{name} {value}"  # http://…
        if name and not value.strip():
            raise UsageError(f'"{name}:" has nothing behind it, such as {_EXAMPLES[name]}')
        question = _with(question, name, value, zone, is_quoted=quoted is not None)
    if sum(len(term.words) for term in question.terms) > MAX_TERMS:
        raise UsageError(f"a search has at most {MAX_TERMS} words")
    return question


_EXAMPLES: Final = {
    "from": "from:ann", "to": "to:team@example.org", "subject": 'subject:"annual report"', "has": "has:attachment",
    "before": "before:2024-01-31", "after": "after:2023-12-24", "larger": "larger:5M", "account": "account:road",
    "mailbox": "mailbox:INBOX",
}  # fmt: skip


def _with(question: Question, name: str, value: str, zone: tzinfo | None, *, is_quoted: bool) -> Question:
    match name:
        case "has":
            if value.lower() not in {"attachment", "attachments"}:
                raise UsageError(f"has:{printable(value)} is unknown; write has:attachment")
            return replace(question, has_attachment=True)
        case "before":
            at = _instant(name, value, zone)
            return replace(question, before=min(at, question.before or at))
        case "after":
            at = _instant(name, value, zone)
            return replace(question, after=max(at, question.after or at))
        case "larger":
            return replace(question, larger=max(_octets(value), question.larger or 0))
        case "account":
            return replace(question, account=value)
        case "mailbox":
            return replace(question, mailbox=value)
    return replace(question, terms=(*question.terms, *_term(value, _TEXTS.get(name), is_quoted=is_quoted)))


def _term(value: str, field: Field | None, *, is_quoted: bool) -> tuple[Term, ...]:
    found = tuple(words(value))
    if not found:
        raise UsageError(f"{printable(value)!r} has neither letters nor digits to look for")
    is_open = not is_quoted and value.endswith("*")
    if is_open and len(found[-1]) < MIN_START and found[-1].isascii():
        raise UsageError(f"{printable(value)} is too short; write {MIN_START} letters or more before the *")
    return (Term(found, field, in_order=is_quoted and len(found) > 1, open=is_open),)


def _instant(name: str, value: str, zone: tzinfo | None) -> datetime:
    """Returns the beginning of a day, or an instant. `after` a day means from its end on."""
    try:
        at = datetime.fromisoformat(value)
        at = at if at.tzinfo is not None else at.replace(tzinfo=zone) if zone else at.astimezone()
        return at + timedelta(days=1) if name == "after" and len(value) == _DAY else at
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"{name}:{printable(value)} is no date; write {_EXAMPLES[name]}") from None


def _octets(value: str) -> int:
    found = _SIZE.fullmatch(value)
    if found is None:
        raise UsageError(f"larger:{printable(value)} is no size; write larger:5M, larger:200k or octets")
    return min(MOST_OCTETS, int(found[1]) * _UNITS[(found[2] or "").lower()])
