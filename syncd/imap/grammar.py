"""Responses to typed values; one function for each rule (RFC 3501 §7, §9; RFC 9051 §7, §9).

Parsing is strict where a mistake would lose or mistake a mailbox or message: rows of LIST and FETCH, numbers of
messages. It is tolerant where nothing can be mistaken: blanks at the end of a line, a status without text (I03), flags
as strings or NIL (I148), a malformed STATUS, NAMESPACE or ID, which is as good as none (I48).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from syncd.errors import RemoteProtocolError, printable
from syncd.imap.events import (
    Continuation,
    Data,
    Enabled,
    Exists,
    Expunge,
    FlagsTold,
    Found,
    Identity,
    Listing,
    QuotaRoots,
    QuotaTold,
    Recent,
    StatusRow,
    Unknown,
    Vanished,
)
from syncd.imap.tokens import Atom, Value
from syncd.imap.values import (
    Capabilities,
    Code,
    Kind,
    MailboxRow,
    MailboxStatus,
    ModSeq,
    Namespace,
    Namespaces,
    Quota,
    SeqNum,
    Status,
    UidValidity,
    Verb,
    number,
)
from syncd.mail.flags import Flags, from_octets

_STATUS: Final = re.compile(rb"(OK|NO|BAD|PREAUTH|BYE)(?:[ \t]+(.*))?", re.IGNORECASE | re.DOTALL)
_CODE: Final = re.compile(rb"\[([^\]\s\[]{1,64})(?:[ \t]+([^\]]*))?\][ \t]*", re.DOTALL)
_TAGGED: Final = re.compile(rb"([!-~]+)[ \t]+((?:OK|NO|BAD)(?:[ \t].*)?)", re.IGNORECASE | re.DOTALL)
_RANGE: Final = re.compile(rb"(\d{1,18})(?::(\d{1,18}))?")

Ranges = tuple[tuple[int, int], ...]


# --- lines -----------------------------------------------------------------------------------------


def status(text: bytes) -> Status | None:
    """Parse a status. Returns None if the text is not one.

    resp-cond-state = ("OK" / "NO" / "BAD") SP resp-text          ; RFC 3501 §9, also PREAUTH and BYE
    resp-text       = ["[" resp-text-code "]" SP] text
    """
    found = _STATUS.fullmatch(text)
    if found is None:
        return None
    words = found[2] or b""
    code = _CODE.match(words)
    if code is None:
        return Status(Kind(found[1].decode().upper()), Code(), words)
    name = code[1].decode("ascii", "backslashreplace").upper()
    return Status(Kind(found[1].decode().upper()), Code(name, (code[2] or b"").strip()), words[code.end() :])


def tagged(line: bytes) -> tuple[str, Status] | None:
    """Parse the end of a command: response-tagged = tag SP resp-cond-state CRLF (RFC 3501 §9). None if it is none."""
    found = _TAGGED.fullmatch(line)
    if found is None:
        return None
    parsed = status(found[2])
    assert parsed is not None, line
    return found[1].decode("ascii"), parsed


def continuation(line: bytes) -> Continuation | None:
    """Parse a continuation request: "+" SP (resp-text / base64) CRLF. A bare "+" is one, too (I20)."""
    if line != b"+" and not line.startswith((b"+ ", b"+\t")):
        return None
    return Continuation(line[2:].strip())


def capabilities(words: bytes) -> Capabilities:
    """Parse names of capabilities, as they stand in CAPABILITY and in its response code (RFC 3501 §7.2.1)."""
    return Capabilities(tuple(word.decode("ascii", "backslashreplace").upper() for word in words.split()), known=True)


# --- untagged data ---------------------------------------------------------------------------------


def data(values: list[Value]) -> Data:
    """Returns the meaning of an untagged response that is neither a status nor FETCH. Raises RemoteProtocolError."""
    first = values[0] if values else None
    if not isinstance(first, Atom):
        raise _malformed("a response", values)
    if first.isdigit() and len(values) > 1 and isinstance(name := values[1], Atom):
        counted = _COUNTED.get(name.upper())
        return counted(_number(first, values)) if counted is not None else Unknown(_text(name))
    parse = _DATA.get(first.upper())
    return parse(values[1:]) if parse is not None else Unknown(_text(first))


def astring(value: Value) -> bytes:
    """Returns a mailbox name or another astring. The atom NIL is a name as well. Raises RemoteProtocolError."""
    if isinstance(value, list):
        raise _malformed("a name", value)
    return b"NIL" if value is None else bytes(value)


def flags(value: Value) -> Flags:
    """Returns flags: flag-list = "(" [flag *(SP flag)] ")". I148: NIL is none, and strings are taken for flags."""
    return from_octets(one for one in _list(value, "flags") if isinstance(one, bytes))


def _capability(values: list[Value]) -> Capabilities:
    return capabilities(b" ".join(word for word in values if isinstance(word, bytes)))


def _enabled(values: list[Value]) -> Enabled:
    return Enabled(tuple(_text(word).upper() for word in values if isinstance(word, bytes)))


def _listing(verb: Verb) -> Callable[[list[Value]], Listing]:
    def parse(values: list[Value]) -> Listing:
        """Parse "(" [mbx-list-flags] ")" SP (DQUOTE QUOTED-CHAR DQUOTE / nil) SP mailbox [SP extended]."""
        if len(values) not in {3, 4} or not (values[1] is None or isinstance(values[1], bytes)):
            raise _malformed(verb.value, values)
        attributes = (_text(one).lower() for one in _list(values[0], verb.value) if isinstance(one, bytes))
        return Listing(verb, MailboxRow(astring(values[2]), bytes(values[1] or b""), frozenset(attributes)))

    return parse


def _status_row(values: list[Value]) -> StatusRow | Unknown:
    """Parse STATUS: SP mailbox SP "(" [status-att-list] ")" (RFC 3501 §7.2.4). I48: without its list it is nothing.

    mailutils 3.15 does not quote a name with spaces: then the name goes up to the list.
    """
    at = next((number for number, value in enumerate(values) if isinstance(value, list)), 1)
    if len(values) < 2 or not at:
        return Unknown("STATUS")
    pairs = _pairs(values[at])
    numbers = {name: _number_or_none(value) for name, value in pairs.items()}
    validity, modseq = numbers.get("UIDVALIDITY"), numbers.get("HIGHESTMODSEQ")
    identity = pairs.get("MAILBOXID")
    return StatusRow(
        b" ".join(map(astring, values[:at])),
        MailboxStatus(
            numbers.get("MESSAGES"),
            numbers.get("UIDNEXT"),
            None if validity is None else UidValidity(validity),
            ModSeq(modseq) if modseq else None,
            numbers.get("UNSEEN"),
            numbers.get("RECENT"),
            numbers.get("SIZE"),
            object_id(identity),
            numbers.get("APPENDLIMIT"),
        ),
    )


def _quota_roots(values: list[Value]) -> QuotaRoots | Unknown:
    """Parse QUOTAROOT: SP mailbox *(SP quota-root-name) (RFC 9208 §7)."""
    names = [astring(value) for value in values if not isinstance(value, list)]
    return QuotaRoots(names[0], tuple(names[1:])) if names and len(names) == len(values) else Unknown("QUOTAROOT")


def _quota(values: list[Value]) -> QuotaTold | Unknown:
    """Parse QUOTA: SP quota-root-name SP "(" [quota-resource *(SP quota-resource)] ")", each name, usage, limit."""
    if len(values) != 2 or isinstance(values[0], list) or not isinstance(values[1], list):
        return Unknown("QUOTA")
    told: dict[str, tuple[int, int]] = {}
    words = values[1]
    for name, used, most in zip(words[::3], words[1::3], words[2::3], strict=False):
        figures = _number_or_none(used), _number_or_none(most)
        if isinstance(name, bytes) and figures[0] is not None and figures[1] is not None:
            told[_text(name).upper()] = figures[0], figures[1]
    return QuotaTold(astring(values[0]), Quota(told.get("STORAGE"), told.get("MESSAGE")))


def object_id(value: Value) -> str:
    """Returns the id in MAILBOXID or EMAILID: "(" objectid ")" (RFC 8474 §4.1), or an empty text."""
    inner = value[0] if isinstance(value, list) and len(value) == 1 else value
    return _text(inner) if isinstance(inner, bytes) else ""


def _namespaces(values: list[Value]) -> Namespaces | Unknown:
    """Parse NAMESPACE: SP namespace SP namespace SP namespace (RFC 2342 §5)."""
    groups = [tuple(_namespace(group)) for group in values[:3]]
    return Namespaces(*groups) if len(groups) == 3 else Unknown("NAMESPACE")


def _namespace(group: Value) -> Iterator[Namespace]:
    for one in group if isinstance(group, list) else ():
        if isinstance(one, list) and len(one) > 1 and isinstance(one[0], bytes) and not isinstance(one[1], list):
            yield Namespace(bytes(one[0]), bytes(one[1] or b""))


def _identity(values: list[Value]) -> Identity:
    pairs = _pairs(values[0] if values else None)
    return Identity({name.lower(): _text(value) for name, value in pairs.items() if isinstance(value, bytes)})


def _search(values: list[Value]) -> Found:
    """Parse SEARCH: *(SP nz-number) [SP "(" "MODSEQ" SP mod-sequence ")"] (RFC 3501 §7.2.5). I65: 0 is none."""
    numbers = [_number(value, values) for value in values if not isinstance(value, list)]
    return Found(tuple((one, one) for one in numbers if one))


def _esearch(values: list[Value]) -> Found:
    """Parse ESEARCH: [SP "(" "TAG" SP tag ")"] [SP "UID"] *(SP name SP value) (RFC 4731 §3, RFC 4466 §2.6.2)."""
    tag, rest = "", list(values)
    if rest and isinstance(rest[0], list):
        named = _pairs(rest.pop(0)).get("TAG")
        tag = _text(named) if isinstance(named, bytes) else ""
    uids = bool(rest) and isinstance(rest[0], Atom) and rest[0].upper() == b"UID"
    items = rest[1:] if uids else rest
    pairs = _pairs(items)
    if 2 * len(pairs) != len(items):  # something twice, or without its value
        raise _malformed("ESEARCH", values)
    ranges = _ranges(pairs["ALL"], values) if pairs.get("ALL") is not None else ()
    total, least, most = (_number_or_none(pairs.get(name)) for name in ("COUNT", "MIN", "MAX"))
    return Found(ranges, tag, uids, True, total, least, most)


def _vanished(values: list[Value]) -> Vanished:
    """Parse VANISHED: [SP "(EARLIER)"] SP known-uids (RFC 7162 §7). An empty one is seen, too (I112)."""
    earlier = bool(values) and isinstance(values[0], list)
    rest = values[1:] if earlier else values
    return Vanished(_ranges(rest[0], values) if rest else (), earlier)


def _flags_told(values: list[Value]) -> FlagsTold:
    return FlagsTold(flags(values[0] if values else None))


_DATA: Final[dict[bytes, Callable[[list[Value]], Data]]] = {
    b"CAPABILITY": _capability,
    b"ENABLED": _enabled,
    b"ID": _identity,
    b"NAMESPACE": _namespaces,
    b"LIST": _listing(Verb.LIST),
    b"XLIST": _listing(Verb.LIST),
    b"LSUB": _listing(Verb.LSUB),
    b"STATUS": _status_row,
    b"QUOTAROOT": _quota_roots,
    b"QUOTA": _quota,
    b"SEARCH": _search,
    b"ESEARCH": _esearch,
    b"VANISHED": _vanished,
    b"FLAGS": _flags_told,
}
_COUNTED: Final[dict[bytes, Callable[[int], Data]]] = {
    b"EXISTS": Exists,
    b"RECENT": Recent,
    b"EXPUNGE": lambda seq: Expunge(SeqNum(seq)),
}


# --- parts -----------------------------------------------------------------------------------------


def _text(octets: bytes) -> str:
    return printable(octets)


def _list(value: Value, what: str) -> list[Value]:
    if value is not None and not isinstance(value, list):
        raise _malformed(what, [value])
    return value or []


def _pairs(value: Value) -> dict[str, Value]:
    """Returns the pairs of a list of names and values; names in capitals. A last name without a value is left out."""
    items = value if isinstance(value, list) else []
    names = items[: len(items) - len(items) % 2 : 2]
    return {
        _text(name).upper(): value for name, value in zip(names, items[1::2], strict=True) if isinstance(name, bytes)
    }


def _number(value: Value, values: list[Value]) -> int:
    found = _number_or_none(value)
    if found is None:
        raise _malformed("a number", values)
    return found


def _number_or_none(value: Value) -> int | None:
    return number(value) if isinstance(value, bytes) else None


def _ranges(value: Value, values: list[Value]) -> Ranges:
    if not isinstance(value, bytes):
        raise _malformed("a set of numbers", values)
    ranges: list[tuple[int, int]] = []
    for part in value.split(b","):
        found = _RANGE.fullmatch(part)
        if found is None:
            raise _malformed("a set of numbers", values)
        first, last = int(found[1]), int(found[2] or found[1])
        ranges.append((first, last) if first <= last else (last, first))
    return tuple(ranges)


def _malformed(what: str, values: list[Value]) -> RemoteProtocolError:
    return RemoteProtocolError(f"{what} cannot be read in “{printable(_shown(values))}”")


def _shown(value: Value) -> bytes:
    if isinstance(value, list):
        return b"(" + b" ".join(map(_shown, value[:50])) + b")"
    return b"NIL" if value is None else value[:200]
