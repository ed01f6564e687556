"""Files of a Maildir that are no messages: keywords and facts of a mailbox, subscriptions.

    FOLDER/dovecot-keywords       "0 $Work": keyword and the letter that stands for it in names ("a" for 0), 26 at most
    FOLDER/.syncd-mailbox.json    path and special use of a mailbox, where the folder's name does not tell them
    ROOT/subscriptions            a mailbox a line, called as its folder (layout.subscribed_name)

The first and the last are Dovecot's, which reads and writes them too. They are replaced as a whole, under Dovecot's
own dotlock (`NAME.lock`). A lock of ours that a crash left is recognised by what is in it: whoever writes holds the
archive's lock.

Sources: https://doc.dovecot.org/2.3/admin_manual/mailbox_formats/maildir/ (keywords),
https://doc.dovecot.org/2.3/configuration_manual/mail_location/ (subscriptions).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple

from syncd import clock
from syncd.durable import Step, durable_step, sync_directory, write_all
from syncd.errors import Locked
from syncd.formats.maildir.folder import TMP_PREFIX, Folder
from syncd.formats.regular import open_regular
from syncd.mail.mailbox import Path

KEYWORDS: Final = "dovecot-keywords"
SUBSCRIPTIONS: Final = "subscriptions"
FACTS: Final = ".syncd-mailbox.json"
MOST_KEYWORDS: Final = 26
MOST_OCTETS: Final = 4 << 20  # of such a file: 10,000 subscriptions have 1 MiB
LOCK_TRIES: Final = 50  # Dovecot keeps the lock for milliseconds
LOCK_POLL_S: Final = 0.1
STALE_S: Final = 120.0  # Dovecot's own limit for a lock that nobody gives back
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OURS: Final = b"syncd\n"


# --- keywords ------------------------------------------------------------------------------------------


def keywords(octets: bytes) -> dict[str, str]:
    """Returns letter → keyword. Lines that make no sense are passed over."""
    found: dict[str, str] = {}
    for line in octets.splitlines():
        number, _, name = line.partition(b" ")
        if number.isdigit() and int(number) < MOST_KEYWORDS and name:
            found[chr(ord("a") + int(number))] = name.decode("utf-8", "surrogateescape")
    return found


def letters(octets: bytes) -> dict[str, str]:
    """Returns keyword in lower case → letter."""
    return {name.lower(): letter for letter, name in keywords(octets).items()}


def is_lacking(known: Mapping[str, str], flags: Iterable[str]) -> bool:
    """Returns whether there is room for a keyword among `flags` that has no letter. `known` is from `letters`."""
    return len(known) < MOST_KEYWORDS and any(_can_have_letter(flag) and flag.lower() not in known for flag in flags)


def with_keywords(octets: bytes, flags: Iterable[str]) -> bytes:
    """Returns the file with a letter for each keyword among `flags`, as long as there are letters."""
    known = letters(octets)
    free = [chr(ord("a") + number) for number in range(MOST_KEYWORDS)]
    free = [letter for letter in free if letter not in known.values()]
    for flag in flags:
        if free and _can_have_letter(flag) and flag.lower() not in known:
            known[flag.lower()] = free[0]
            if octets and not octets.endswith(b"\n"):
                octets += b"\n"
            octets += b"%d %b\n" % (ord(free.pop(0)) - ord("a"), flag.encode("utf-8", "surrogateescape"))
    return octets


def _can_have_letter(flag: str) -> bool:
    """Returns whether a flag is a keyword that is one word in a line. Maildir has letters for system flags."""
    return (
        bool(flag)
        and not flag.startswith("\\")
        and not any(character.isspace() or character < " " or character == "\x7f" for character in flag)
    )


# --- facts about a mailbox ------------------------------------------------------------------------------


class Facts(NamedTuple):
    """Facts about a mailbox that its folder's name does not tell."""

    path: Path
    use: str


