"""From messages to frames: gathered to about 1 MiB, encoded and compressed in threads of their own."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import ClassVar, TypeVar

from syncd.formats import mboxrd, zstd
from syncd.formats.line_ends import all_crlf
from syncd.formats.packs.frame import FRAME_OCTETS, PART_OCTETS, encode_frame
from syncd.formats.packs.meta import MAX_FLAGS_CHARACTERS, Meta, PlaceRow, StoredRow, date_text, flags_text
from syncd.formats.packs.parse import MAX_META_OCTETS
from syncd.mail.body import CHUNK_OCTETS, Body
from syncd.mail.message import Message

META_OCTETS = MAX_META_OCTETS // 16  # an octet may become `%XX` or `\u00XX`, names stand there as octets and as path
ROW_OCTETS = 256  # digests, numbers, a date, names of columns
CROWD = 4  # open archives, beyond which what is made ahead would only wait in memory
THREADS = 2  # a third finds no processor on small machines, and each keeps some frames in memory

T = TypeVar("T")
Frame = tuple[Meta, list[bytes]]  # what a frame says, and the records of its data frame, if it has one
Packed = Future[tuple[Meta, bytes, bytes]]  # the same as a metadata frame and a data frame, empty if there is none


class Compressor:
    """The threads that encode and compress: encoding takes turns (the GIL), compressing does not.

    All archives that a process has open share them: each thread keeps a context of some MiB and the frames it makes.
    The last archive that is closed ends them.
    """

    _shared: ClassVar[ThreadPoolExecutor | None] = None
    _users: ClassVar[int] = 0
    _lock: ClassVar[threading.Lock] = threading.Lock()  # guards the two above
    _own: ClassVar[threading.local] = threading.local()

    def __init__(self) -> None:
        with self._lock:
            self._executor = Compressor._shared or ThreadPoolExecutor(THREADS, "pack-compressor")
            Compressor._shared = self._executor
            Compressor._users += 1
        self._closed = False

    @property
    def is_crowded(self) -> bool:
        """Returns whether so many archives are open that the threads have enough to do without working ahead."""
        return Compressor._users > CROWD

    def submit(self, build: Callable[[], Frame]) -> Packed:
        """Begin to make a frame."""
        return self._executor.submit(self._pack, build)

    def ask(self, question: Callable[[], T]) -> T:
        """Answer a question in one of the threads."""
        return self._executor.submit(question).result()

    def _pack(self, build: Callable[[], Frame]) -> tuple[Meta, bytes, bytes]:
        if not hasattr(self._own, "zstd"):
            self._own.zstd = zstd.compressor()
        meta, records = build()
        data = zstd.compress(self._own.zstd, b"".join(records)) if records else b""
        return meta, encode_frame(zstd.compress(self._own.zstd, meta.dump()), data), data

    def close(self) -> None:
        """Let go of the threads: call it when nothing is under way. Repeatable."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            Compressor._users -= 1
            if Compressor._users:
                return
            Compressor._shared = None
        self._executor.shutdown(cancel_futures=True)


