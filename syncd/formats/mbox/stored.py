"""A message in an mbox file, as its octets travel, with its flags and date.

The notes of mail programs come off (`fields`). Messages that syncd stored come back exactly. A message that another
program stored, or changed, is given with CRLF for each LF that has no CR before it: mbox files have LF, mail has CRLF
(RFC 5322 §2.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import chain
from typing import NamedTuple

from syncd.formats import mboxrd
from syncd.formats.mbox import fields, scan
from syncd.formats.mbox.quoting import Quoting, unquote_once
from syncd.formats.mbox.scan import Record, Window
from syncd.mail import headers
from syncd.mail.body import HEADER_CAP_OCTETS
from syncd.mail.flags import Flags


class State(NamedTuple):
    """Flags of a message, and the date of its `From ` line; where that has none, the date that its header tells."""

    flags: Flags
    date: datetime | None


def state(window: Window, record: Record, *, ours: bool) -> State:
    """Returns what the notes and the `From ` line say."""
    start = _start(window, record)
    notes = fields.ours(start) if ours else None
    line = scan.from_line(window, record.start)
    flags = fields.flags(fields.split(start)[0]) if notes is None else notes.flags
    date = None if line is None else line.date
    return State(flags, date or headers.sent_at(headers.fields(start, headers.DATED)))


def octets(window: Window, record: Record, quoting: Quoting, *, ours: bool) -> Iterator[bytes]:
    """Yields the message as it travels. Raises OSError, FormatDamaged."""
    start = _start(window, record)
    notes = fields.ours(start) if ours else None
    if notes is None:
        return _foreign(window, record, quoting, start)
    end = record.end if notes.form.ended else record.end - 1
    if notes.marked:
        return mboxrd.decode_stream(window.chunks(record.body + notes.octets, end), crlf=not notes.form.raw)
    header, rest = fields.split(start[notes.octets :])
    text = chain((fields.without_notes(header), rest), window.chunks(record.body + len(start), end))
    return mboxrd.decode_stream(text, crlf=True)


def _start(window: Window, record: Record) -> bytes:
    return window.read(record.body, min(HEADER_CAP_OCTETS, record.end - record.body))


def _foreign(window: Window, record: Record, quoting: Quoting, start: bytes) -> Iterator[bytes]:
    header, rest = fields.split(start)
    header = fields.without_notes(header)
    if record.told:
        header = fields.without_length_and_lines(header)
    text: Iterator[bytes] = chain((header, rest), window.chunks(record.body + len(start), record.end))
    if not record.bare and quoting is Quoting.RD:
        text = mboxrd.decode_stream(text, crlf=False)
    elif not record.bare and quoting is Quoting.O:
        text = unquote_once(text)
    return _with_crlf(text)


def _with_crlf(chunks: Iterable[bytes]) -> Iterator[bytes]:
    last_cr = b""  # a CR at the end of a chunk waits for the next chunk
    for chunk in chunks:
        piece = last_cr + chunk
        last_cr = piece[-1:] if piece.endswith(b"\r") else b""
        yield piece[: len(piece) - len(last_cr)].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if last_cr:
        yield last_cr
