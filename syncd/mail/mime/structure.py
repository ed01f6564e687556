"""The structure of a message (RFC 2046), found in one pass over its octets.

Bounded whatever the message is: at most MAX_PARTS parts, MAX_DEPTH levels, a header of HEADER_CAP_OCTETS for each part.
Beyond that `cut` is set, and the rest belongs to the part that was last. Octets are looked at, never changed: a part is
a range of the message, so that its octets can be read again. Line ends are CRLF or LF. Nothing here raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from syncd.mail.headers import HEADER_CAP_OCTETS, raw_fields
from syncd.mail.mime.fields import Described, described

MAX_PARTS: Final = 500  # real mail has fewer than 50; a digest of a busy list has 100
MAX_DEPTH: Final = 20
MAX_BOUNDARY: Final = 200  # characters; RFC 2046 §5.1.1 allows 70
HELD: Final = MAX_BOUNDARY + 50  # octets at the end of a chunk that may be the start of a delimiter
KEEP_OCTETS: Final = 1 << 20  # of the text of a message, as it is encoded
_HEADER_END: Final = re.compile(rb"\n\r?\n")  # with \A it would take ten times as long
_IDENTITY: Final = frozenset({"", "7bit", "8bit", "binary"})


@dataclass(slots=True)
class Part:
    """A part: `start` to `end` are the octets of its body in the message. `parent` is the number of the part around."""

    number: int
    parent: int | None
    depth: int
    what: Described
    start: int
    end: int
    kept: bytearray = field(default_factory=bytearray)  # the start of the body of a text

    @property
    def is_leaf(self) -> bool:
        """Returns whether the part has content of its own, and no parts."""
        return not self.what.kind.startswith("multipart/")

    @property
    def is_attachment(self) -> bool:
        """Returns whether people would call the part an attachment."""
        what = self.what
        return self.is_leaf and (what.disposition == "attachment" or (bool(what.name) and what.kind != "text/html"))


@dataclass(slots=True)
class Structure:
    """The parts of a message in the order of its octets; the first one is the message.

    `fields` are those of its header: the first of each name, in lower case.
    """

    parts: list[Part]
    fields: dict[bytes, bytes]
    cut: bool


def structure(chunks: Iterable[bytes], keep: int = KEEP_OCTETS) -> Structure:
    """Find the parts of a message. Raises what `chunks` raises.

    Memory: a chunk, and `keep` octets of its texts. Once there are too many parts, no more is read.
    """
    scan = _Scan(keep)
    for chunk in chunks:
        scan.feed(chunk)
        if scan.cut:
            break
    return scan.finish()


def alternatives(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Yields the texts of a message, each as the list of forms that it comes in (multipart/alternative)."""
    groups: dict[int, list[Part]] = {}
    for part in parts:
        if part.what.kind.startswith("text/") and part.what.disposition != "attachment":
            groups.setdefault(_alternative(part, parts), []).append(part)
    yield from groups.values()


def _alternative(part: Part, parts: Sequence[Part]) -> int:
    """Returns a number that is the same for parts which say the same: of the outermost alternative around it."""
    above, found = part.parent, part.number
    while above is not None:
        if parts[above].what.kind == "multipart/alternative":
            found = above
        above = parts[above].parent
    return found


def _header_end(octets: bytes, pos: int, limit: int) -> int | None:
    """Returns where the empty line behind a header ends; None where there is none before `limit`."""
    for line_end in (b"\n", b"\r\n"):  # there is no header
        if octets.startswith(line_end, pos, limit):
            return pos + len(line_end)
    found = _HEADER_END.search(octets, pos, limit)
    return found.end() if found else None


