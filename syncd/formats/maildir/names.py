"""Maildir names: which file a message is, its flags, and the folder of a mailbox. Pure functions.

    ROOT/{tmp,new,cur}/           the mailbox INBOX
    ROOT/.Name.Sub/{tmp,new,cur}  any other (Maildir++)
    new/<stem>.syncd              a message nobody has seen
    cur/<stem>.syncd:2,FS         one with flags; mail readers move and rename, the stem stays

The stem is 96 bits of a SHA-256 over the message's identity (account, mailbox, epoch, uid, occurrence).
Delivering it again therefore meets the same name, and no text of a server ever becomes a file name.
A size (`,S=`) is left out on purpose: it follows from the octets, not from the identity.

Sources: maildir(5); the Maildir++ specification (https://www.courier-mta.org/imap/README.maildirquota.html);
https://doc.dovecot.org/configuration_manual/mail_location/Maildir/ for what readers append to names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import combinations

from syncd.mail.message import INBOX, MessageRef

SUFFIX = ".syncd"
STEM_CHARACTERS = 24
DEFAULT_SEPARATOR = ":"  # maildir(5); file systems that know no ":" take another one

_FLAG_NAMES = {"D": "\\Draft", "F": "\\Flagged", "P": "$Forwarded", "R": "\\Answered", "S": "\\Seen", "T": "\\Deleted"}
_FLAG_LETTERS = {name.lower(): letter for letter, name in _FLAG_NAMES.items()}  # RFC 3501 §2.3.2: in any case
_STEM = re.compile(r"[0-9a-f]{24}\Z")
_UNSAFE = re.compile(rb"[^A-Za-z0-9_&+,/ -]|\A/|/\Z|/(?=/)|\A | \Z")
_FOLDER_OCTETS = 200  # a component holds 255; room for what readers put beside it
_OURS = b".syncd-"  # our own files in the root


def stem(ref: MessageRef) -> str:
    """The part of a file name that stays: what it hashes is unambiguous, each field has its length or is last."""
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
    """The stem of a file that syncd delivered, whatever a reader appended; None for anything else."""
    found = name[:STEM_CHARACTERS]
    return found if name.startswith(SUFFIX, STEM_CHARACTERS) and _STEM.match(found) else None


def letters(flags: Iterable[str]) -> str:
    """IMAP flags as Maildir letters in ASCII order; keywords and those of a session have none and are dropped."""
    return "".join(sorted({_FLAG_LETTERS[flag.lower()] for flag in flags if flag.lower() in _FLAG_LETTERS}))


def flags_of(name: str, separator: str = DEFAULT_SEPARATOR) -> tuple[str, ...]:
    """The IMAP flags that a file name tells; letters we do not know are passed over."""
    _, found, info = name.rpartition(f"{separator}2,")
    return tuple(_FLAG_NAMES[letter] for letter in info if letter in _FLAG_NAMES) if found else ()


def file_name(stem: str, flags: Iterable[str], separator: str = DEFAULT_SEPARATOR) -> str:
    """`new/…` for a message without flags, `cur/…` with them (maildir(5): info only in cur)."""
    info = letters(flags)
    return f"cur/{stem}{SUFFIX}{separator}2,{info}" if info else f"new/{stem}{SUFFIX}"


def likely_names(stem: str, separator: str = DEFAULT_SEPARATOR) -> Iterator[str]:
    """The names a message has as long as readers only set the six flags; fewest flags first, 65 in all."""
    yield f"new/{stem}{SUFFIX}"
    for count in range(len(_FLAG_NAMES) + 1):
        for info in combinations(_FLAG_NAMES, count):
            yield f"cur/{stem}{SUFFIX}{separator}2,{''.join(info)}"


def file_time(date: datetime) -> int:
    """A message's date as a file's: seconds since 1970, within the 31 bits that every file system keeps."""
    return min(max(int(date.timestamp()), 0), (1 << 31) - 1)


def folder(mailbox: bytes) -> str:
    """The Maildir++ folder of a mailbox, "" for INBOX (RFC 3501 §5.1: in any case of letters).

    "/" in the mailbox's name separates levels. Octets beyond letters, digits and "_&+,- " become "=XX", so
    that two mailboxes never share a folder and nothing leads elsewhere; a name too long for a file ends in "=~"
    and its hash. Where the file system ignores case, mailboxes that differ in case share a folder; their
    messages still have names of their own.
    """
    if mailbox.upper() == INBOX:
        return ""
    safe = b"." + _UNSAFE.sub(lambda octet: b"=%02X" % octet[0][0], mailbox).replace(b"/", b".")
    if safe.lower().startswith(_OURS):
        safe = b".=%02X" % safe[1] + safe[2:]
    if len(safe) > _FOLDER_OCTETS or safe == b".":
        digest = hashlib.sha256(mailbox).hexdigest()[:STEM_CHARACTERS].encode()
        safe = safe[: _FOLDER_OCTETS - len(digest) - 2] + b"=~" + digest
    return safe.decode("ascii")
