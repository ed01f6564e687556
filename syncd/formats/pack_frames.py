"""From messages to frames: records are gathered to about 1 MiB and compressed in a thread of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from syncd.formats import mboxrd, zstd
from syncd.formats.line_ends import all_crlf
from syncd.formats.pack import FRAME_OCTETS, LARGE_OCTETS, PART_OCTETS, encode_frame
from syncd.formats.pack_meta import Meta, PlaceRow, StoredRow, flags_text
from syncd.mail.body import CHUNK_OCTETS, Body
from syncd.mail.message import Message

WAITING_OCTETS: Final = 4 << 20  # of records handed to the compressor and not yet written


Packed = Future[tuple[bytes, bytes]]  # a metadata frame, and its data frame, empty if it has none


class Compressor:
    """The thread that compresses. zstd lets other threads run meanwhile."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "pack-compressor")
        self._zstd = zstd.compressor()

    def submit(self, meta: Meta, records: list[bytes]) -> Packed:
        """Begin to compress a frame."""
        return self._executor.submit(self._pack, meta, records)

    def _pack(self, meta: Meta, records: list[bytes]) -> tuple[bytes, bytes]:
        data = zstd.compress(self._zstd, b"".join(records)) if records else b""
        return encode_frame(zstd.compress(self._zstd, meta.dump()), data), data

    def close(self) -> None:
        """End the thread. Repeatable."""
        self._executor.shutdown(cancel_futures=True)


class Frames:
    """The frames of one batch. What is ready, or nearly so, is yielded in the order in which it was added."""

    def __init__(self, compressor: Compressor, at: int) -> None:
        self._compressor = compressor
        self._at = at
        self._from_line = mboxrd.from_line(float(at))
        self._waiting: deque[tuple[int, Meta, Packed]] = deque()
        self._waiting_octets = 0
        self._start()

    def _start(self) -> None:
        self._meta = Meta(self._at)
        self._records: list[bytes] = []
        self._octets = 0

    def add(self, messages: Iterable[Message]) -> Iterator[tuple[Meta, Packed]]:
        """Store messages: their octets and their places."""
        for message in messages:
            if message.body.data is None or message.body.octets > LARGE_OCTETS:
                yield from self._flush()
                yield from self._add_stream(message)
                continue
            self._add(message, message.body.data)
            if self._octets >= FRAME_OCTETS:
                yield from self._flush()

    def _add(self, message: Message, data: bytes) -> None:
        stored, crlf = mboxrd.encode(data)
        line = mboxrd.from_line(message.internal_date) if message.internal_date else self._from_line
        end = mboxrd.separator(stored)
        offset = self._octets + len(line)
        body, meta = message.body, self._meta
        meta.messages.append(StoredRow(body.sha256, body.header_hash, body.octets, offset, len(stored), crlf))
        meta.firsts.append(place(meta, message))
        self._records += (line, stored, end)
        self._octets = offset + len(stored) + len(end)

    def facts(self, meta: Meta) -> Iterator[tuple[Meta, Packed]]:
        """Metadata alone, after all that was added before."""
        yield from self._flush()
        yield from self._submit(meta, [], 0)

    def finish(self) -> Iterator[tuple[Meta, Packed]]:
        """What is left."""
        yield from self._flush()
        while self._waiting:
            yield self._oldest()

    def _flush(self) -> Iterator[tuple[Meta, Packed]]:
        if self._records:
            meta, records, octets = self._meta, self._records, self._octets
            self._start()
            yield from self._submit(meta, records, octets)

    def _submit(self, meta: Meta, records: list[bytes], octets: int) -> Iterator[tuple[Meta, Packed]]:
        while self._waiting and (self._waiting_octets + octets > WAITING_OCTETS or self._waiting[0][2].done()):
            yield self._oldest()
        self._waiting.append((octets, meta, self._compressor.submit(meta, records)))
        self._waiting_octets += octets

    def _oldest(self) -> tuple[Meta, Packed]:
        octets, meta, packed = self._waiting.popleft()
        self._waiting_octets -= octets
        return meta, packed

    # --- messages that are not in memory ---

    def _add_stream(self, message: Message) -> Iterator[tuple[Meta, Packed]]:
        """Two passes over the octets: one for the form and the stored length, one to store; memory: two parts."""
        body = message.body
        crlf = all_crlf(_pieces(body))
        stored = last = 0
        for piece in mboxrd.encode_stream(_pieces(body), crlf=crlf):
            stored += len(piece)
            last = piece[-1] if piece else last
        line = mboxrd.from_line(message.internal_date) if message.internal_date else self._from_line
        end = mboxrd.separator(bytes([last]))
        total = max(1, -(-stored // PART_OCTETS)) if body.octets > LARGE_OCTETS else 1
        pieces = mboxrd.encode_stream(_pieces(body), crlf=crlf)
        for number, part in enumerate(_regroup(pieces, PART_OCTETS if total > 1 else stored, total), 1):
            meta = Meta(self._at, part=(number, total) if total > 1 else None)
            records = [line if number == 1 else b"", *part, end if number == total else b""]
            length = sum(map(len, part))
            meta.messages.append(StoredRow(body.sha256, body.header_hash, body.octets, len(records[0]), length, crlf))
            meta.firsts.append(place(meta, message))
            yield from self._submit(meta, records, length)


def place(meta: Meta, message: Message) -> PlaceRow:
    """Where a message was seen, as a row of `meta`."""
    origin, uid, occurrence = message.ref
    flags = flags_text(message.flags) if message.flags else ""
    date = message.internal_date.isoformat() if message.internal_date else ""
    return PlaceRow(message.body.sha256, meta.origin(origin), uid, occurrence, flags, date)


def _pieces(body: Body) -> Iterator[bytes]:
    """The octets in pieces of at most CHUNK_OCTETS, also when they are in memory."""
    for chunk in body.chunks():
        for start in range(0, len(chunk), CHUNK_OCTETS):
            yield chunk[start : start + CHUNK_OCTETS]


def _regroup(pieces: Iterable[bytes], octets: int, total: int) -> Iterator[list[bytes]]:
    """The same octets in `total` groups of `octets` each, the last with the rest."""
    group: list[bytes] = []
    missing = octets
    for piece in pieces:
        rest = piece
        while len(rest) >= missing and total > 1:
            yield [*group, rest[:missing]]
            group, rest, missing, total = [], rest[missing:], octets, total - 1
        group.append(rest)
        missing -= len(rest)
    yield group
