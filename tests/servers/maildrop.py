"""Bulk delivery into the Maildir behind a private server, and what its POP3 server makes of the octets.

File names carry `,S=` and `,W=` (octets as stored, octets with CRLF) as Dovecot's own do, so that a listing
need not read the mail. They count upwards, which is the order Dovecot numbers new mail in.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import pwd
import re
import time
from collections.abc import Iterable
from pathlib import Path

_BARE_LF = re.compile(rb"(?<!\r)\n")
_serial = itertools.count()


def presented(stored: bytes) -> bytes:
    """The octets Dovecot's POP3 server gives for a stored message: LF becomes CRLF, and the last line is ended."""
    if b"\r" not in stored:
        wire = stored.replace(b"\n", b"\r\n")
    elif stored.count(b"\n") == stored.count(b"\r\n"):
        wire = stored
    else:
        wire = _BARE_LF.sub(b"\r\n", stored)
    return wire if wire.endswith(b"\n") else wire + b"\r\n"


def servable(stored: bytes) -> bool:
    """Returns whether Dovecot serves it unchanged: 2.3 does not stuff a dot in the first octet (RFC 1939 §3)."""
    return not stored.startswith(b".")


def as_stored(message: bytes) -> bytes:
    """The message with LF line ends, where every line end of it is CRLF; otherwise as it is."""
    returns = message.count(b"\r")
    if returns and returns == message.count(b"\n") == message.count(b"\r\n"):
        return message.translate(None, b"\r")
    return message


def create(maildir: Path, owner: pwd.struct_passwd) -> None:
    """An empty Maildir, its parent included."""
    for path in (maildir.parent, maildir, *(maildir / sub for sub in ("cur", "new", "tmp"))):
        path.mkdir(mode=0o700)
        os.chown(path, owner.pw_uid, owner.pw_gid)


def deliver(
    maildir: Path, messages: Iterable[bytes], owner: pwd.struct_passwd, *, verbatim: bool, store: Path | None = None
) -> int:
    """Write messages that are `servable`, in order, without fsync; returns how many.

    Each message is kept in `store`, and only linked when delivered again: ext4 is slow with many new files.
    """
    second, pid, count = int(time.time()), os.getpid(), 0
    handle = os.open(maildir, os.O_DIRECTORY | os.O_RDONLY)
    try:
        for count, message in enumerate(messages, 1):  # noqa: B007  # the count is the result
            stored = message if verbatim else as_stored(message)
            assert servable(stored), "a message that begins with a dot would come out of step"
            wire = len(stored) + stored.count(b"\n") - stored.count(b"\r\n")
            name = f"{second}.M{next(_serial):09}P{pid}.test,S={len(stored)},W={wire}"
            kept = store / hashlib.sha256(stored).hexdigest() if store is not None else None
            if kept is None or not kept.exists():
                _write(f"tmp/{name}", handle, stored, owner)
                if kept is not None:
                    os.link(f"tmp/{name}", kept, src_dir_fd=handle)
                os.rename(f"tmp/{name}", f"cur/{name}:2,", src_dir_fd=handle, dst_dir_fd=handle)
            else:
                os.link(kept, f"cur/{name}:2,", dst_dir_fd=handle)
    finally:
        os.close(handle)
    return count


def _write(name: str, directory: int, octets: bytes, owner: pwd.struct_passwd) -> None:
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
    try:
        os.fchown(file, owner.pw_uid, owner.pw_gid)
        assert os.write(file, octets) == len(octets), "short write: is the disk full?"
    finally:
        os.close(file)


def deliver_stream(maildir: Path, chunks: Iterable[bytes], owner: pwd.struct_passwd) -> int:
    """Write one message, as given (CRLF throughout, please: `,W=` is not computed); returns its octets."""
    unnamed = maildir / "tmp" / f"{int(time.time())}.M{next(_serial):09}P{os.getpid()}.test"
    with unnamed.open("xb") as file:
        file.writelines(chunks)
        octets = file.tell()
        os.fchown(file.fileno(), owner.pw_uid, owner.pw_gid)
    unnamed.rename(maildir / "cur" / f"{unnamed.name},S={octets},W={octets}:2,")
    return octets
