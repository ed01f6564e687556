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
    """What is taken up together: one frame or pair, or all parts of a large message."""

    offset: int
    end: int
    metas: list[Meta]


class Location(NamedTuple):
    """Where a message is: the pack, its (first) frame, and inside that frame's content."""

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

    Parts that do not make a whole are damage; at the end of the pack they are the tail.
    """
    parts: list[Frame] = []
    for found in scan(fd, start, limit):
        follows = isinstance(found, Frame) and _follows(parts, found)
        if parts and not follows:
            yield _broken(parts, found)
            parts = []
            if isinstance(found, Tail):
                return
            follows = isinstance(found, Frame) and _follows(parts, found)
        if not isinstance(found, Frame):
            yield found
        elif not found.meta.part:
            yield Unit(found.offset, found.end, [found.meta])
        elif not follows:
            yield Damage(
                found.offset, found.end, f"part {found.meta.part[0]} of a large message without those before it"
            )
        else:
            parts.append(found)
            if len(parts) == found.meta.part[1]:
                yield Unit(parts[0].offset, found.end, [part.meta for part in parts])
                parts = []
    if parts:
        yield Tail(parts[0].offset, "ends inside a large message")


def _follows(parts: list[Frame], frame: Frame) -> bool:
    """Whether `frame` is the next part after `parts` (none: the first of some message)."""
    if not frame.meta.part or len(frame.meta.messages) != 1 or frame.meta.part[0] != len(parts) + 1:
        return False
    return not parts or (
        parts[0].meta.part is not None
        and parts[0].meta.part[1] == frame.meta.part[1]
        and parts[0].meta.messages[0].sha256 == frame.meta.messages[0].sha256
    )


def _broken(parts: list[Frame], found: Frame | Damage | Tail) -> Damage | Tail:
    if isinstance(found, Tail):
        return Tail(parts[0].offset, found.reason)
    return Damage(parts[0].offset, found.offset, f"a large message ends after part {len(parts)}")


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
