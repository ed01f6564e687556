"""Opening files of ours: regular files only, never through a link, without waiting.

Anybody may put a FIFO, a link or a folder where a file of ours is expected. open(2) of a FIFO waits for somebody at its
other end, a link leads out of the archive. So every file of an archive is opened here.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

MOST_NAME_OCTETS: Final = 255
_SAFE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # O_NONBLOCK means nothing to a regular file
_ODD: Final = frozenset({errno.ENXIO, errno.ENODEV, errno.EISDIR})  # FIFO, socket, device, folder


class NotRegular(OSError):
    """A link, FIFO, folder or device lies where a file of ours is expected. `strerror` says so; no waiting mends it."""

    def __init__(self, what: str, path: str | os.PathLike[str]) -> None:
        super().__init__(errno.ELOOP, what, os.fspath(path))


def open_regular(path: str | Path, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
    """Returns a descriptor of a regular file. Raises NotRegular, and OSError as os.open does."""
    try:
        descriptor = os.open(path, flags | _SAFE, mode, dir_fd=dir_fd)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotRegular("it is a symbolic link", path) from error
        if error.errno in _ODD:
            raise NotRegular("it is not a regular file", path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRegular("it is not a regular file", path)
    return descriptor


def check_regular(path: Path) -> None:
    """Raise NotRegular, FileNotFoundError, or OSError, without opening the file.

    For files of SQLite: in POSIX a close takes away all locks that the process has on a file, those of a writer in
    another thread as well.
    """
    if why := odd(path):
        raise NotRegular(why, path)
    path.lstat()


def make_regular(path: Path) -> None:
    """Make a file for its owner alone where there is none; see `check_regular`. Raises NotRegular, OSError."""
    try:
        os.close(open_regular(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        check_regular(path)


def may_exist(path: bytes) -> bool:
    """Tells whether a file system may have this path: no NUL, no name over 255 octets, no way up."""
    levels = path.split(b"/")
    return b"\0" not in path and b".." not in levels and max(map(len, levels)) <= MOST_NAME_OCTETS


def odd(path: Path) -> str:
    """Tells why what is at `path` is no regular file; "" where it is one, or where nothing is. Raises OSError."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    if stat.S_ISLNK(mode):
        return "it is a symbolic link"
    return "" if stat.S_ISREG(mode) else "it is not a regular file"
