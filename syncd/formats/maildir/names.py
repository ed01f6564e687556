"""Maildir names: which file a message is, and its flags. Pure functions.

    new/<stem>.syncd              a message without flags
    cur/<stem>.syncd:2,FSa        a message with flags and keywords; mail readers move and rename it, the stem stays

The stem is 96 bits of a SHA-256 over the message's identity (account, mailbox, epoch, uid, occurrence).
Delivering it again therefore meets the same name, and no text of a server ever becomes a file name.
A size (`,S=`) is left out on purpose: it follows from the octets, not from the identity.

Letters "a" to "z" are keywords of one folder (`notes.keywords`); keywords without a letter are not kept.

Sources: maildir(5); the Maildir++ specification (https://www.courier-mta.org/imap/README.maildirquota.html);
https://doc.dovecot.org/configuration_manual/mail_location/Maildir/ for what readers append to names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import combinations

from syncd.mail.flags import LETTERS, Flags, letters, of_letters
from syncd.mail.message import MessageRef

SUFFIX = ".syncd"
STEM_CHARACTERS = 24
DEFAULT_SEPARATOR = ":"  # maildir(5); file systems that know no ":" take another one

_STEM = re.compile(r"[0-9a-f]{24}\Z")


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


def flags_of(name: str, separator: str = DEFAULT_SEPARATOR, keywords: Mapping[str, str] | None = None) -> Flags:
    """Returns the flags that a file name tells; unknown letters are ignored. `keywords` is letter → keyword."""
    _, found, info = name.rpartition(f"{separator}2,")
    return of_letters(info, keywords) if found else ()


def file_name(
    stem: str, flags: Iterable[str], separator: str = DEFAULT_SEPARATOR, keywords: Mapping[str, str] | None = None
) -> str:
    """Returns `new/…` for a message without flags, `cur/…` with them (maildir(5): info only in cur).

    `keywords` is keyword in lower case → letter.
    """
    info = letters(flags, keywords) if flags else ""
    return f"cur/{stem}{SUFFIX}{separator}2,{info}" if info else f"new/{stem}{SUFFIX}"


def likely_names(stem: str, separator: str = DEFAULT_SEPARATOR) -> Iterator[str]:
    """The names a message has as long as readers only set the six flags; fewest flags first, 65 in all."""
    yield f"new/{stem}{SUFFIX}"
    for count in range(len(LETTERS) + 1):
        for info in combinations(LETTERS, count):
            yield f"cur/{stem}{SUFFIX}{separator}2,{''.join(info)}"


def file_time(date: datetime) -> int:
    """Returns a message's date as a file's: seconds since 1970, within the 31 bits that every file system keeps."""
    return min(max(int(date.timestamp()), 0), (1 << 31) - 1)
