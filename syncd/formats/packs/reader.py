"""Reading a pack: whole units for the index, single messages by their recorded place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from syncd.formats import mboxrd
from syncd.formats.packs.frame import Damage, Frame, Tail, content, read_frame, scan
from syncd.formats.packs.meta import Meta
from syncd.mail.body import CHUNK_OCTETS


class Unit(NamedTuple):
    """Frames that are taken up together: one frame or pair, or all parts of a large message.

    `meta` is that of the first frame; `length` counts the stored octets of all parts together.
    """

    offset: int
    end: int
    meta: Meta
    parts: int = 1
    length: int = 0


class Location(NamedTuple):
    """The place of a message: the pack, its (first) frame, and where it is in that frame's content."""

    pack: int
    frame: int
    offset: int
    length: int  # stored octets, of all parts together
    parts: int
    crlf: bool


def pack_name(number: int) -> str:
    """The file name of a pack."""
    return f"{number:06d}.mbox.zst"


def units(fd: int, start: int, limit: int) -> Iterator[Unit | Damage | Tail]:
    """Every unit from `start` to `limit`, checked as `scan` does.

    Parts that do not make a whole are damage; at the end of the pack they are the tail. Memory: one frame, however
    many parts there are.
    """
    parts: _Parts | None = None
    for found in scan(fd, start, limit):
        taken = parts is not None and isinstance(found, Frame) and parts.take(found)
        if parts and not taken:
            yield parts.broken(found)
            parts = None
            if isinstance(found, Tail):
                return
        if not isinstance(found, Frame):
            yield found
        elif not found.meta.part:
            yield Unit(found.offset, found.end, found.meta)
        elif not taken and (found.meta.part[0] != 1 or not _is_part(found.meta)):
            yield Damage(found.offset, found.end, _NO_START.format(found.meta.part[0]), found.digests)
        else:
            parts = parts or _Parts(found)
            if parts.are_whole:
                yield from parts.unit()
                parts = None
    if parts:
        yield Tail(parts.offset, "ends inside a large message", lost=parts.digests)


_NO_START = "part {} of a large message without those before it"


class _Parts:
    """The parts of a large message that have been seen so far."""

    def __init__(self, first: Frame) -> None:
        assert first.meta.part is not None, "the first of several parts"
        self.offset, self.end = first.offset, first.end
        self.digests = first.digests
        self._meta = first.meta
        self._seen, self._total = 1, first.meta.part[1]
        self._length = first.meta.messages[0].length

    @property
    def are_whole(self) -> bool:
        """Tells whether all parts are there."""
        return self._seen == self._total

    def take(self, frame: Frame) -> bool:
        """Take the next part; tell whether it is that."""
        meta = frame.meta
        if meta.part != (self._seen + 1, self._total) or not _is_part(meta) or frame.digests != self.digests:
            return False
        self._seen += 1
        self._length += meta.messages[0].length
        self.end = frame.end
        return True

    def unit(self) -> Iterator[Unit | Damage]:
        """Yields the whole message, or damage where it claims more octets than are stored."""
        row = self._meta.messages[0]
        if row.octets <= self._length << row.crlf:
            yield Unit(self.offset, self.end, self._meta, self._total, self._length)
        else:
            yield Damage(self.offset, self.end, "a large message has more octets than are stored of it", self.digests)

    def broken(self, found: Frame | Damage | Tail) -> Damage | Tail:
        """Returns what the parts are where `found` follows instead of the next one."""
        if isinstance(found, Tail):
            lost = None if found.lost is None else tuple(dict.fromkeys(self.digests + found.lost))
            return Tail(self.offset, found.reason, found.torn, lost, found.newer)
        reason = f"a large message ends after part {self._seen}"
        return Damage(self.offset, found.offset, reason, self.digests)


def _is_part(meta: Meta) -> bool:
    """Tells whether a frame with a part has one message and nothing else."""
    return len(meta.messages) == 1 and len(meta.origins) == 1 and not (meta.places or meta.removed or meta.flags)


class PackReader:
    """Reads messages in any order; keeps the content of the last data frame, so that reading in order is fast.

    `open_pack` gives a descriptor for a pack's number; it stays the caller's.
    """

    def __init__(self, open_pack: Callable[[int], int]) -> None:
        self._open_pack = open_pack
        self._cached: tuple[int, int, Frame, bytes] | None = None

    def chunks(self, at: Location) -> Iterator[bytes]:
        """The original octets of a message, unchecked: the caller knows the SHA-256. Raises BadFrame, OSError."""
        if at.parts == 1:
            _, data = self._pair(at.pack, at.frame)
            yield mboxrd.decode(data[at.offset : at.offset + at.length], crlf=at.crlf)
        else:
            yield from mboxrd.decode_stream(self._stored(at), crlf=at.crlf)

    def _stored(self, at: Location) -> Iterator[bytes]:
        offset = at.frame
        for _ in range(at.parts):
            frame, data = self._pair(at.pack, offset)
            for row in frame.meta.messages[:1]:
                for start in range(row.offset, row.offset + row.length, CHUNK_OCTETS):
                    yield data[start : min(start + CHUNK_OCTETS, row.offset + row.length)]
            offset = frame.end

    def _pair(self, pack: int, offset: int) -> tuple[Frame, bytes]:
        if self._cached and self._cached[:2] == (pack, offset):
            return self._cached[2:]
        self._cached = None
        fd = self._open_pack(pack)
        frame = read_frame(fd, offset, os.fstat(fd).st_size)
        data = content(fd, frame)
        self._cached = (pack, offset, frame, data)
        return frame, data
