"""A bounded look at the start of a message: the few header fields a person recognises it by.

Tolerant by design: the input is whatever a server once held. Nothing here raises, nothing looks beyond
HEADER_CAP_OCTETS, and what comes out is text for people (RFC 2047 decoded), never octets to be delivered.
Line ends may be CRLF, LF or CR; a field may be folded (RFC 5322 §2.2.3); the first field of a name counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import MAXYEAR, UTC, datetime
from typing import Final

HEADER_CAP_OCTETS = 64 << 10  # a fingerprint looks no further either; real headers are a few KiB
FIELD_CAP_OCTETS = 2 << 10  # nobody reads a longer subject, and decoding costs by the octet

_LINE_END = re.compile(rb"\r\n|\n|\r")
_EMPTY_LINE = re.compile(rb"\n[\r\n]|\r\r")  # the end of a line, and the first octet of a further line end
_ENCODED_WORD = re.compile(r"=\?[^?\s]{1,75}\?[bBqQ]\?[^?\s]*\?=")  # RFC 2047 §2


def fields(start: bytes, names: Iterable[str]) -> dict[str, str]:
    """The first value of each of `names` (lower case) that is there, unfolded and decoded, one line each."""
    wanted = {name.encode("ascii"): name for name in names}
    found: dict[str, str] = {}
    for name, value in raw_fields(start):
        known = wanted.pop(name, None)
        if known is not None:
            found[known] = decode(value)
            if not wanted:
                break
    return found


def header(start: bytes) -> bytes:
    """The octets of the header itself, without the empty line that ends it; all of `start` where there is none."""
    if start.startswith((b"\r", b"\n")):
        return b""
    found = _EMPTY_LINE.search(start)
    return start if found is None else start[: found.start() + 1]


def decode(value: bytes) -> str:
    """Text of a field's value: encoded words decoded (RFC 2047), raw octets read as UTF-8 or else as Latin-1."""
    cut = value[:FIELD_CAP_OCTETS]
    try:
        text = cut.decode()
    except UnicodeDecodeError:
        text = cut.decode("latin-1")
    if _ENCODED_WORD.search(text):
        text = _decode_words(text)
    return " ".join(text.split())


DATED: Final = ("date", "received")  # the fields that `sent_at` reads


def sent_at(found: Mapping[str, str]) -> datetime | None:
    """The instant of the Date field, else of the top Received field, with its offset; None where neither makes sense.

    The top Received field says when the message came to its last server (RFC 5321 §4.4: a semicolon, then the date).
    """
    said = _instant(found.get("date", ""))
    _, semicolon, received = found.get("received", "").rpartition(";")
    return _instant(received) if said is None and semicolon else said


def _instant(text: str) -> datetime | None:
    """An instant as RFC 5322 §3.3 writes it. None for years before 1900, and the last one: it is over elsewhere."""
    from email.utils import parsedate_to_datetime

    try:
        at = parsedate_to_datetime(text)
        if not 1900 <= at.year < MAXYEAR:
            return None
        return at if at.tzinfo is not None else at.replace(tzinfo=UTC)  # "-0000": the zone is not told
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def raw_fields(start: bytes) -> Iterable[tuple[bytes, bytes]]:
    """Every field in order: its name in lower case, its value unfolded and not decoded; other lines are passed over."""
    name, value = b"", b""
    for line in _LINE_END.split(header(start[:HEADER_CAP_OCTETS])):
        if line.startswith((b" ", b"\t")):
            if len(value) < FIELD_CAP_OCTETS:
                value += b" " + line.strip(b" \t")
            continue
        if name:
            yield name, value
        name, _, value = line.partition(b":")
        name, value = name.rstrip(b" \t").lower(), value.strip(b" \t")
    if name:
        yield name, value


def _decode_words(text: str) -> str:
    """Decode RFC 2047 words; where one is damaged or its charset unknown, the text stays as it came."""
    from email.errors import HeaderParseError
    from email.header import decode_header, make_header

    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, ValueError, UnicodeError):
        return text
