"""A message as the record that an mbox of syncd has of it: `From ` line, notes, quoted text, an empty line.

A record is made twice, to measure it and to write it, so that a batch takes no memory besides its bodies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, NamedTuple

from syncd import clock
from syncd.formats import mboxrd
from syncd.formats.line_ends import all_crlf, to_lf
from syncd.formats.mbox import fields
from syncd.formats.mbox.fields import Form
from syncd.formats.view import start_of
from syncd.mail.message import Message

HEAD_OCTETS: Final = 128  # of a record, by which its beginning is recognised
_FIRST: Final = datetime(1900, 1, 1, tzinfo=UTC)  # dates before it are no dates of mail, and may have years of 3 digits
_LAST: Final = datetime(9999, 12, 30, tzinfo=UTC)


class Measured(NamedTuple):
    """A record: how long it is, what it begins with, and its SHA-256."""

    line: bytes
    crlf: bool
    octets: int
    head: bytes
    stored: bytes


def measure(message: Message) -> Measured:
    """Returns the measures of a message's record."""
    line = mboxrd.from_line(_date(message.internal_date))
    data = message.body.data
    crlf = all_crlf(message.body.chunks()) if data is None else to_lf(data) is not None
    octets, head, digest = 0, b"", sha256()
    for piece in _pieces(message, line, crlf=crlf):
        octets += len(piece)
        head += piece[: HEAD_OCTETS - len(head)]
        digest.update(piece)
    return Measured(line, crlf, octets, head, digest.digest())


def record(message: Message, measured: Measured) -> Iterator[bytes]:
    """Yields the octets of a message's record."""
    return _pieces(message, measured.line, crlf=measured.crlf)


def _pieces(message: Message, line: bytes, *, crlf: bool) -> Iterator[bytes]:
    header, _ = fields.split(start_of(message.body.chunks()))
    yield line
    yield fields.written(message.flags, Form(not crlf, _is_ended(message)), header)
    last = b""
    for piece in mboxrd.encode_stream(message.body.chunks(), crlf=crlf):
        if piece:
            yield piece
            last = piece
    yield mboxrd.separator(last)


def _is_ended(message: Message) -> bool:
    if message.body.data is not None:
        return message.body.data.endswith(b"\n")
    last = deque(message.body.chunks(), maxlen=1)
    return bool(last) and last[0].endswith(b"\n")


def _date(date: datetime | None) -> datetime:
    return clock.now() if date is None else min(max(date, _FIRST), _LAST)
