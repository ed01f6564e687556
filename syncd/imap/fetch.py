r"""FETCH: what is asked, what a response says, and which message it belongs to (RFC 3501 §6.4.8, §7.4.2). Pure.

Nearly all responses have one of two forms, which one regular expression each reads at once:

    * 12 FETCH (UID 7 FLAGS (\Seen) INTERNALDATE "…" RFC822.SIZE 2048)           a line
    * 12 FETCH (UID 7 FLAGS (\Seen) BODY[] {2048}CRLF…octets… UID 7)             a literal, with items before and behind

Listings have many thousands of lines of the first form, which are read many at once.

Everything else (strings with backslashes, Gmail's labels, NIL, items in any form) is read by tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Final, NamedTuple

from syncd.errors import RemoteProtocolError, printable
from syncd.imap.grammar import flags as read_flags
from syncd.imap.grammar import object_id
from syncd.imap.sets import Seen, UidSet
from syncd.imap.tokens import Atom, Streamed, Value
from syncd.imap.values import BODY, HEADER, FetchItems, FetchRow, ModSeq, SeqNum, Uid, number
from syncd.mail.flags import Flags, from_octets

_CACHED_SETS: Final = 1024  # of flags: a mailbox has a few dozen
_CACHED_ZONES: Final = 64

# --- asking ----------------------------------------------------------------------------------------

_NAMES: Final = (
    ("flags", b"FLAGS"),
    ("internal_date", b"INTERNALDATE"),
    ("size", b"RFC822.SIZE"),
    ("modseq", b"MODSEQ"),
    ("email_id", b"EMAILID"),
    ("gmail_id", b"X-GM-MSGID"),
    ("gmail_labels", b"X-GM-LABELS"),
    ("header", b"BODY.PEEK[HEADER]"),
    ("body", b"BODY.PEEK[]"),
)


def encode_items(items: FetchItems) -> bytes:
    """Returns the items as UID FETCH carries them, the UID first."""
    return b"(" + b" ".join([b"UID", *(name for field, name in _NAMES if getattr(items, field))]) + b")"


# --- reading by one regular expression -------------------------------------------------------------

_ITEM: Final = (
    rb"(?:UID (\d{1,10})"
    rb"|FLAGS \(([^()\"\r\n]*)\)"
    rb'|INTERNALDATE "([^"\\\r\n]*)"'
    rb"|RFC822\.SIZE (\d{1,18})"
    rb"|MODSEQ \((\d{1,18})\))"
)
_BEGIN: Final = re.compile(
    rb"\* (\d{1,10}) FETCH \((?:" + _ITEM + rb"(?: |(?=\)\r)))*+(?:\)|BODY\[(HEADER)?\] \{(\d{1,18})\})\r\n"
)
_END: Final = re.compile(rb"(?: " + _ITEM + rb")*+\)\r\n")
_CLOSED: Final = b")\r\n"  # nearly always nothing else is behind a literal
_SIZE: Final = re.compile(rb"\* (\d{1,10}) FETCH \(UID (\d{1,10}) RFC822\.SIZE (\d{1,18})\)\r\n")
_SIZES: Final = re.compile(b"(?:" + _SIZE.pattern + b")++")


Items = tuple[bytes | None, ...]  # UID, FLAGS, INTERNALDATE, RFC822.SIZE, MODSEQ, as they came


class Begin(NamedTuple):
    """A response up to its end, or up to a literal. `end` is the index behind it.

    `part` is HEADER or BODY for what the literal is, 0 if there is none; `octets` is its length.
    """

    seq: bytes
    items: Items
    part: int
    octets: int
    end: int

    def row(self, part: int = 0, literal: bytes | None = None) -> FetchRow:
        """Returns what the response says, with its literal if that has come."""
        uid, flags, date, size, modseq = self.items
        return FetchRow(
            SeqNum(int(self.seq)),
            Uid(int(uid or 0)),
            None if flags is None else _flags(bytes(flags)),
            None if date is None else bytes(date),
            None if size is None else int(size),
            None if modseq is None else ModSeq(int(modseq)),
            "",
            None,
            None,
            literal if part == HEADER else None,
            literal if part == BODY else None,
            part,
        )


def begin(octets: bytearray, start: int, end: int) -> Begin | None:
    """Returns a response of one line, or one up to its literal; None if it has another form or has not all come."""
    found = _BEGIN.match(octets, start, end)
    if found is None:
        return None
    seq, *items, header, literal = found.groups()
    if literal is None:
        return Begin(seq, tuple(items), 0, 0, found.end())
    return Begin(seq, tuple(items), HEADER if header else BODY, int(literal), found.end())


def end(octets: bytearray, start: int, end: int, begin: Begin) -> Begin | None:
    """Returns the response whose literal ends at `start`, up to its end; None if the rest has another form.

    Items behind the literal count (I133).
    """
    if octets.startswith(_CLOSED, start, end):
        return Begin(begin.seq, begin.items, begin.part, begin.octets, start + len(_CLOSED))
    found = _END.match(octets, start, end)
    if found is None:
        return None
    items = tuple(old if new is None else new for old, new in zip(begin.items, found.groups(), strict=True))
    return begin._replace(items=items, end=found.end())


def sizes(octets: bytearray, start: int, end: int) -> tuple[list[FetchRow], int]:
    """Returns the whole lines of a listing that follow one another at `start`, and the index behind them.

    Lines in another form than UID and RFC822.SIZE end them.
    """
    found = _SIZES.match(octets, start, end)
    if found is None:
        return [], start
    rows = [
        FetchRow(SeqNum(int(seq)), Uid(int(uid)), None, None, int(size))
        for seq, uid, size in _SIZE.findall(octets, start, found.end())
    ]
    return rows, found.end()


@lru_cache(_CACHED_SETS)
def _flags(octets: bytes) -> Flags:
    return from_octets(octets.split())


# --- reading by tokens -----------------------------------------------------------------------------

_SECTION: Final = re.compile(rb"BODY(?:\.PEEK)?\[(HEADER)?\]", re.IGNORECASE)  # not "<0>": that is a part (I136)
MAX_PARTIAL: Final = 1000  # messages of one command that wait for another response
MAX_GMAIL_ID: Final = (1 << 64) - 1


def part_of(name: Value) -> int:
    """Returns HEADER or BODY for the name of an item that is one of them, else 0. I144: spelled in any way."""
    found = _SECTION.fullmatch(name) if isinstance(name, Atom) else None
    if found is None:
        return 0
    return HEADER if found[1] else BODY


def row(values: list[Value]) -> FetchRow:
    """Returns the meaning of the part of a FETCH response that has come. Raises RemoteProtocolError.

    message-data = nz-number SP "FETCH" SP "(" msg-att *(SP msg-att) ")"           ; RFC 3501 §9

    Items that are unknown, or malformed where nothing hangs on them, are passed over (I73, I80, I86).
    """
    seq, items = values[0], values[2] if len(values) > 2 else None
    if not isinstance(items, list) or not isinstance(seq, bytes) or len(values) != 3:
        raise RemoteProtocolError(f"FETCH without a list of items for message {printable(_bytes(seq))}")
    told: dict[bytes, Value] = {}
    texts: dict[int, Value] = {}
    for name, value in zip(items[::2], items[1::2], strict=False):
        part = part_of(name)
        if part:
            texts[part] = value
        elif isinstance(name, Atom):
            told[name.upper()] = value
    date, labels, modseq = told.get(b"INTERNALDATE"), told.get(b"X-GM-LABELS"), told.get(b"MODSEQ")
    inner = modseq[0] if isinstance(modseq, list) and modseq else modseq
    uid, mod = _number(told.get(b"UID")), _number(inner)
    return FetchRow(
        SeqNum(_number(seq) or 0),
        Uid(uid or 0),
        read_flags(told[b"FLAGS"]) if b"FLAGS" in told else None,
        bytes(date) if isinstance(date, bytes) else None,
        _number(told.get(b"RFC822.SIZE")),
        None if mod is None else ModSeq(mod),
        object_id(told.get(b"EMAILID")),
        number(_bytes(told.get(b"X-GM-MSGID")), MAX_GMAIL_ID),
        tuple(bytes(one) for one in labels if isinstance(one, bytes)) if isinstance(labels, list) else None,
        _octets(texts.get(HEADER)),
        _octets(texts.get(BODY)),
        sum(texts),
    )


def _bytes(value: Value) -> bytes:
    return value if isinstance(value, bytes) else b""


def _octets(value: Value) -> bytes | None:
    return bytes(value) if isinstance(value, bytes) and not isinstance(value, Streamed) else None


def _number(value: Value) -> int | None:
    return number(value) if isinstance(value, bytes) else None


# --- dates -----------------------------------------------------------------------------------------

_DATE: Final = re.compile(
    rb"\s*(\d{1,2})-([a-z]{3})-(\d{4}) (\d{1,2})[:.](\d\d)[:.](\d\d)(?: ?([+-])(\d\d)(\d\d))?\s*", re.IGNORECASE
)
_MONTHS: Final = {
    name: number for number, name in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)
}


def instant(text: bytes) -> datetime | None:
    """Returns an INTERNALDATE with its offset; None for a date that there cannot be, or in another form (I80, I143).

    date-time = DQUOTE date-day-fixed "-" date-month "-" date-year SP time SP zone DQUOTE    ; RFC 3501 §9

    Days of one digit, dots in the time and a missing zone (then UTC) are seen, too.
    """
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    day, month, year, hour, minute, second, sign, hours, minutes = found.groups()
    try:
        zone = _zone(sign or b"+", int(hours or 0), int(minutes or 0))
        month = _MONTHS[month.lower()]
        return datetime(int(year), month, int(day), int(hour), int(minute), min(int(second), 59), tzinfo=zone)
    except (KeyError, ValueError):
        return None


@lru_cache(_CACHED_ZONES)
def _zone(sign: bytes, hours: int, minutes: int) -> timezone:
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if sign == b"-" else offset)


# --- matching --------------------------------------------------------------------------------------


class Asked:
    """The UIDs that one UID FETCH has asked for, and which of them have their answer.

    Responses come in any order; those with a UID that was not asked for are news and no answer (I130). An answer has
    what was asked for first of all (`complete`); what comes in other responses for the same message is put together
    with it (I71).
    """

    __slots__ = ("_complete", "_done", "_partial", "uids")

    def __init__(self, uids: UidSet, items: FetchItems) -> None:
        self.uids = uids
        self._done = Seen()
        self._partial: dict[int, FetchRow] = {}
        self._complete = _completion(items)

    def wants(self, uid: int) -> bool:
        """Returns whether a message of this UID is still to be answered."""
        return uid in self.uids and uid not in self._done

    def answer(self, one: FetchRow) -> FetchRow | None:
        """Note a response of a message that `wants` wants. Returns the message's answer, if it is one."""
        earlier = self._partial.pop(one.uid, None)
        if earlier is not None:
            one = _together(earlier, one)
        if self._complete(one) or len(self._partial) >= MAX_PARTIAL:
            self._done.add(one.uid)
            return one
        self._partial[one.uid] = one
        return None

    def answers(self, rows: list[FetchRow]) -> tuple[list[FetchRow], list[FetchRow]]:
        """Note the lines of a listing. Returns the answers, and the lines of messages that are not wanted.

        Lines have a size; where more was asked for, they go through `answer`.
        """
        uids, done, partial = self.uids, self._done, self._partial
        answers: list[FetchRow] = []
        others: list[FetchRow] = []
        for row in rows:
            uid = row.uid
            if uid not in uids or uid in done:
                others.append(row)
            elif uid in partial or not self._complete(row):
                answer = self.answer(row)
                answers += [answer] if answer is not None else []
            else:
                done.add(uid)
                answers.append(row)
        return answers, others

    def rest(self) -> list[FetchRow]:
        """Returns, after the end of the command, the messages that have an answer which lacks something."""
        partial, self._partial = [*self._partial.values()], {}
        for one in partial:
            self._done.add(one.uid)
        return partial

    @property
    def missing(self) -> UidSet:
        """Returns the UIDs without an answer."""
        return self.uids - self._done.uids()


def _completion(items: FetchItems) -> Callable[[FetchRow], bool]:
    """Returns what tells whether a response is an answer: a text if one is asked for, else all that matters."""
    texts = HEADER * items.header | BODY * items.body
    if texts:
        return lambda one: one.texts & texts == texts
    if items.gmail_labels:
        return lambda one: one.labels is not None and (one.size is not None or not items.size)
    if items.flags:
        return lambda one: one.flags is not None and (one.size is not None or not items.size)
    if items.size:
        return lambda one: one.size is not None
    return lambda _: True


def _together(earlier: FetchRow, later: FetchRow) -> FetchRow:
    """Returns what two responses for one message say."""
    fields = [old if new is None or new == "" else new for old, new in zip(earlier, later, strict=True)]
    return FetchRow._make(fields)._replace(texts=earlier.texts | later.texts)
