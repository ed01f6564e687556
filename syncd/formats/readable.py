"""Names of files and folders for mailboxes: readable, harmless, and different for different mailboxes. Pure.

A mailbox is a path of folders, one for each level. Characters that are no text for people, that some file system
forbids, or that mean something in a path become "=XX", as do a dot or space at an end, and "=" itself; so does the dot
of ".eml" and ".mbox" at the end, which our own files have. A level or path too long ends in "=~" and a hash.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final

from syncd.mail import utf7
from syncd.mail.mailbox import Path as MailboxPath

MOST_OCTETS: Final = 200  # of one name, which may have 255; ".mbox" comes behind
MOST_PATH_OCTETS: Final = 1_000
HASH_CHARACTERS: Final = 16
_ESCAPED: Final = re.compile(rb"=([0-9A-F]{2})")
_UNSAFE: Final = re.compile(r'[/\\:*?"<>|=~]|\A[. ]|[. ]\Z|\.(?=(?:eml|mbox)\Z)', re.IGNORECASE)


def readable(path: MailboxPath) -> str:
    """Returns the name of a mailbox's folder, with "/" between levels."""
    levels = [_level(level) for level in path] or ["="]
    name = "/".join(levels)
    if len(name.encode()) > MOST_PATH_OCTETS:
        return cut(levels[0], path)
    return "/".join(cut(it, (it,)) if len(it.encode()) > MOST_OCTETS else it for it in levels)


def _level(level: str) -> str:
    plain = "".join(c if c.isprintable() and not "\ud800" <= c <= "\udfff" else _escaped(c) for c in _safe(level))
    return plain or "="


def _safe(level: str) -> str:
    return _UNSAFE.sub(lambda found: _escaped(found[0]), level)


def _escaped(text: str) -> str:
    try:
        octets = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        octets = text.encode("utf-8", "surrogatepass")
    return "".join(f"={octet:02X}" for octet in octets)


def cut(name: str, path: MailboxPath) -> str:
    """Returns the start of a name and a hash of the whole path."""
    digest = sha256(repr(path).encode("utf-8", "surrogatepass")).hexdigest()[:HASH_CHARACTERS]
    kept = name.encode()[: MOST_OCTETS - HASH_CHARACTERS - 2].decode("utf-8", "ignore")
    return f"{kept}=~{digest}"


def level_of(name: str) -> str:
    """Returns the level of a path that a file or folder stands for, whichever program named it.

    Undoes `readable`, but for names that were too long, and modified UTF-7, as Dovecot names files. Octets that are no
    text stay as surrogates.
    """
    if name == "=":
        return ""
    octets = _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), name.encode("utf-8", "surrogateescape"))
    return utf7.text_of(octets)
