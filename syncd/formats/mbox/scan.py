"""Finding the messages in an mbox file, in one pass and a window of 1 MiB.

A message begins with a `From ` line (`from_line`), at the start of the file or of any later line, and goes to the next
one; the empty line before that belongs to neither. Some programs do not quote such lines within messages, and put a
Content-Length field into the header instead (mboxcl2, Dovecot). It is believed only where a `From ` line, or the end of
the file, follows where it says; everybody can write such a field into a mail. In messages that syncd has stored it
means nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from hashlib import sha256
from typing import Final, NamedTuple

from syncd.errors import FormatDamaged
from syncd.formats.mbox import fields
from syncd.formats.mbox.from_line import MOST_OCTETS, START, FromLine, at_start
from syncd.mail.body import HEADER_CAP_OCTETS
from syncd.mail.message import Uid

BLOCK_OCTETS: Final = 1 << 20
UID_DIGITS: Final = 32
SHRUNK: Final = "the file is shorter than it was"
_NEXT: Final = b"\n" + START
_EMPTY_LINES: Final = re.compile(rb"(?:\r?\n){0,2}")


class Record(NamedTuple):
    """A message in a file, as offsets: its `From ` line, the message, its end, the next `From ` line.

    `told`: its field Content-Length tells this end. `bare`: so there are `From ` lines in it that are not quoted.
    """

    start: int
    body: int
    end: int
    following: int
    told: bool = False
    bare: bool = False


class Window:
    """An open file up to `end`, read by blocks. For one thread. Raises OSError; FormatDamaged where it has shrunk."""

    def __init__(self, descriptor: int, end: int, block_octets: int = BLOCK_OCTETS) -> None:
        """`block_octets` are read at a time: fewer serve those who read one message here and there."""
        self._descriptor = descriptor
        self._block_octets = block_octets
        self.end = end
        self._at = 0
        self._data = b""

    def read(self, at: int, octets: int) -> bytes:
        """Returns the octets at an offset; fewer at the end."""
        octets = min(octets, self.end - at)
        if octets <= 0:
            return b""
        if not self._at <= at <= at + octets <= self._at + len(self._data):
            wanted = min(max(octets, self._block_octets), self.end - at)
            self._at, self._data = at, os.pread(self._descriptor, wanted, at)
            if len(self._data) < octets:
                raise FormatDamaged(SHRUNK)
        return self._data[at - self._at : at - self._at + octets]

    def chunks(self, at: int, end: int) -> Iterator[bytes]:
        """Yields the octets from `at` to `end`. Raises FormatDamaged where the file ends before."""
        while at < end:
            chunk = self.read(at, min(self._block_octets, end - at))
            if not chunk:
                raise FormatDamaged(SHRUNK)
            at += len(chunk)
            yield chunk

    def find(self, pattern: bytes, at: int) -> int:
        """Returns where a pattern comes first from `at` on; -1 if it does not."""
        while at < self.end:
            if not self._at <= at < self._at + len(self._data) - len(pattern):
                self.read(at, min(self._block_octets, self.end - at))
            found = self._data.find(pattern, at - self._at)
            if found >= 0:
                return self._at + found
            past = self._at + len(self._data)
            if past >= self.end:
                return -1
            at = past - len(pattern) + 1
        return -1


def first(window: Window) -> int:
    """Returns where the first `From ` line is: 0, or behind octets that are no mail; -1 where there is none."""
    return 0 if from_line(window, 0) is not None else next_from(window, 0)


def from_line(window: Window, at: int) -> FromLine | None:
    """Returns the `From ` line at an offset; None where there is none."""
    line = window.read(at, MOST_OCTETS)
    if not line.startswith(START):
        return None
    return at_start(line)


def next_from(window: Window, at: int) -> int:
    """Returns where the next `From ` line is that follows a line end at `at` or later; -1 where there is none."""
    while (found := window.find(_NEXT, at)) >= 0:
        if from_line(window, found + 1) is not None:
            return found + 1
        at = found + 1
    return -1


def records(window: Window, *, ours: bool) -> Iterator[Record]:
    """Every message in order. With `ours=True` the file is of an archive of syncd."""
    at = first(window)
    while 0 <= at < window.end:
        record = _record(window, at, ours=ours)
        yield record
        at = record.following


def record_at(window: Window, at: int, *, ours: bool) -> Record | None:
    """Returns the message whose `From ` line is at an offset; None where there is no such line."""
    return None if from_line(window, at) is None else _record(window, at, ours=ours)


def uid(window: Window, record: Record) -> Uid:
    """Returns what a message is known by: a hash of it without the notes of mail programs, which change."""
    digest = sha256()
    header, rest = fields.split(window.read(record.body, min(HEADER_CAP_OCTETS, record.end - record.body)))
    digest.update(fields.without_length(fields.without_notes(header)))  # programs add it, too
    digest.update(rest)
    for chunk in window.chunks(record.body + len(header) + len(rest), record.end):
        digest.update(chunk)
    return Uid(digest.hexdigest()[:UID_DIGITS].encode("ascii"))


def header(window: Window, record: Record) -> bytes:
    """Returns the header of a message, at most HEADER_CAP_OCTETS of it."""
    return fields.split(window.read(record.body, min(HEADER_CAP_OCTETS, record.end - record.body)))[0]


def _record(window: Window, at: int, *, ours: bool) -> Record:
    line = window.read(at, MOST_OCTETS)
    body = at + (line.find(b"\n") + 1 or len(line))
    following = next_from(window, body - 1)
    following = window.end if following < 0 else following
    start = window.read(body, min(HEADER_CAP_OCTETS, window.end - body))
    told = -1 if ours and fields.ours(start) else _told_end(window, body, start)
    bare = told > following
    following = max(told, following)
    return Record(at, body, _end(window, body, following), following, told == following, bare)


def _end(window: Window, body: int, following: int) -> int:
    """Returns where a message ends: before the empty line that ends it."""
    last = window.read(max(body, following - 4), min(4, following - body))
    if last == b"\n" or last.endswith(b"\n\n"):
        return following - 1
    return following - 2 if last == b"\r\n" or last.endswith(b"\n\r\n") else following


def _told_end(window: Window, body: int, start: bytes) -> int:
    """Returns the end that Content-Length tells, behind the empty line there; -1 where it is not to be believed."""
    head, rest = fields.split(start)
    found = fields.CONTENT_LENGTH.search(head)
    if found is None or not rest.startswith((b"\n", b"\r\n")):
        return -1
    end = body + len(head) + (1 if rest.startswith(b"\n") else 2) + int(found[1])
    if end > window.end:
        return -1
    gap = _EMPTY_LINES.match(window.read(end, 4))
    end += gap.end() if gap else 0
    return end if end == window.end or from_line(window, end) is not None else -1
