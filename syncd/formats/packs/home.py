"""The folder of an archive of packs: its identity, its lock, its files.

    NAME/archive.json              UUID and format version, written once
    NAME/packs/000001.mbox.zst     append-only
    NAME/packs/000001.torn-…       what was cut from the end of a pack after a crash
    NAME/index.sqlite              see index.py

The lock is `flock` on archive.json (a regular file, so that it works on NFS too). Files are 0600, directories
0700; inside the archive no symbolic link is followed, so nobody can make us write elsewhere.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Self
from uuid import UUID

from syncd import clock
from syncd.durable import Step, durable_step, make_directories, sync_directory, write_all
from syncd.errors import ArchiveMissing, FormatDamaged, Locked, StorageError, making_error, storage_error
from syncd.formats.identity import Identity, read_identity, write_identity
from syncd.formats.packs.reader import pack_name
from syncd.formats.regular import open_regular

FORMAT: Final = "packs"
VERSION: Final = 1
LOCK_WAIT_S: Final = 60.0  # another writer keeps the lock for one batch, well under a second
LOCK_POLL_S: Final = 0.05
_PACK: Final = re.compile(r"(0[0-9]{5}|[1-9][0-9]{5,11})\.mbox\.zst")
_SAFE: Final = os.O_NOFOLLOW | os.O_CLOEXEC


class Home:
    """An open archive folder. Not for several threads."""

    def __init__(self, path: Path, uuid: UUID, identity_fd: int, packs_fd: int) -> None:
        self.path = path
        self.uuid = uuid
        self._identity_fd = identity_fd
        self._packs_fd = packs_fd
        self._open: tuple[int, int] | None = None  # the pack used last: number, descriptor

    @property
    def index(self) -> Path:
        """The path of the index."""
        return self.path / "index.sqlite"

    @classmethod
    def create(cls, path: Path, uuid: UUID) -> None:
        """Make an empty archive. Raises StorageError when there is one, or the rest of one, already."""
        if any(path.glob("packs/*.mbox.zst")) and not os.path.lexists(path / "archive.json"):
            raise StorageError(f"{path} holds the packs of an archive without its archive.json: choose another folder")
        try:
            make_directories(path / "packs")
            write_identity(path / "archive.json", Identity(uuid, FORMAT, VERSION))
        except OSError as error:
            raise making_error(error, f"cannot make an archive in {path}") from error

    @classmethod
    def open(cls, path: Path, *, writable: bool) -> Self:
        """Open the archive at `path`. Raises ArchiveMissing, FormatDamaged (also: a newer format), StorageError."""
        uuid = identity(path)
        try:
            identity_fd = open_regular(path / "archive.json", os.O_RDWR if writable else os.O_RDONLY)
            try:
                packs_fd = os.open(path / "packs", os.O_RDONLY | os.O_DIRECTORY | _SAFE)
            except OSError:
                os.close(identity_fd)
                raise
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FormatDamaged(
                f"the archive {path} has lost its folder {path / 'packs'} ({error.strerror}): restore it from a backup"
            ) from error
        except OSError as error:
            raise storage_error(error, f"cannot open the archive {path}{' for writing' if writable else ''}") from error
        return cls(path, uuid, identity_fd, packs_fd)

    def close(self) -> None:
        """Let go of everything, the lock too."""
        self.forget()
        os.close(self._packs_fd)
        os.close(self._identity_fd)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Own the archive's lock. Raises Locked when another process keeps it, ArchiveMissing as `verify` does."""
        deadline = clock.monotonic() + LOCK_WAIT_S
        while not self._try_lock():
            if clock.monotonic() > deadline:
                raise Locked(f"the archive {self.path} is locked by another process; try again later")
            clock.sleep(LOCK_POLL_S)
        try:
            self.verify()
            yield
        finally:
            fcntl.flock(self._identity_fd, fcntl.LOCK_UN)

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self._identity_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise storage_error(error, f"cannot lock the archive {self.path}") from error
        return True

    def verify(self) -> None:
        """See that the archive and the pack in use are still at their path. Raises ArchiveMissing.

        A disk that was unmounted or a folder that was deleted leaves our descriptors working.
        """
        _same(self.path / "archive.json", self._identity_fd)
        if self._open:
            _same(self.path / "packs" / pack_name(self._open[0]), self._open[1])

    # --- packs ---

    def packs(self) -> dict[int, int]:
        """The octets of each pack, in the order of their numbers. Raises StorageError."""
        try:
            with os.scandir(self._packs_fd) as entries:
                found = [(entry.name, entry) for entry in entries]
            named = [(int(match[1]), entry) for name, entry in found if (match := _PACK.fullmatch(name))]
            return {
                number: entry.stat(follow_symlinks=False).st_size for number, entry in sorted(named, key=lambda n: n[0])
            }
        except OSError as error:
            raise storage_error(error, f"cannot list {self.path / 'packs'}") from error

    def pack_path(self, number: int) -> Path:
        """For messages."""
        return self.path / "packs" / pack_name(number)

    def open_pack(self, number: int, *, writable: bool = False) -> int:
        """A descriptor of a pack, kept until another one is opened. Raises StorageError."""
        if self._open and self._open[0] == number:
            return self._open[1]
        self.forget()
        try:
            fd = open_regular(pack_name(number), os.O_RDWR if writable else os.O_RDONLY, dir_fd=self._packs_fd)
        except OSError as error:
            raise storage_error(error, f"cannot open {self.pack_path(number)}") from error
        self._open = (number, fd)
        return fd

    def forget(self) -> None:
        """Close the pack in use."""
        if self._open:
            os.close(self._open[1])
            self._open = None

    def create_pack(self, number: int, head: bytes) -> int:
        """Make a pack that begins with `head`, under its name only when that is durable. Raises OSError.

        `zstdcat` takes an empty file for an error, so there is never one.
        """
        self.forget()
        name = pack_name(number)
        with suppress(FileNotFoundError):  # the rest of a crash
            os.unlink(f"{name}.new", dir_fd=self._packs_fd)
        fd = os.open(f"{name}.new", os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFE, 0o600, dir_fd=self._packs_fd)
        self._open = (number, fd)
        write_all(fd, [head])
        with durable_step(Step.PACK_SYNC):
            os.fsync(fd)
        with durable_step(Step.PACK_CREATE):
            os.rename(f"{name}.new", name, src_dir_fd=self._packs_fd, dst_dir_fd=self._packs_fd)
        sync_directory(self._packs_fd)
        return fd

    def keep_tail(self, number: int, offset: int) -> str:
        """Copy a pack's octets from `offset` on into a file beside it, durably; its name. Raises OSError."""
        source = self.open_pack(number)
        fd, name = self._new_torn(number, offset)
        try:
            write_all(fd, _octets_from(source, offset))
            with durable_step(Step.TORN_SYNC):
                os.fsync(fd)
        finally:
            os.close(fd)
        sync_directory(self._packs_fd)
        return name

    def _new_torn(self, number: int, offset: int) -> tuple[int, str]:
        again = 0
        while True:
            name = f"{number:06d}.torn-{offset}" + (f"-{again}" if again else "")
            try:
                return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE, 0o600, dir_fd=self._packs_fd), name
            except FileExistsError:
                again += 1


def _octets_from(fd: int, offset: int) -> Iterator[bytes]:
    while octets := os.pread(fd, 1 << 20, offset):
        yield octets
        offset += len(octets)


def identity(path: Path) -> UUID:
    """The UUID of the archive at `path`. Raises ArchiveMissing, FormatDamaged (also: a newer format), StorageError."""
    return read_identity(path / "archive.json", format_name=FORMAT, version=VERSION).uuid


def _same(path: Path, fd: int) -> None:
    try:
        there = path.lstat()
    except OSError as error:
        raise ArchiveMissing(
            f"{path} is not there any more ({error.strerror}); was the disk unmounted or the folder removed?"
        ) from error
    if not os.path.samestat(there, os.fstat(fd)):
        raise ArchiveMissing(f"{path} was replaced by another file while it was in use; run again if that was meant")