class _Scan:
    """What is known so far. `_buffer` is the rest of what was fed, and begins at `_at` in the message."""

    def __init__(self, keep: int) -> None:
        self.cut = False
        self._keep = keep
        self._buffer = b""
        self._at = 0
        self._parts: list[Part] = []
        self._fields: dict[bytes, bytes] = {}
        self._in_header = True
        self._parent: int | None = None  # of the part whose header is read
        self._leaf: Part | None = None  # the part whose body is read
        self._open: list[tuple[bytes, int]] = []  # boundaries, and the parts they are of; the innermost is the last
        self._delimiter: re.Pattern[bytes] | None = None

    def feed(self, chunk: bytes) -> None:
        """Take further octets."""
        self._buffer = self._buffer + chunk if self._buffer else chunk
        self._work(last=False)

    def finish(self) -> Structure:
        """Returns what was found."""
        self._work(last=True)
        end = self._at + len(self._buffer)
        for part in self._parts:
            part.end = end if part.end < part.start else part.end
        return Structure(self._parts, self._fields, self.cut)

    def _work(self, *, last: bool) -> None:
        pos, again = 0, True
        while again and not self.cut:
            pos, again = self._read_header(pos, last=last) if self._in_header else self._read_body(pos, last=last)
        self._buffer, self._at = self._buffer[pos:], self._at + pos

    def _read_header(self, pos: int, *, last: bool) -> tuple[int, bool]:
        """Read the header of a part; returns where to go on, and whether there is more to be done."""
        buffer = self._buffer
        limit = min(pos + HEADER_CAP_OCTETS, len(buffer))
        found = _header_end(buffer, pos, limit)
        if found is None and not last and len(buffer) - pos < HEADER_CAP_OCTETS:
            return pos, False
        end = limit if found is None else found
        self._begin(buffer[pos:end], self._at + end)
        if self._in_header:  # a message in the message
            return end, True
        return (end if found is None else max(end - 1, 0)), True

    def _begin(self, header: bytes, start: int) -> None:
        """A part begins: its header is known."""
        if len(self._parts) == MAX_PARTS:
            self.cut = True
            return
        raw: dict[bytes, bytes] = {}
        for name, value in raw_fields(header):
            raw.setdefault(name, value)
        if not self._parts:
            self._fields = raw
        what = described(raw)
        depth = 0 if self._parent is None else self._parts[self._parent].depth + 1
        part = Part(len(self._parts), self._parent, depth, what, start, -1)
        self._parts.append(part)
        self._leaf, self._in_header = part, False
        if depth >= MAX_DEPTH:
            return
        boundary = what.parameters.get("boundary", "").rstrip()[:MAX_BOUNDARY]
        if not part.is_leaf and boundary:
            self._leaf = None
            self._open.append((boundary.encode("utf-8", "replace"), part.number))
            self._renew()
        elif what.kind in {"message/rfc822", "message/global"} and what.encoding in _IDENTITY:
            self._parent, self._in_header = part.number, True

    def _read_body(self, pos: int, *, last: bool) -> tuple[int, bool]:
        """Read on to the next delimiter; returns where to go on, and whether there is more to be done."""
        found = self._delimiter.search(self._buffer, pos) if self._delimiter else None
        octets = len(self._buffer)
        if found is None or (found.end() == octets and not last):
            held = 0 if last or self._delimiter is None else HELD if found is None else octets - found.start() + 1
            limit = max(pos, octets - held)
            self._take(pos, limit)
            return limit, False
        end = found.start()
        if self._buffer[end - 1 : end] == b"\r":
            end -= 1
        self._take(pos, end)
        self._end(found[1], self._at + end, closes=bool(found[2]))
        return (found.end() if self._in_header else max(found.end() - 1, found.start() + 1)), True

    def _take(self, pos: int, end: int) -> None:
        """Keep octets of a text."""
        part = self._leaf
        if part is None or self._keep <= 0 or not part.what.kind.startswith("text/"):
            return
        if part.what.disposition == "attachment":
            return
        start = max(pos, part.start - self._at)
        piece = self._buffer[start : min(end, start + self._keep)] if end > start else b""
        part.kept += piece
        self._keep -= len(piece)

    def _end(self, boundary: bytes, at: int, *, closes: bool) -> None:
        """A delimiter: the parts that were open in its multipart end."""
        while self._open[-1][0] != boundary:
            self._open.pop()
        owner = self._open[-1][1]
        for part in reversed(self._parts):
            if part.number == owner:
                break
            if part.end < 0:
                part.end = max(at, part.start)
        self._leaf, self._parent, self._in_header = None, owner, not closes
        if closes:
            self._open.pop()
        self._renew()

    def _renew(self) -> None:
        """Look for the delimiters of all multiparts that are open (RFC 2046 §5.1.2)."""
        names = b"|".join(re.escape(boundary) for boundary, _ in self._open)
        self._delimiter = re.compile(rb"\n--(%s)(--)?[ \t]*(?:\r?\n|\Z)" % names) if names else None
