"""Reads files that people write: bounded, not waiting for long on a pipe. One with secrets must be private.

One judge for `file:` secrets and for `.env`:

    others can write it, by its mode or as its owner     refused; only a warning where root reads a user's file
    others can read it                                   a warning, but not below /run, where container platforms and
                                                         systemd mount secrets readable on purpose
"""

from __future__ import annotations

import errno
import os
import select
import stat
from typing import Final, NamedTuple

from syncd import clock
from syncd.errors import SecretUnavailable

PIPE_TIMEOUT_S: Final = 10.0  # for what a shell's <(command) or a terminal gives
READ_OCTETS: Final = 16 << 10


class Private(NamedTuple):
    """The octets of a file, and a warning that others can read it, or that one of them owns it; mostly empty."""

    octets: bytes
    warning: str = ""


def read_private(path: str, most: int, what: str) -> Private:
    """Returns a file's first octets, at most `most` + 1. `what` says in messages what kind of file it is.

    Raises OSError, SecretUnavailable (others can change it, or a pipe that gives nothing).
    """
    descriptor = _open(path)
    try:
        warning = judge(path, os.fstat(descriptor), what)
        return Private(_read(descriptor, most, f"{what} {path}"), warning)
    finally:
        os.close(descriptor)


def read_bounded(path: str, most: int) -> bytes:
    """Returns a file's first octets, at most `most` + 1. Raises OSError, SecretUnavailable (a pipe gives nothing)."""
    descriptor = _open(path)
    try:
        return _read(descriptor, most, path)
    finally:
        os.close(descriptor)


def judge(path: str, status: os.stat_result, what: str) -> str:
    """Refuse a file that other users can change (SecretUnavailable). Returns a warning if they can read it."""
    if not stat.S_ISREG(status.st_mode):
        return ""  # a pipe or a secrets file system has rules of its own
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SecretUnavailable(f"other users can write {what} {path}; run: chmod 600 {path}")
    if status.st_uid not in {0, os.geteuid()}:
        text = f"{what} {path} belongs to another user (number {status.st_uid}), who can change it"
        if os.geteuid() != 0:
            raise SecretUnavailable(f"{text}; make a copy of your own, or run: chown {os.geteuid()} {path}")
        return f"{text}; run as that user, or run: chown root {path}"
    if status.st_mode & (stat.S_IRGRP | stat.S_IROTH) and not path.startswith("/run/"):
        return f"other users can read {what} {path}; run: chmod 600 {path}"
    return ""


def _open(path: str) -> int:
    """Open a file for reading. Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever."""
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _read(descriptor: int, most: int, title: str) -> bytes:
    """Read to the end, in spite of a pipe that has nothing yet."""
    octets = bytearray()  # a configuration may have tens of MiB
    until = clock.monotonic() + PIPE_TIMEOUT_S
    while len(octets) <= most:
        try:
            chunk = os.read(descriptor, min(READ_OCTETS, most + 1 - len(octets)))
        except BlockingIOError:
            _await(descriptor, until, title)
            continue
        if not chunk:
            break
        octets += chunk
    return bytes(octets)


def _await(descriptor: int, until: float, title: str) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if not poll.poll(max(0.0, until - clock.monotonic()) * 1000):
        raise SecretUnavailable(f"{title} gives nothing within {PIPE_TIMEOUT_S:.0f} s; write into it, or use a file")


def reason(error: OSError) -> str:
    """Returns why a file cannot be read, and what to do where that is known."""
    text = error.strerror or str(error)
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        return f"{text}; allow more open files (ulimit -n)"
    return text
