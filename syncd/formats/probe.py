"""The abilities of the file system of an archive, found out by a file that is there for a moment.

An archive needs locks (one writer) and names that can be made durable; a Maildir also needs names with its separator.
Hard links are of use and not needed. Better to know before mail is fetched than to find out with the first message.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from syncd.errors import Unusable, storage_error
from syncd.formats.exclusive import UNABLE

PREFIX: Final = ".syncd-probe-"
_LACKING: Final = frozenset(
    {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EBADF, errno.EILSEQ, errno.ENOENT}
)
_NOTES: Final = {
    "links": "its file system has no hard links: messages are renamed into place, which serves",
    "dates": "its file system does not set dates of files: a message has the date on which it was stored",
    "cases": "its file system ignores case: mailboxes whose names differ in case alone are refused",
}


class Abilities(NamedTuple):
    """The abilities of a file system beyond what every archive needs."""

    links: bool  # a file may have two names
    dates: bool  # a file may have another date than today's
    cases: bool  # names that differ in case alone are two names

    def notes(self) -> tuple[str, ...]:
        """Returns a line about each thing that it cannot do."""
        return tuple(_NOTES[name] for name, can in self._asdict().items() if not can)


def probe(folder: Path, ending: str = "") -> Abilities:
    """Make a file in `folder`, do with it what an archive does, and remove it. `ending` is of a name that is needed.

    Raises Unusable where the file system cannot do what is needed, StorageError.
    """
    name = PREFIX + os.urandom(8).hex()
    names = [name + part for part in ("", ending or "-", "-link")]
    try:
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with _needed(folder, "cannot make names durable (fsync of a folder)"):
                os.fsync(directory)  # takes the longest: the files are there for less than a millisecond
            return _tried(folder, directory, *names)
        finally:
            for name in names:
                with suppress(OSError):
                    os.unlink(name, dir_fd=directory)
            os.close(directory)
    except OSError as error:
        raise storage_error(error, f"cannot make files in {folder}") from error


def _tried(folder: Path, directory: int, name: str, ended: str, link: str) -> Abilities:
    file = _make(name, directory)
    try:
        with _needed(folder, "does not lock files"), suppress(BlockingIOError):  # NFS makes one kind out of the other
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with _needed(folder, f"does not take names such as {ended.removeprefix(name)!r}"):
            os.close(_make(ended, directory))
        return Abilities(
            links=_can(lambda: os.link(name, link, src_dir_fd=directory, dst_dir_fd=directory)),
            dates=_can(lambda: os.utime(file, (0, 0))),
            cases=_minds_case(directory, name, file),
        )
    finally:
        os.close(file)


def _make(name: str, directory: int) -> int:
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)


@contextmanager
def _needed(folder: Path, lacks: str) -> Iterator[None]:
    """Turn an error of something that the file system is not able to do into Unusable. `lacks` says what."""
    try:
        yield
    except OSError as error:
        if error.errno not in _LACKING:
            raise
        why = error.strerror or str(error)
        raise Unusable(f"the file system of {folder} {lacks}: {why}; put the archive on another one") from error


def _can(act: Callable[[], None]) -> bool:
    try:
        act()
    except OSError as error:
        if error.errno not in UNABLE:
            raise
        return False
    return True


def _minds_case(directory: int, name: str, file: int) -> bool:
    try:
        other = os.stat(name.upper(), dir_fd=directory, follow_symlinks=False)
    except OSError:
        return True
    return not os.path.samestat(other, os.fstat(file))
