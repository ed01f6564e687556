"""APPEND: messages into a mailbox, with flags and dates (RFC 3501 §6.3.11, RFC 3502, RFC 4315 §3, RFC 7888). Pure.

    append     = "APPEND" SP mailbox 1*append-message            ; more than one only where MULTIAPPEND is announced
    append-message = SP flag-list SP [date-time SP] literal

The list of flags is always sent, empty or not: there are servers that misread a command without it (I157). A literal
goes without being asked for only where the server has announced LITERAL+, or LITERAL- and at most 4,096 octets follow;
to any other server the mail itself would be commands (I106).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from syncd.errors import LocalProtocolError
from syncd.imap import encoder
from syncd.imap.sets import LAST
from syncd.imap.values import MAX_DIGITS, Capabilities, Status, Uid, UidValidity, Verb
from syncd.mail.body import Body
from syncd.mail.flags import NEW_KEYWORDS, Flags, system, to_octets

# I156: what is outside of these bounds is refused by some servers, and becomes another date with others
EARLIEST: Final = datetime(1970, 1, 2, tzinfo=UTC)
LATEST_AHEAD: Final = timedelta(days=1)
MAX_OFFSET: Final = timedelta(hours=14)  # of a zone; no clock on earth shows more

_KEYWORD: Final = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\\]]+')  # flag-keyword = atom (RFC 3501 §9)
_MAX_KEYWORD_OCTETS: Final = 128  # I147: Dovecot refuses 200
_MONTHS: Final = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_APPENDUID: Final = re.compile(rb"(\d{1,%d}) (\d[\d:,]*)" % MAX_DIGITS)

Flow = Iterator[bytes | None]  # octets to be sent; None: the server must first ask for what follows


class Append(NamedTuple):
    """A message as it is sent. `flags` are octets, each valid in a command; without a date the server takes its own."""

    body: Body
    flags: tuple[bytes, ...] = ()
    date: datetime | None = None


class Appended(NamedTuple):
    """The answer APPENDUID: the UIDs of the messages, in the order of the command."""

    validity: UidValidity
    uids: tuple[Uid, ...]


def encode(name: bytes, messages: Sequence[Append], capabilities: Capabilities, *, utf8: bool = False) -> Flow:
    """Yields an APPEND of one or more messages, without its tag.

    Raises LocalProtocolError, before anything is yielded, where the server does not take it so: an empty message
    (I155), several without MULTIAPPEND, a name that no command can carry.
    """
    if len(messages) != 1 and "MULTIAPPEND" not in capabilities:
        raise LocalProtocolError("this server takes one message with each APPEND")
    if not messages or not all(message.body.octets for message in messages):
        raise LocalProtocolError("an empty message cannot be appended")
    at_once = capabilities.literal_octets
    parts = encoder.command(Verb.APPEND, name, literal_octets=at_once, utf8=utf8)
    return _flow(parts, messages, at_once)


def _flow(parts: Sequence[bytes], messages: Sequence[Append], at_once: int) -> Flow:
    for part in parts[:-1]:
        yield part
        yield None
    yield parts[-1].removesuffix(b"\r\n")
    for body, flags, date in messages:
        asked = body.octets > at_once
        when = b"" if date is None else b" " + date_time(date)
        yield b" (%b)%b {%d%b}\r\n" % (b" ".join(flags), when, body.octets, b"" if asked else b"+")
        if asked:
            yield None
        yield from body.chunks()
    yield b"\r\n"


def checked(flow: Flow, check: Callable[[], None]) -> Flow:
    """Yields an APPEND, and calls `check` before its last octets: without them the server takes nothing of it."""
    last = next(flow)
    for part in flow:
        yield last
        last = part
    check()
    yield last


def date_time(at: datetime) -> bytes:
    """Returns the date-time of an APPEND (RFC 3501 §9), its day with two digits: Yandex refuses one (I156)."""
    offset = at.utcoffset() or timedelta()
    minutes = round(offset / timedelta(minutes=1))
    sign, minutes = (b"-", -minutes) if minutes < 0 else (b"+", minutes)
    day = b"%02d-%b-%04d %02d:%02d:%02d" % (at.day, _MONTHS[at.month - 1], at.year, at.hour, at.minute, at.second)
    return b'"%b %b%02d%02d"' % (day, sign, *divmod(minutes, 60))


def kept_date(at: datetime, now: datetime) -> datetime:
    """Returns the date that is sent for INTERNALDATE `at`: clamped to 2 January 1970 … a day from now (I156)."""
    if abs(at.utcoffset() or timedelta()) > MAX_OFFSET:
        at = at.astimezone(UTC)
    if at < EARLIEST:
        return EARLIEST
    latest = now + LATEST_AHEAD
    return min(at, latest)


def sendable(flags: Flags, takes: Iterable[str] | None) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
    r"""Returns the flags that are sent, and those that are left out: only system flags and keywords go (I82, I146).

    `takes` are the flags that the mailbox takes, `\*` among them for any keyword; None: any flag. A keyword must be an
    atom. `\Recent` and flags of other servers with a backslash never go.
    """
    allowed = None if takes is None else {flag.lower() for flag in takes}

    def goes(flag: str) -> bool:
        if system((flag,)):
            return allowed is None or flag.lower() in allowed
        return _is_keyword(flag) and (allowed is None or not allowed.isdisjoint({flag.lower(), NEW_KEYWORDS}))

    going = tuple(flag for flag in flags if goes(flag))
    return to_octets(going), tuple(flag for flag in flags if flag not in going)


def appended(status: Status, count: int) -> Appended | None:
    """Returns the UIDs of `count` messages from the tagged reply; None where it does not tell them.

    A code that is malformed, or tells of another number of messages, is no receipt and no error (I94, I161).
    """
    found = _APPENDUID.fullmatch(status.code.arguments) if status.ok and status.code.name == "APPENDUID" else None
    if found is None or not int(found[1]):
        return None
    uids: list[Uid] = []
    for part in found[2].split(b","):
        first, colon, last = part.partition(b":")
        if not first.isdigit() or (colon and not last.isdigit()) or len(part) > 2 * MAX_DIGITS:
            return None
        begin, end = int(first), int(last or first)
        if not 0 < begin <= end <= LAST or end - begin >= count:
            return None
        uids.extend(map(Uid, range(begin, end + 1)))
    return Appended(UidValidity(int(found[1])), tuple(uids)) if len(set(uids)) == len(uids) == count else None


def _is_keyword(flag: str) -> bool:
    [octets] = to_octets((flag,))
    return len(octets) <= _MAX_KEYWORD_OCTETS and _KEYWORD.fullmatch(octets) is not None
