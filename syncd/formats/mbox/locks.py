"""Locks of an mbox file that other programs know: FILE.lock (dot-lock), then fcntl(2) on the file itself.

Both are taken, in this order, as Debian's policy and RFC 4155 §5 want for programs that deliver mail. Where the kernel
has them, locks belong to the open file (F_OFD_SETLK) and not to the process, which would lose them when another
thread closes the same file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from syncd import clock
from syncd.errors import Locked

WAIT_S: Final = 10.0  # a mail program that saves a large mailbox takes seconds
POLL_S: Final = 0.05
STALE_S: Final = 300.0  # a dot-lock this old is nobody's any more: procmail takes 1,024 s, Dovecot 120 s
_OURS: Final = b"syncd\n"
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OFD_SETLK: Final[int | None] = getattr(fcntl, "F_OFD_SETLK", None) if sys.platform == "linux" else None
_BUSY: Final = frozenset({errno.EACCES, errno.EAGAIN})
_NONE: Final = frozenset({errno.ENOLCK, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS})


@contextmanager
def locked(descriptor: int, path: str) -> Iterator[None]:
    """Lock an open file for writing. Raises Locked where another program keeps it, OSError."""
    until = clock.monotonic() + WAIT_S
    with _dot_lock(path, until):
        while not try_lock(descriptor):
            if clock.monotonic() >= until:
                raise Locked(f"another program has kept {path} locked for {WAIT_S:.0f} s; try again later")
            clock.sleep(POLL_S)
        yield  # the lock goes with the descriptor


def wait_until_whole(descriptor: int, path: str) -> None:
    """Wait until nobody writes to a file that is open for reading. Raises Locked, OSError."""
    until = clock.monotonic() + WAIT_S
    while not try_lock(descriptor, shared=True):
        if clock.monotonic() >= until:
            raise Locked(f"another program has kept {path} locked for {WAIT_S:.0f} s; try again later")
        clock.sleep(POLL_S)
    _set(descriptor, fcntl.F_UNLCK)


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file; returns False where another program has it. File systems without locks count as free."""
    return _set(descriptor, fcntl.F_RDLCK if shared else fcntl.F_WRLCK)


def _set(descriptor: int, kind: int) -> bool:
    try:
        if _OFD_SETLK is None:
            ways = {fcntl.F_RDLCK: fcntl.LOCK_SH, fcntl.F_WRLCK: fcntl.LOCK_EX}
            fcntl.lockf(descriptor, ways[kind] | fcntl.LOCK_NB if kind in ways else fcntl.LOCK_UN)
        else:
            fcntl.fcntl(descriptor, _OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0))
    except OSError as error:
        if error.errno in _BUSY:
            return False
        if error.errno not in _NONE:
            raise
    return True


@contextmanager
def _dot_lock(path: str, until: float) -> Iterator[None]:
    lock = f"{path}.lock"
    descriptor = _made(lock, until)
    try:
        os.write(descriptor, _OURS)
        yield
    finally:
        os.close(descriptor)
        with suppress(FileNotFoundError):
            Path(lock).unlink()


def _made(lock: str, until: float) -> int:
    """Returns a descriptor of the dot-lock, which only one program can make."""
    while True:
        try:
            return os.open(lock, _CREATE, 0o600)
        except FileExistsError:
            if _is_stale(lock):
                with suppress(FileNotFoundError):
                    Path(lock).unlink()
                continue
        if clock.monotonic() >= until:
            raise Locked(f"another program keeps {lock}; try again later, or remove it if nobody uses the mbox")
        clock.sleep(POLL_S)


def _is_stale(lock: str) -> bool:
    """Returns whether a dot-lock is of ours, so that a crash left it: whoever asks holds the archive's lock. Or old."""
    try:
        with Path(lock).open("rb") as file:
            age = clock.now().timestamp() - os.fstat(file.fileno()).st_mtime
            return age > STALE_S or file.read(len(_OURS) + 1) == _OURS
    except FileNotFoundError:
        return True
