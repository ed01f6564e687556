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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from syncd.errors import StorageError, storage_error

MEMORY_CAP_OCTETS = 2 << 20  # DESIGN: longer bodies go to a file in the state directory
CHUNK_OCTETS = 256 << 10  # read-back size: large enough that Python's cost per chunk vanishes
HEADER_CAP_OCTETS = 64 << 10  # of a longer header only so much is hashed
HEADER_HASH_OCTETS = 8
FILE_OCTETS = 64 << 20  # then a spool begins another file: the disk gets the first one back when its messages are done


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

    __slots__ = ("_file", "_start", "data", "header_hash", "octets", "sha256")

    def __init__(  # noqa: PLR0917  the fields, in the order in which they come to be known
        self,
        data: bytes | None,
        octets: int,
        sha256: bytes,
        header_hash: bytes,
        file: _File | None = None,
        start: int = 0,
    ) -> None:
        self.data = data  # None: the octets are in the file, from `start` on
        self.octets = octets
        self.sha256 = sha256
        self.header_hash = header_hash
        self._file = file
        self._start = start

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
        descriptor, at, end = self._file.descriptor, self._start, self._start + self.octets
        while at < end:
            chunk = os.pread(descriptor, min(CHUNK_OCTETS, end - at), at)
            assert chunk, "nobody shortens the file"
            at += len(chunk)
            yield chunk

    def close(self) -> None:
        """Give the file back, if there is one. Repeatable."""
        self._file = None


class _File:
    """An unnamed file with the octets of long messages, one behind another; gone when nothing refers to it any more."""

    __slots__ = ("descriptor", "end")

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
            self.descriptor = os.dup(file.fileno())
        self.end = 0

    def write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            written = os.pwrite(self.descriptor, view, self.end)
            self.end += written
            view = view[written:]

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class Spool:
    """A place on disk for long messages, in unnamed files of `directory`, that a crash does not leave behind.

    The directory is the state directory: the system's temporary directory may be memory. One message is written at a
    time. Many messages share a file, for the number of open files is limited; any thread may read and close them.
    """

    __slots__ = ("_directory", "_file")

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: _File | None = None

    def file(self) -> _File:
        """Returns the file that the next message goes to. Raises StorageError."""
        if self._file is None or self._file.end >= FILE_OCTETS:
            try:
                self._file = _File(self._directory)
            except OSError as error:
                doing = f"cannot make a file for a large message in {self._directory}"
                raise storage_error(error, doing) from error
        return self._file

    def failed(self, error: OSError) -> StorageError:
        """Returns the error for a message that cannot be written."""
        return storage_error(error, f"cannot write a large message to {self._directory}")


def _anything(_octets: int) -> bool:
    return True


class BodyWriter:
    """Takes octets as they arrive and becomes a Body.

    Beyond MEMORY_CAP_OCTETS they go to the spool (one of its own in the directory that is given instead). Raises
    StorageError.
    """

    __slots__ = ("_at", "_file", "_fits", "_hash", "_parts", "_spool", "_start", "octets")

    def __init__(self, spool: Spool | Path, fits: Callable[[int], bool] = _anything) -> None:
        """`fits` is asked with a number of octets whether they may be kept in memory; after a no they go to a file."""
        self._spool = spool if isinstance(spool, Spool) else Spool(spool)
        self._fits = fits
        self._hash = hashlib.sha256()
        self._parts: list[bytes] = []
        self._start = b""
        self._file: _File | None = None
        self._at = 0
        self.octets = 0

    def write(self, chunk: bytes) -> None:
        """Add octets; the chunk is kept, not copied, so it must not change afterwards."""
        self._hash.update(chunk)
        self.octets += len(chunk)
        if self._file is None:
            self._parts.append(chunk)
            if self.octets <= MEMORY_CAP_OCTETS and self._fits(self.octets):
                return
            self._start = b"".join(self._parts)[:HEADER_CAP_OCTETS]
            chunks, self._parts = self._parts, []
            self._file = self._spool.file()
            self._at = self._file.end
        else:
            chunks = [chunk]
        try:
            for part in chunks:
                self._file.write(part)
        except OSError as error:
            raise self._spool.failed(error) from error

    def finish(self) -> Body:
        """The complete body; the writer is used up."""
        if self._file is None:
            data = b"".join(self._parts)
            return Body(data, len(data), self._hash.digest(), header_hash(data))
        file, self._file = self._file, None
        return Body(None, self.octets, self._hash.digest(), header_hash(self._start), file, self._at)

    def discard(self) -> None:
        """Drop what was written. Repeatable."""
        self._parts = []
        if self._file is not None:
            self._file.end = self._at
            self._file = None
