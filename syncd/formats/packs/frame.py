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
         32       …   metadata: JSON in UTF-8 as one zstd frame (see pack_meta.py)
                  …   the data frame: zstd, level 3, with content checksum

zstd protects neither skippable frames nor every bit of a data frame's header, hence the two CRCs
(CRC-32C as in RFC 3720 §12.1, by google-crc32c, which uses the processor's instruction: 17 GB/s; table
driven Python does 10 MB/s and would cost more than everything else).

A message over 8 MiB is several pairs in a row, which say "part i of n"; they are void until the last is whole.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

import google_crc32c

from syncd.errors import FormatDamaged
from syncd.formats import zstd
from syncd.formats.packs.meta import Meta, parse

VERSION: Final = 1
MAGIC: Final = b"SYNCDP"
SKIPPABLE: Final = 0x184D2A53
HEADER: Final = struct.Struct("<II6sHIIQ")
LARGE_OCTETS: Final = 8 << 20  # a longer message is stored in parts
PART_OCTETS: Final = 4 << 20
FRAME_OCTETS: Final = (
    1 << 20
)  # of mail in a data frame; more hardly compresses better and is more to read for one message
MAX_META_OCTETS: Final = (
    64 << 20
)  # decompressed; a frame of ours has far less, a damaged or hostile one must not fill memory
MAX_DATA_OCTETS: Final = 32 << 20  # a message of 8 MiB made of `From ` lines grows by a fifth; the rest is margin
SEARCH_OCTETS: Final = 1 << 20

_CRC_AT: Final = 16
_CRC_END: Final = 20
_MAGIC_AT: Final = 8


class BadFrame(Exception):
    """Not a frame of ours at this offset; `end` is where the next one starts, if the metadata could be trusted."""

    def __init__(self, reason: str, end: int | None = None) -> None:
        super().__init__(reason)
        self.end = end


class Frame(NamedTuple):
    """A metadata frame that agrees with its CRC, and where its data frame is."""

    offset: int  # of the skippable frame in the pack
    data_offset: int
    data_octets: int
    data_crc: int
    meta: Meta

    @property
    def end(self) -> int:
        """Where the next frame starts."""
        return self.data_offset + self.data_octets


class Damage(NamedTuple):
    """Octets of a pack that are not what was written, with sound frames behind them."""

    offset: int
    end: int
    reason: str


class Tail(NamedTuple):
    """What a pack ends in and no sound frame follows: the rest of an append that was interrupted."""

    offset: int
    reason: str


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

    Raises BadFrame, FormatDamaged when a newer version wrote it, OSError.
    """
    header = os.pread(fd, HEADER.size, offset)
    if len(header) < HEADER.size or offset + HEADER.size > limit:
        raise BadFrame("ends inside a frame header")
    magic, size, ours, version, crc, data_crc, data_octets = HEADER.unpack(header)
    if magic != SKIPPABLE or ours != MAGIC:
        raise BadFrame("no frame starts here")
    meta_octets = size + _MAGIC_AT - HEADER.size
    data_offset = offset + HEADER.size + meta_octets
    if not 0 <= meta_octets <= MAX_META_OCTETS or data_offset > limit:
        raise BadFrame("the metadata does not end inside the file")
    meta = os.pread(fd, meta_octets, offset + HEADER.size)
    if _crc(header, meta) != crc:
        raise BadFrame("the metadata is damaged (CRC-32C differs)")
    if version > VERSION:
        raise FormatDamaged(
            f"a pack was written in format {version}, this syncd reads up to {VERSION}: use a newer syncd"
        )
    if data_offset + data_octets > limit:
        raise BadFrame("the data frame does not end inside the file")
    try:
        parsed = parse(zstd.decompress(meta, MAX_META_OCTETS))
    except (zstd.ZstdError, ValueError) as error:
        raise BadFrame(f"the metadata cannot be read ({error})", data_offset + data_octets) from error
    return Frame(offset, data_offset, data_octets, data_crc, parsed)


def read_data(fd: int, frame: Frame) -> bytes:
    """The data frame as it lies in the pack, checked against its CRC. Raises BadFrame."""
    data = os.pread(fd, frame.data_octets, frame.data_offset)
    if len(data) < frame.data_octets or (data and google_crc32c.value(data) != frame.data_crc):
        raise BadFrame("the mail is damaged (CRC-32C of the data frame differs)", frame.end)
    return data


def content(fd: int, frame: Frame) -> bytes:
    """The mbox records of a pair. Raises BadFrame."""
    try:
        return zstd.decompress(read_data(fd, frame), MAX_DATA_OCTETS)
    except zstd.ZstdError as error:
        raise BadFrame(f"the mail cannot be decompressed ({error})", frame.end) from error


def scan(fd: int, start: int, limit: int) -> Iterator[Frame | Damage | Tail]:
    """Every frame from `start` to `limit`, data frames checked by CRC; damage is passed over at the next sound frame.

    Raises FormatDamaged for a newer version, OSError.
    """
    offset = start
    while offset < limit:
        try:
            frame = read_frame(fd, offset, limit)
            read_data(fd, frame)
        except BadFrame as bad:
            after = _next_sound(fd, offset + 1 if bad.end is None else bad.end, limit)
            if after is None:
                yield Tail(offset, str(bad))
                return
            yield Damage(offset, after, str(bad))
            offset = after
        else:
            yield frame
            offset = frame.end


def _next_sound(fd: int, start: int, limit: int) -> int | None:
    """Where the next frame with sound metadata starts, at or after `start`."""
    position = start
    while position + HEADER.size <= limit:
        window = os.pread(fd, min(SEARCH_OCTETS, limit - position), position)
        found = window.find(MAGIC, _MAGIC_AT)
        if found < 0:
            position += max(len(window) - _MAGIC_AT - len(MAGIC) + 1, 1)
            continue
        position += found - _MAGIC_AT
        try:
            read_frame(fd, position, limit)
        except BadFrame as bad:
            if bad.end is None:
                position += 1
                continue
        return position
    return None