class Frames:
    """The frames of one batch, in the order in which they are added."""

    def __init__(self, compressor: Compressor, at: int) -> None:
        self._compressor = compressor
        self._at = at
        self._waiting: deque[Packed] = deque()

    def add(self, messages: Iterable[Message]) -> None:
        """Store messages: their octets and their places. Does not wait; the caller bounds how much memory they take."""
        some: list[Message] = []
        octets = said = 0
        for message in messages:
            if some and (octets + message.body.octets > FRAME_OCTETS or said > META_OCTETS):
                self._submit(partial(_frame, self._at, some))
                some, octets, said = [], 0, 0
            some.append(message)
            octets += message.body.octets
            said += row_octets(message)
        if some:
            self._submit(partial(_frame, self._at, some))

    def add_parts(self, message: Message) -> Iterator[Packed]:
        """Store a message of any size. Two passes: for the form and the stored length, and to store; memory: two parts.

        Whoever iterates takes over what was added before, too, as it gets ready.
        """
        crlf, stored = self._compressor.ask(partial(_measured, message.body))
        total = max(1, -(-stored // PART_OCTETS))
        parts = _regroup(_encoded(message.body, crlf=crlf), PART_OCTETS, total)
        for number in range(1, total + 1):
            while self._waiting:
                yield self._waiting.popleft()
            self._submit(partial(_part, self._at, message, parts, (number, total), crlf))

    def add_facts(self, meta: Meta) -> None:
        """Add a frame of metadata alone."""
        self._submit(lambda: (meta, []))

    def finish(self) -> Iterator[Packed]:
        """Yields the frames that are left."""
        while self._waiting:
            yield self._waiting.popleft()

    def drop(self) -> None:
        """Drop the frames that are left: when this returns, the messages are no longer read. Repeatable."""
        wait([packed for packed in self._waiting if not packed.cancel()])
        self._waiting.clear()

    def _submit(self, build: Callable[[], Frame]) -> None:
        self._waiting.append(self._compressor.submit(build))


def row_octets(message: Message) -> int:
    """About what a message adds to its frame's metadata, before what is not printable is written as text."""
    flags = sum(map(len, message.flags + message.labels)) if message.flags or message.labels else 0
    return ROW_OCTETS + len(message.ref.uid) + len(message.ref.origin.mailbox) + flags


def place(meta: Meta, message: Message) -> PlaceRow:
    """Returns the place of a message as a row of `meta`."""
    origin, uid, occurrence = message.ref
    flags, labels = _text(message.flags), _text(message.labels)
    date = date_text(message.internal_date)
    return PlaceRow(message.body.sha256, meta.origin(origin), uid, occurrence, flags, date, labels)


def _text(names: tuple[str, ...]) -> str:
    """Returns flags or labels as text, as many as a frame may have: nobody could read one with more."""
    if not names:
        return ""
    found = flags_text(names)
    return found if len(found) <= MAX_FLAGS_CHARACTERS else found[: MAX_FLAGS_CHARACTERS + 1].rpartition(" ")[0]


def _frame(at: int, messages: list[Message]) -> Frame:
    """One frame with whole messages."""
    meta = Meta(at)
    records: list[bytes] = []
    offset, stored_now = 0, mboxrd.from_line(float(at))
    for message in messages:
        body = message.body
        line = mboxrd.from_line(message.internal_date) if message.internal_date else stored_now
        if body.data is not None:
            stored, crlf = mboxrd.encode(body.data)
            pieces, length = [stored], len(stored)
        else:
            crlf = all_crlf(_pieces(body))
            pieces = list(_encoded(body, crlf=crlf))
            length = sum(map(len, pieces))
        offset += len(line)
        meta.messages.append(StoredRow(body.sha256, body.header_hash, body.octets, offset, length, crlf))
        meta.firsts.append(place(meta, message))
        end = _end(pieces)
        records += (line, *pieces, end)
        offset += length + len(end)
    return meta, records


def _part(at: int, message: Message, parts: Iterator[list[bytes]], part: tuple[int, int], crlf: bool) -> Frame:  # noqa: FBT001  for `partial`
    """The next part of a large message; only the last one is whole with its end."""
    number, total = part
    meta = Meta(at, part=part if total > 1 else None)
    pieces, body = next(parts), message.body
    line = mboxrd.from_line(message.internal_date or float(at)) if number == 1 else b""
    end = _end(pieces) if number == total else b""
    length = sum(map(len, pieces))
    meta.messages.append(StoredRow(body.sha256, body.header_hash, body.octets, len(line), length, crlf))
    meta.firsts.append(place(meta, message))
    return meta, [line, *pieces, end]


def _end(pieces: list[bytes]) -> bytes:
    return mboxrd.separator(next(filter(None, reversed(pieces)), b""))


def _measured(body: Body) -> tuple[bool, int]:
    """Tells whether the form of a message is `crlf`, and how many octets are stored."""
    crlf = all_crlf(_pieces(body))
    return crlf, sum(map(len, _encoded(body, crlf=crlf)))


def _encoded(body: Body, *, crlf: bool) -> Iterator[bytes]:
    return mboxrd.encode_stream(_pieces(body), crlf=crlf)


def _pieces(body: Body) -> Iterator[bytes]:
    """The octets in pieces of at most CHUNK_OCTETS, also when they are in memory."""
    for chunk in body.chunks():
        for start in range(0, len(chunk), CHUNK_OCTETS):
            yield chunk[start : start + CHUNK_OCTETS]


def _regroup(pieces: Iterable[bytes], octets: int, total: int) -> Iterator[list[bytes]]:
    """Yields the same octets in `total` groups of `octets` each, the last with the rest."""
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
