"""Locks of an mbox file that other programs know: FILE.lock (dot-lock), then fcntl(2) on the file itself.

Both are taken, in this order, as Debian's policy and RFC 4155 §5 want for programs that deliver mail. Where the kernel
has them, locks belong to the open file (F_OFD_SETLK) and not to the process, which would lose them when another
thread closes the same file.

A dot-lock that a crash left is taken away. Between a look at it and its removal another program may do the same and
make its own. So it is renamed first: if that was another file than the one looked at, it is put back.
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
ASIDE: Final = ".syncd-stale"  # hidden, so it is no mailbox
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
    while _is_dot_locked(Path(f"{path}.lock")) or not try_lock(descriptor, shared=True):
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


def _is_dot_locked(lock: Path) -> bool:
    """Returns whether another program has a dot-lock. Whoever writes for syncd has the other lock as well."""
    try:
        facts = lock.lstat()
        if clock.now().timestamp() - facts.st_mtime > STALE_S:
            return False
        return facts.st_size != len(_OURS) or lock.read_bytes() != _OURS
    except FileNotFoundError:
        return False
    except OSError:
        return True


@contextmanager
def _dot_lock(path: str, until: float) -> Iterator[None]:
    lock = Path(f"{path}.lock")
    descriptor = _made(lock, until)
    try:
        os.write(descriptor, _OURS)
        yield
    finally:
        try:
            _take_away(lock, descriptor)  # unless it is another program's by now, which thought ours was old
        finally:
            os.close(descriptor)


def _made(lock: Path, until: float) -> int:
    """Returns a descriptor of the dot-lock, which only one program can make."""
    while True:
        try:
            return os.open(lock, _CREATE, 0o600)
        except FileExistsError:
            if _was_stale(lock):
                continue
        if clock.monotonic() >= until:
            raise Locked(f"another program keeps {lock}; try again later, or remove it if nobody uses the mbox")
        clock.sleep(POLL_S)


def _was_stale(lock: Path) -> bool:
    """Take a dot-lock away that nobody holds any more; returns whether it may be free now.

    One of ours was left by a crash, as whoever asks holds the archive's lock; so was an old one.
    """
    try:
        with lock.open("rb") as file:
            age = clock.now().timestamp() - os.fstat(file.fileno()).st_mtime
            stale = age > STALE_S or file.read(len(_OURS) + 1) == _OURS
            if stale:
                _take_away(lock, file.fileno())
            return stale
    except FileNotFoundError:
        return True


def _take_away(lock: Path, descriptor: int) -> None:
    """Remove a dot-lock if it is the open file still. While it is open, no other file has its inode number."""
    aside = lock.with_name(ASIDE)
    try:
        lock.rename(aside)
    except FileNotFoundError:
        return
    if not os.path.samestat(aside.stat(), os.fstat(descriptor)):
        with suppress(FileExistsError):  # a third program was quicker than we are
            lock.hardlink_to(aside)
    aside.unlink()
