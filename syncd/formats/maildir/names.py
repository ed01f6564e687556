"""Maildir names: which file a message is, its flags, and the folder of a mailbox. Pure functions.

    ROOT/{tmp,new,cur}/           the mailbox INBOX
    ROOT/.Name.Sub/{tmp,new,cur}  every other mailbox (Maildir++): its path, one level after each dot
    new/<stem>.syncd              a message without flags
    cur/<stem>.syncd:2,FS         a message with flags; mail readers move and rename it, the stem stays

The stem is 96 bits of a SHA-256 over the message's identity (account, mailbox, epoch, uid, occurrence).
Delivering it again therefore meets the same name, and no text of a server ever becomes a file name.
A size (`,S=`) is left out on purpose: it follows from the octets, not from the identity.

Sources: maildir(5); the Maildir++ specification (https://www.courier-mta.org/imap/README.maildirquota.html);
https://doc.dovecot.org/configuration_manual/mail_location/Maildir/ for what readers append to names.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import combinations

from syncd.mail.mailbox import INBOX_PATH, Path
from syncd.mail.message import MessageRef

SUFFIX = ".syncd"
STEM_CHARACTERS = 24
DEFAULT_SEPARATOR = ":"  # maildir(5); file systems that know no ":" take another one

_FLAG_NAMES = {"D": "\\Draft", "F": "\\Flagged", "P": "$Forwarded", "R": "\\Answered", "S": "\\Seen", "T": "\\Deleted"}
_FLAG_LETTERS = {name.lower(): letter for letter, name in _FLAG_NAMES.items()}  # RFC 3501 §2.3.2: in any case
_STEM = re.compile(r"[0-9a-f]{24}\Z")
_UNSAFE = re.compile(rb"[^A-Za-z0-9_&+, -]|\A | \Z")  # of one level of a path
_ESCAPED = re.compile(rb"=([0-9A-F]{2})")
_EMPTY_LEVEL = b"="
_FOLDER_OCTETS = 200  # a component holds 255; room for what readers put beside it
_OURS = b".syncd-"  # our own files in the root


def stem(ref: MessageRef) -> str:
    """Returns the part of a file name that stays. What it hashes is unambiguous: a field has its length or is last."""
    origin = ref.origin
    place = b"%s %d %d %d %s" % (
        origin.account.bytes,
        origin.epoch,
        ref.occurrence,
        len(origin.mailbox),
        origin.mailbox,
    )
    return hashlib.sha256(place + ref.uid).hexdigest()[:STEM_CHARACTERS]


def stem_of(name: str) -> str | None:
    """Returns the stem of a file that syncd delivered, whatever a reader appended; None for any other file."""
    found = name[:STEM_CHARACTERS]
    return found if name.startswith(SUFFIX, STEM_CHARACTERS) and _STEM.match(found) else None


def letters(flags: Iterable[str]) -> str:
    """Returns IMAP flags as Maildir letters in ASCII order, without keywords and other flags that have no letter."""
    return "".join(sorted({_FLAG_LETTERS[flag.lower()] for flag in flags if flag.lower() in _FLAG_LETTERS}))


def flags_of(name: str, separator: str = DEFAULT_SEPARATOR) -> tuple[str, ...]:
    """Returns the IMAP flags that a file name tells; unknown letters are ignored."""
    _, found, info = name.rpartition(f"{separator}2,")
    return tuple(_FLAG_NAMES[letter] for letter in info if letter in _FLAG_NAMES) if found else ()


def file_name(stem: str, flags: Iterable[str], separator: str = DEFAULT_SEPARATOR) -> str:
    """Returns `new/…` for a message without flags, `cur/…` with them (maildir(5): info only in cur)."""
    info = letters(flags)
    return f"cur/{stem}{SUFFIX}{separator}2,{info}" if info else f"new/{stem}{SUFFIX}"


def likely_names(stem: str, separator: str = DEFAULT_SEPARATOR) -> Iterator[str]:
    """The names a message has as long as readers only set the six flags; fewest flags first, 65 in all."""
    yield f"new/{stem}{SUFFIX}"
    for count in range(len(_FLAG_NAMES) + 1):
        for info in combinations(_FLAG_NAMES, count):
            yield f"cur/{stem}{SUFFIX}{separator}2,{''.join(info)}"


def file_time(date: datetime) -> int:
    """Returns a message's date as a file's: seconds since 1970, within the 31 bits that every file system keeps."""
    return min(max(int(date.timestamp()), 0), (1 << 31) - 1)


def folder(path: Path) -> str:
    """Returns the Maildir++ folder of a mailbox, "" for INBOX.

    Octets beyond letters, digits and "_&+,- " become "=XX" and an empty level "=", so that two mailboxes never share
    a folder and nothing leads elsewhere; a name too long for a file ends in "=~" and its hash. Where the file system
    ignores case, mailboxes that differ in case share a folder; their messages still have names of their own.
    """
    if path == INBOX_PATH:
        return ""
    safe = b"." + b".".join(map(_safe, path))
    if safe.lower().startswith(_OURS):
        safe = b".=%02X" % safe[1] + safe[2:]
    if len(safe) > _FOLDER_OCTETS or not path:
        digest = hashlib.sha256(safe).hexdigest()[:STEM_CHARACTERS].encode()
        safe = safe[: _FOLDER_OCTETS - len(digest) - 2] + b"=~" + digest
    return safe.decode("ascii")


def path_of(folder: str) -> Path:
    """Returns the path that a Maildir++ folder stands for: undoes `folder`, but for names that were too long."""
    return tuple(map(_level, os.fsencode(folder)[1:].split(b"."))) if folder else INBOX_PATH


def _safe(level: str) -> bytes:
    """Returns a level of a path as it stands in a folder's name. Levels that were no text are kept as octets."""
    try:
        octets = level.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate that stands for no octet
        octets = level.encode("utf-8", "surrogatepass")
    return _UNSAFE.sub(lambda octet: b"=%02X" % octet[0][0], octets) or _EMPTY_LEVEL


def _level(safe: bytes) -> str:
    octets = b"" if safe == _EMPTY_LEVEL else _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), safe)
    return octets.decode("utf-8", "surrogateescape")