def facts_octets(facts: Facts) -> bytes:
    """Returns facts as a file has them."""
    return json.dumps({"path": list(facts.path), "use": facts.use}).encode("ascii") + b"\n"


def facts_of(octets: bytes | None) -> Facts | None:
    """Undo `facts_octets`; None for anything else."""
    try:
        document: Any = json.loads(octets or b"")
        path, use = document["path"], document["use"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not isinstance(path, list) or not path or not isinstance(use, str):
        return None
    return Facts(tuple(path), use) if all(isinstance(level, str) for level in path) else None


# --- subscriptions --------------------------------------------------------------------------------------


def subscriptions(octets: bytes | None) -> frozenset[bytes] | None:
    """Returns the mailboxes that are subscribed to; None where there is no such file, so nobody knows."""
    return None if octets is None else frozenset(octets.splitlines())


def with_subscriptions(octets: bytes | None, names: Iterable[bytes]) -> bytes:
    """Returns the file with these mailboxes."""
    known = octets or b""
    if known and not known.endswith(b"\n"):
        known += b"\n"
    there = set(known.splitlines())
    return known + b"".join(name + b"\n" for name in names if name not in there)


# --- on disk -----------------------------------------------------------------------------------------------


def read(folder: Folder, name: str) -> bytes | None:
    """Returns such a file; None where there is none. What is beyond MOST_OCTETS is left out. Raises OSError."""
    try:
        descriptor = open_regular(name, os.O_RDONLY, dir_fd=folder.directory)
    except FileNotFoundError:
        return None
    try:
        return os.pread(descriptor, MOST_OCTETS, 0)
    finally:
        os.close(descriptor)


def change(folder: Folder, name: str, new: Callable[[bytes | None], bytes]) -> bytes:
    """Replace such a file, durably, by what `new` makes of it; returns that. For the holder of the archive's lock.

    Raises OSError; Locked where another program keeps its lock.
    """
    with _locked(folder, name):
        before = read(folder, name)
        after = new(before)
        if after != before:
            replace(folder, name, after)
        return after


def replace(folder: Folder, name: str, octets: bytes) -> None:
    """Replace such a file, durably, without a lock: for one that other programs do not write. Raises OSError."""
    tmp = f"tmp/{TMP_PREFIX}{name}"
    with suppress(FileNotFoundError):  # the rest of a crash
        os.unlink(tmp, dir_fd=folder.directory)
    descriptor = os.open(tmp, _CREATE, 0o600, dir_fd=folder.directory)
    try:
        write_all(descriptor, [octets])
        with durable_step(Step.MAILDIR_SYNC):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    with durable_step(Step.MAILDIR_NOTE):
        os.rename(tmp, name, src_dir_fd=folder.directory, dst_dir_fd=folder.directory)
    sync_directory(folder.directory)


@contextmanager
def _locked(folder: Folder, name: str) -> Iterator[None]:
    lock = f"{name}.lock"
    for _ in range(LOCK_TRIES):
        try:
            descriptor = os.open(lock, _CREATE, 0o600, dir_fd=folder.directory)
        except FileExistsError:
            if _is_stale(folder, lock):
                with suppress(FileNotFoundError):
                    os.unlink(lock, dir_fd=folder.directory)
            else:
                clock.sleep(LOCK_POLL_S)
            continue
        try:
            write_all(descriptor, [_OURS])
            yield
        finally:
            os.close(descriptor)
            with suppress(FileNotFoundError):
                os.unlink(lock, dir_fd=folder.directory)
        return
    raise Locked(f"another program keeps {lock} in {folder.path}; try again later")


def _is_stale(folder: Folder, lock: str) -> bool:
    """Returns whether a lock is of ours, so that a crash left it, or is very old. A lock that is gone is."""
    try:
        facts = os.stat(lock, dir_fd=folder.directory, follow_symlinks=False)
    except FileNotFoundError:
        return True
    if clock.now().timestamp() - facts.st_mtime > STALE_S:
        return True
    return facts.st_size <= len(_OURS) and read(folder, lock) == _OURS
