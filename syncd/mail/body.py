"""The octets of one message: in memory up to a cap, in a file beyond it.

Octets are exactly those received, CRLF kept. SHA-256 is taken while they arrive (1.7 GB/s, a few
percent of a core) and is the one everything later is checked against. `header_hash` is the first
8 octets of the SHA-256 of the header (up to and without the empty line), which recognises a message
again when a server has renamed it; 64 bits, because it only ever decides together with the octet count.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self

from syncd.errors import storage_error

MEMORY_CAP_OCTETS = 2 << 20  # DESIGN: longer bodies go to a file in the state directory
CHUNK_OCTETS = 256 << 10  # read-back size: large enough that Python's cost per chunk vanishes
HEADER_CAP_OCTETS = 64 << 10  # a header longer than this is hashed as far as this
HEADER_HASH_OCTETS = 8


def header_hash(start: bytes) -> bytes:
    """Hash the header at the start of a message (RFC 5322 §2.1: it ends at the first empty line).

    That may be its first line: TOP then gives no more of the message than this line (RFC 1939 §7).
    """
    if start.startswith(b"\r\n"):
        return hashlib.sha256(b"").digest()[:HEADER_HASH_OCTETS]
    end = start.find(b"\r\n\r\n", 0, HEADER_CAP_OCTETS)
    return hashlib.sha256(start[: end if end >= 0 else HEADER_CAP_OCTETS]).digest()[:HEADER_HASH_OCTETS]


class Body:
    """The octets of one message, complete and unchanging. Iterate as often as needed; close once."""

    __slots__ = ("_file", "data", "header_hash", "octets", "sha256")

    def __init__(
        self, data: bytes | None, octets: int, sha256: bytes, header_hash: bytes, file: BinaryIO | None = None
    ) -> None:
        self.data = data  # None: the octets are in the file
        self.octets = octets
        self.sha256 = sha256
        self.header_hash = header_hash
        self._file = file

    @classmethod
    def of(cls, data: bytes) -> Self:
        """A body in memory."""
        return cls(data, len(data), hashlib.sha256(data).digest(), header_hash(data))

    def chunks(self) -> Iterator[bytes]:
        """The octets in order, in pieces of at most CHUNK_OCTETS (one piece when they are in memory)."""
        if self.data is not None:
            yield self.data
            return
        assert self._file is not None, "the body was closed"
        offset = 0
        while chunk := os.pread(self._file.fileno(), CHUNK_OCTETS, offset):
            offset += len(chunk)
            yield chunk

    def close(self) -> None:
        """Give the file back, if there is one. Repeatable."""
        if self._file is not None:
            self._file.close()
            self._file = None


class BodyWriter:
    """Takes octets as they arrive and becomes a Body.

    Beyond MEMORY_CAP_OCTETS they go to an unnamed file in `directory` (the state directory: the
    system's temporary directory may be memory). A crash leaves nothing behind. Raises StorageError.
    """

    __slots__ = ("_directory", "_file", "_hash", "_parts", "_start", "octets")

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._hash = hashlib.sha256()
        self._parts: list[bytes] = []
        self._start = b""
        self._file: BinaryIO | None = None
        self.octets = 0

    def write(self, chunk: bytes) -> None:
        """Add octets; the chunk is kept, not copied, so it must not change afterwards."""
        self._hash.update(chunk)
        self.octets += len(chunk)
        if self._file is None:
            self._parts.append(chunk)
            if self.octets <= MEMORY_CAP_OCTETS:
                return
            self._start = b"".join(self._parts)[:HEADER_CAP_OCTETS]
            chunks, self._parts = self._parts, []
            try:
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._file = tempfile.TemporaryFile(dir=self._directory)
            except OSError as error:
                raise storage_error(error, f"cannot make a file for a large message in {self._directory}") from error
        else:
            chunks = [chunk]
        try:
            for part in chunks:
                self._file.write(part)
        except OSError as error:
            raise storage_error(error, f"cannot write a large message to {self._directory}") from error

    def finish(self) -> Body:
        """The complete body; the writer is used up."""
        if self._file is None:
            data = b"".join(self._parts)
            return Body(data, len(data), self._hash.digest(), header_hash(data))
        try:
            self._file.flush()
        except OSError as error:
            raise storage_error(error, f"cannot write a large message to {self._directory}") from error
        file, self._file = self._file, None
        return Body(None, self.octets, self._hash.digest(), header_hash(self._start), file)

    def discard(self) -> None:
        """Drop what was written. Repeatable."""
        self._parts = []
        if self._file is not None:
            self._file.close()
            self._file = None
