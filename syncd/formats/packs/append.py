"""Appending to the last pack of an archive.

The caller owns the archive's lock. A batch is: `begin`, any number of `append`, then `sync` or, after an
error, `undo`.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

from syncd import clock
from syncd.durable import Step, durable_step
from syncd.errors import SyncdError, storage_error
from syncd.formats import zstd
from syncd.formats.packs.frame import encode_frame
from syncd.formats.packs.home import Home
from syncd.formats.packs.meta import Meta

SEAL_OCTETS: Final = 256 << 20  # of a pack: small enough to copy and check one by one, large enough to be few
_fdatasync = getattr(os, "fdatasync", os.fsync)  # macOS has none


class Appender:
    """The end of the last pack. Raises StorageError, DiskFull."""

    def __init__(self, home: Home, seal_octets: int = SEAL_OCTETS) -> None:
        self._home = home
        self._seal_octets = seal_octets
        self._fd = -1
        self._head = 0  # octets of the pack's first frame, when we made it
        self._starts: dict[int, int] = {}  # packs of this batch, and where it starts in each
        self._sealed: dict[int, int] = {}  # packs that this batch filled
        self.number = 0
        self.position = 0

    def begin(self, taken_up: dict[int, int]) -> None:
        """Go to the end of the last pack, or begin one if the index does not know all of the last one."""
        self._starts = {}
        self._sealed = {}
        sizes = self._home.packs()
        self.number = max(sizes, default=0)
        if sizes.get(self.number) != taken_up.get(self.number) or not sizes.get(self.number):
            self._create()  # behind a tail that must not be cut, or a pack that lost all it had
            return
        self._fd = self._home.open_pack(self.number, writable=True)
        self._head = 0
        self.position = self._starts[self.number] = taken_up[self.number]

    def make_room(self, octets: int) -> None:
        """Seal this pack and begin another if it is full, or `octets` more are too many for it."""
        if self.position + octets >= self._seal_octets and self.position > self._head:
            self.sync()
            self._sealed[self.number] = self.position
            self._create()

    def append(self, *pieces: bytes) -> int:
        """Write a frame, or a pair; where it starts. Not durable before `sync`."""
        start = self.position
        try:
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    written = os.pwrite(self._fd, view, self.position)
                    self.position += written
                    view = view[written:]
        except OSError as error:
            raise storage_error(error, f"cannot write to {self._home.pack_path(self.number)}") from error
        return start

    def sync(self) -> None:
        """Make this pack durable. After a failure it is given up: nobody knows how much of it is on the disk."""
        try:
            with durable_step(Step.PACK_SYNC):
                _fdatasync(self._fd)
        except OSError as error:
            failed = storage_error(error, f"cannot make {self._home.pack_path(self.number)} durable")
            self.undo()
            with suppress(OSError, SyncdError):  # the failed fsync is what matters; the next batch tries again
                self._create()
            raise failed from error

    def undo(self) -> None:
        """Cut off what this batch wrote. Where that fails the next writer cuts it."""
        for number, start in self._starts.items():
            with suppress(OSError, SyncdError):
                fd = self._home.open_pack(number, writable=True)
                with durable_step(Step.PACK_UNDO):
                    os.ftruncate(fd, start)

    def ends(self) -> dict[int, int]:
        """The packs of this batch and where each ends now."""
        return {**self._sealed, self.number: self.position}

    def _create(self) -> None:
        number = self.number + 1
        meta = Meta(int(clock.now().timestamp()), self._home.uuid).dump()
        head = encode_frame(zstd.compress(zstd.compressor(), meta), b"")
        try:
            self._fd = self._home.create_pack(number, head)
        except OSError as error:
            raise storage_error(error, f"cannot make {self._home.pack_path(number)}") from error
        self.number = number
        self._head = self.position = self._starts[number] = len(head)
