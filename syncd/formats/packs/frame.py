"""The frames of a pack (`NNNNNN.mbox.zst`): a pack is a sequence of pairs, and of metadata frames alone.

A pair is a zstd skippable frame (RFC 8878 §3.1.2), which `zstdcat` passes over, and a zstd data frame
with about 1 MiB of mail as mbox records. Integers are little-endian:

     offset  octets
          0       4   53 2A 4D 18    magic number of a skippable frame
          4       4   octets that follow in this frame: 24 + those of the metadata
          8       6   "SYNCDP"
         14       2   version of the format: 1
         16       4   CRC-32C of this frame without these 4 octets
         20       4   CRC-32C of the data frame, 0 if there is none
         24       8   octets of the data frame, 0: metadata alone
         32       …   metadata: JSON in UTF-8 as one zstd frame (see meta.py)
                  …   the data frame: zstd, level 3, with content checksum

zstd protects neither skippable frames nor every bit of a data frame's header, hence the two CRCs
(CRC-32C as in RFC 3720 §12.1, by google-crc32c, which uses the processor's instruction: 17 GB/s; table
driven Python does 10 MB/s and would cost more than everything else).

A message over 8 MiB is several pairs in a row, which say "part i of n"; they are void until the last is whole.

Damage and a torn append are two things. An append that was interrupted leaves octets at the end of a pack that do not
make a whole frame: no whole header, or a header with a length beyond the end of the file. Everything else that is not
a frame is damage: a checksum that differs, metadata that makes no sense (`parse.py`), zeros. Behind it reading goes on.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

import google_crc32c

from syncd.formats import zstd
from syncd.formats.packs.meta import Meta
from syncd.formats.packs.parse import MAX_DATA_OCTETS, MAX_META_OCTETS, parse

VERSION: Final = 1
MAGIC: Final = b"SYNCDP"
SKIPPABLE: Final = 0x184D2A53
HEADER: Final = struct.Struct("<II6sHIIQ")
LARGE_OCTETS: Final = 8 << 20  # a longer message is stored in parts
PART_OCTETS: Final = 4 << 20
FRAME_OCTETS: Final = (
    1 << 20
)  # of mail in a data frame; more hardly compresses better and is more to read for one message
MAX_PACKED_OCTETS: Final = MAX_DATA_OCTETS + (
    1 << 20
)  # of a data frame: zstd adds 1/256 where nothing can be compressed
SEARCH_OCTETS: Final = 1 << 20
SEARCH_FACTOR: Final = 16  # octets that a search may read of would-be frames, by the octets it goes through
SHORT_OCTETS: Final = 64 << 10  # of a would-be frame that is tried in any case

_CRC_AT: Final = 16
_CRC_END: Final = 20
_MAGIC_AT: Final = 8
_MAGIC_END: Final = 14
_START: Final = struct.Struct("<II")

Lost = tuple[bytes, ...] | None  # digests of the messages in octets that cannot be read; None: nobody knows


class BadFrame(Exception):
    """Not a frame of ours at this offset.

    `end` is where the next one starts, if the metadata could be trusted; `torn`: an interrupted append looks like it.
    """

    def __init__(
        self, reason: str, end: int | None = None, *, torn: bool = False, newer: bool = False, lost: Lost = None
    ) -> None:
        super().__init__(reason)
        self.end = end
        self.torn = torn
        self.newer = newer
        self.lost = lost


class Frame(NamedTuple):
    """A metadata frame that agrees with its CRC, and where its data frame is."""

    offset: int  # of the skippable frame in the pack
    data_offset: int
    data_octets: int
    data_crc: int
    meta: Meta

    @property
    def end(self) -> int:
        """The offset at which the next frame starts."""
        return self.data_offset + self.data_octets

    @property
    def digests(self) -> tuple[bytes, ...]:
        """The messages of which the data frame has octets."""
        return tuple(row.sha256 for row in self.meta.messages)


class Damage(NamedTuple):
    """Octets of a pack that are not what was written, with sound frames behind them."""

    offset: int
    end: int
    reason: str
    lost: Lost = None
    newer: bool = False  # a later version wrote it: sound for a later program


class Tail(NamedTuple):
    """The end of a pack that no sound frame follows. `torn`: it looks like an append that was interrupted."""

    offset: int
    reason: str
    torn: bool = True
    lost: Lost = ()
    newer: bool = False


def encode_frame(meta: bytes, data: bytes) -> bytes:
    """The skippable frame for compressed metadata `meta` and the data frame `data` (empty: metadata alone)."""
    size = HEADER.size - _MAGIC_AT + len(meta)
    data_crc = google_crc32c.value(data) if data else 0
    header = HEADER.pack(SKIPPABLE, size, MAGIC, VERSION, 0, data_crc, len(data))
    crc = _crc(header, meta)
    return b"".join((header[:_CRC_AT], crc.to_bytes(4, "little"), header[_CRC_END:], meta))


def _crc(header: bytes, meta: bytes) -> int:
    crc: int = google_crc32c.extend(google_crc32c.value(header[:_CRC_AT] + header[_CRC_END:]), meta)
    return crc  # google_crc32c has no types of its own


def read_frame(fd: int, offset: int, limit: int) -> Frame:
    """Read and check the metadata frame at `offset`; its data frame must end at or before `limit`.

    Raises BadFrame, OSError.
    """
    header = os.pread(fd, max(0, min(HEADER.size, limit - offset)), offset)
    if len(header) < HEADER.size:
        raise BadFrame("ends inside a frame header", torn=True, lost=())
    magic, size, ours, version, crc, data_crc, data_octets = HEADER.unpack(header)
    meta_octets = size + _MAGIC_AT - HEADER.size
    if magic != SKIPPABLE or ours != MAGIC:
        raise BadFrame("no frame starts here")
    if not 0 <= meta_octets <= MAX_META_OCTETS:
        raise BadFrame("a frame header makes no sense")
    data_offset = offset + HEADER.size + meta_octets
    if data_offset > limit:
        raise BadFrame("the metadata does not end inside the file", torn=True)
    meta = os.pread(fd, meta_octets, offset + HEADER.size)
    if _crc(header, meta) != crc:
        raise BadFrame("the metadata is damaged (CRC-32C differs)")
    end = data_offset + data_octets
    if version > VERSION:
        reason = f"was written in format {version}, this syncd reads up to {VERSION}: use a newer syncd"
        raise BadFrame(reason, min(end, limit), newer=True)
    frame = Frame(offset, data_offset, data_octets, data_crc, _parsed(meta, min(end, limit)))
    if end > limit:
        raise BadFrame("the data frame does not end inside the file", limit, torn=True, lost=frame.digests)
    if bool(data_octets) != bool(frame.meta.messages) or data_octets > MAX_PACKED_OCTETS:
        raise BadFrame("the metadata does not describe the data frame", end)
    return frame


def _parsed(meta: bytes, end: int) -> Meta:
    try:
        return parse(zstd.decompress(meta, MAX_META_OCTETS))
    except (zstd.ZstdError, ValueError) as error:
        raise BadFrame(f"the metadata cannot be read ({error})", end) from error


def read_data(fd: int, frame: Frame) -> bytes:
    """The data frame as it lies in the pack, checked against its CRC. Raises BadFrame."""
    data = os.pread(fd, frame.data_octets, frame.data_offset)
    if len(data) < frame.data_octets or (data and google_crc32c.value(data) != frame.data_crc):
        reason = "the mail is damaged (CRC-32C of the data frame differs)"
        raise BadFrame(reason, frame.end, lost=frame.digests)
    return data


def content(fd: int, frame: Frame) -> bytes:
    """The mbox records of a pair. Raises BadFrame."""
    try:
        return zstd.decompress(read_data(fd, frame), MAX_DATA_OCTETS)
    except zstd.ZstdError as error:
        raise BadFrame(f"the mail cannot be decompressed ({error})", frame.end, lost=frame.digests) from error


def scan(fd: int, start: int, limit: int) -> Iterator[Frame | Damage | Tail]:
    """Every frame from `start` to `limit`, data frames checked by CRC; damage is passed over at the next sound frame.

    A pack that holds nothing at all is damage: it had a first frame when it got its name. Raises OSError.
    """
    offset = start
    if limit == 0:
        yield Tail(0, "is empty", torn=False, lost=None)
    while offset < limit:
        try:
            frame = read_frame(fd, offset, limit)
            read_data(fd, frame)
        except BadFrame as bad:
            after = _next_sound(fd, offset + 1 if bad.end is None else bad.end, limit)
            if after is None:
                yield Tail(offset, str(bad), bad.torn, bad.lost, bad.newer)
                return
            yield Damage(offset, after, str(bad), None if bad.torn else bad.lost, bad.newer)
            offset = after
        else:
            yield frame
            offset = frame.end


def _next_sound(fd: int, start: int, limit: int) -> int | None:
    """Returns the offset of the next frame with sound metadata, at or after `start`.

    Octets that look like many long frames would be read again and again: then only short ones are tried.
    """
    room = SEARCH_FACTOR * (limit - start) + MAX_META_OCTETS
    for position, octets in _likely(fd, start, limit):
        if SHORT_OCTETS < octets <= MAX_META_OCTETS:
            room -= octets
        if octets <= max(room, SHORT_OCTETS):
            try:
                read_frame(fd, position, limit)
            except BadFrame as bad:
                if bad.end is None:
                    continue
            return position
    return None


def _likely(fd: int, start: int, limit: int) -> Iterator[tuple[int, int]]:
    """Yields where a metadata frame may start, and how many octets it says that it has. Each octet is read once."""
    position, window = start, bytes(_MAGIC_END)
    while len(window) >= _MAGIC_END and position + HEADER.size <= limit:
        window = os.pread(fd, min(SEARCH_OCTETS, limit - position), position)
        found = window.find(MAGIC, _MAGIC_AT)
        while found >= 0:
            magic, octets = _START.unpack_from(window, found - _MAGIC_AT)
            if magic == SKIPPABLE:
                yield position + found - _MAGIC_AT, octets
            found = window.find(MAGIC, found + 1)
        position += len(window) - _MAGIC_END + 1
