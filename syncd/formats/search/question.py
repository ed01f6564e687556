"""What people ask an archive: words, phrases, and fields with a colon.

    invoice 2024            both words, anywhere: sender, recipients, subject, names of attachments, text
    "annual report"         these words one after another
    invoi*                  words that begin so
    from:ann to:team subject:"annual report"
    has:attachment  larger:5M  before:2024-01-01  after:2023-12-24
    account:road mailbox:Lists/2019
    invoice OR receipt      one of them; OR binds closer than the space between words
    -draft  -from:ann       messages without

Everything must match. A word with signs in it (an address, a version) stands for its parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from itertools import chain
from typing import Final, NamedTuple

from syncd.errors import UsageError, printable
from syncd.formats.search.words import Field, words

MAX_QUESTION: Final = 1_000  # characters
MAX_TERMS: Final = 50  # words
MOST_OCTETS: Final = 1 << 40  # no message has more
MIN_START: Final = 3  # letters before a *: fewer are those of thousands of words
_TERM: Final = re.compile(r'\s*(-(?=[\w"]))?(?:([A-Za-z]+):\s*)?(?:"([^"]*)"?|([^\s"]\S*))?')
OR: Final = "OR"
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


ATTACHED: Final = Term(("attachment",), Field.HAS)


@dataclass(frozen=True, slots=True)
class Question:
    """A question to an archive. Instants: `after` counts, `before` does not."""

    terms: tuple[tuple[Term, ...], ...] = ()  # of each group one must be there
    without: tuple[Term, ...] = ()  # none of them may be there
    before: datetime | None = None
    after: datetime | None = None
    larger: int | None = None  # octets that the message must have more of
    at_most: int | None = None  # octets
    accounts: tuple[str, ...] = ()  # the message was seen at one of them
    mailboxes: tuple[str, ...] = ()
    not_accounts: tuple[str, ...] = ()  # it was seen at none of them
    not_mailboxes: tuple[str, ...] = ()

    @property
    def has_phrases(self) -> bool:
        """Tells whether it takes the order of words to answer it: words one after another."""
        return any(term.in_order for term in (*self.without, *chain.from_iterable(self.terms)))

    @property
    def names_places(self) -> bool:
        """Tells whether it names accounts or mailboxes."""
        return bool(self.accounts or self.mailboxes or self.not_accounts or self.not_mailboxes)


class _Part(NamedTuple):
    """A word or field as it was written. `name` is the field, "" for none."""

    name: str
    value: str
    is_quoted: bool
    is_excluded: bool


def parse(text: str, zone: tzinfo | None = None) -> Question:
    """Read a question; days are those of `zone`, None: of the system. Raises UsageError with what is expected."""
    if len(text) > MAX_QUESTION:
        raise UsageError(f"a search has at most {MAX_QUESTION:,} characters")
    question, groups = Question(), _groups(_parts(text))
    if groups and all(part.is_excluded for group in groups for part in group):
        raise UsageError(_ONLY_EXCLUDES)
    for group in groups:
        question = _with_any(question, group) if len(group) > 1 else _with(question, group[0], zone)
    if sum(len(term.words) for term in (*question.without, *chain.from_iterable(question.terms))) > MAX_TERMS:
        raise UsageError(f"a search has at most {MAX_TERMS} words")
    return question


_EXAMPLES: Final = {
    "from": "from:ann", "to": "to:team@example.org", "subject": 'subject:"annual report"', "has": "has:attachment",
    "before": "before:2024-01-31", "after": "after:2023-12-24", "larger": "larger:5M", "account": "account:road",
    "mailbox": "mailbox:INBOX",
}  # fmt: skip


def _parts(text: str) -> Iterator[_Part | None]:
    """The words and fields of a question; None stands for OR."""
    for found in _TERM.finditer(text):
        if not found[0].strip():
            continue
        name, quoted, plain = (found[2] or "").lower(), found[3], found[4] or ""
        if found[0].strip() == OR:
            yield None
            continue
        value = plain if quoted is None else quoted
        if name and name not in FIELDS:
            if not plain.startswith("//"):
                known = ", ".join(FIELDS)
                raise UsageError(f'there is no field {printable(name)!r}; fields are {known}; for the word: "{name}"')
            name, value = "", f"{name} {value}"  # http://…
        if name and not value.strip():
            raise UsageError(f'"{name}:" has nothing behind it, such as {_EXAMPLES[name]}')
        yield _Part(name, value, quoted is not None, bool(found[1]))


def _groups(parts: Iterable[_Part | None]) -> list[list[_Part]]:
    """Returns what stands beside each other, with what OR joins together. Raises UsageError."""
    groups: list[list[_Part]] = []
    joins = False
    for part in parts:
        if part is None:
            if joins or not groups:
                raise UsageError(_LONELY)
            joins = True
        elif joins:
            groups[-1].append(part)
            joins = False
        else:
            groups.append([part])
    if joins:
        raise UsageError(_LONELY)
    return groups


_ONLY_EXCLUDES: Final = "this search says only what messages lack; add what they have, such as: after:2024-01-31 -draft"
_LONELY: Final = 'OR stands between two words, such as: invoice OR receipt; for the word: "OR"'


def _with_any(question: Question, group: Sequence[_Part]) -> Question:
    """Add what OR joins: words and texts, or accounts, or mailboxes. Raises UsageError."""
    if any(part.is_excluded for part in group):
        raise UsageError('what a "-" excludes cannot be joined with OR; to exclude both: -draft -copy')
    kinds = {part.name if part.name in {"account", "mailbox"} else "" for part in group}
    ranges = [part.name for part in group if part.name in {"before", "after", "larger"}]
    if ranges:
        raise UsageError(f"{ranges[0]}: cannot be joined with OR; search twice")
    if len(kinds) > 1:
        raise UsageError("OR joins words with words, accounts with accounts, or mailboxes with mailboxes")
    if kinds == {""}:
        return replace(question, terms=(*question.terms, tuple(_term(part) for part in group)))
    return _with_places(question, group)


def _with_places(question: Question, group: Sequence[_Part]) -> Question:
    names, kind = tuple(part.value for part in group), group[0].name
    if group[0].is_excluded:
        if kind == "account":
            return replace(question, not_accounts=(*question.not_accounts, *names))
        return replace(question, not_mailboxes=(*question.not_mailboxes, *names))
    if question.accounts if kind == "account" else question.mailboxes:
        raise UsageError(f"{kind}: stands there twice; to look in both: {kind}:one OR {kind}:other")
    return replace(question, accounts=names) if kind == "account" else replace(question, mailboxes=names)


def _with(question: Question, part: _Part, zone: tzinfo | None) -> Question:
    match part.name:
        case "before" | "after":
            at = _instant(part.name, part.value, zone)
            if (part.name == "before") is not part.is_excluded:
                return replace(question, before=min(at, question.before or at))
            return replace(question, after=max(at, question.after or at))
        case "larger":
            octets = _octets(part.value)
            if part.is_excluded:
                return replace(question, at_most=min(octets, octets if question.at_most is None else question.at_most))
            return replace(question, larger=max(octets, question.larger or 0))
        case "account" | "mailbox":
            return _with_places(question, [part])
    if part.is_excluded:
        return replace(question, without=(*question.without, _term(part)))
    return replace(question, terms=(*question.terms, (_term(part),)))


def _term(part: _Part) -> Term:
    value = part.value
    if part.name == "has":
        if value.lower() not in {"attachment", "attachments"}:
            raise UsageError(f"has:{printable(value)} is unknown; write has:attachment")
        return ATTACHED
    found = tuple(words(value))
    if not found:
        raise UsageError(f"{printable(value)!r} has neither letters nor digits to look for")
    is_open = not part.is_quoted and value.endswith("*")
    if is_open and len(found[-1]) < MIN_START and found[-1].isascii():
        raise UsageError(f"{printable(value)} is too short; write {MIN_START} letters or more before the *")
    return Term(found, _TEXTS.get(part.name), in_order=part.is_quoted and len(found) > 1, open=is_open)


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
