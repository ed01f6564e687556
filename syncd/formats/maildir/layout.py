"""Folders of mailboxes in a Maildir: where a mailbox lies below the root, in two layouts. Pure functions.

    maildir++   ROOT/.Name.Sub/{tmp,new,cur}    one folder a mailbox, its path with a dot before each level
    nested      ROOT/Name/Sub/{tmp,new,cur}     one folder a level (Dovecot's LAYOUT=fs)

INBOX is the root itself in both. A level is written in modified UTF-7 (RFC 3501 §5.1.3), as Dovecot and Courier have
it on disk. Then every octet beyond letters, digits and "_&+,()[]- " becomes "=XX"; the nested layout also keeps dots
that are not at an end. An empty level is "=". So two mailboxes never share a folder, nothing leads elsewhere, and no
name is hidden. Names that mean something in a Maildir (`cur`, `subscriptions`, `dovecot…`) get their first letter
escaped. Names too long for a file system end in "=~" and a hash; `notes.FACTS` then has the path.

Where the file system ignores case, mailboxes that differ in case alone share a folder: `key` tells them apart or not.
"""

from __future__ import annotations

import hashlib
import os
import re
from enum import StrEnum
from typing import Final

from syncd.mail import utf7
from syncd.mail.mailbox import INBOX_PATH, Path

HASH_CHARACTERS: Final = 24
MOST_OCTETS: Final = 200  # of one name; a component holds 255: room for what readers put beside it
MOST_NESTED_OCTETS: Final = 1_000  # of all levels together; a path holds 4,096, and the archive lies somewhere itself

_UNSAFE: Final = re.compile(rb"[^A-Za-z0-9_&+,()\[\] -]|\A | \Z")
_UNSAFE_NESTED: Final = re.compile(rb"[^A-Za-z0-9_&+,()\[\] .-]|\A[ .]|[ .]\Z")
_ESCAPED: Final = re.compile(rb"=([0-9A-F]{2})")
_NO_ASCII: Final = re.compile(rb"([\x80-\xff]+)")
_EMPTY_LEVEL: Final = b"="
_OURS: Final = b".syncd-"  # our own files in the root
_TAKEN: Final = re.compile(rb"cur|new|tmp|subscriptions|maildirfolder|maildirsize|courier.*|dovecot.*", re.IGNORECASE)


class Layout(StrEnum):
    """The layouts of a Maildir. The values stand in archives and configurations."""

    PLUS_PLUS = "maildir++"
    NESTED = "nested"


def folder(path: Path, layout: Layout = Layout.PLUS_PLUS) -> str:
    """Returns the folder of a mailbox below the root, "" for INBOX."""
    if path == INBOX_PATH:
        return ""
    return (_nested if layout is Layout.NESTED else _plus_plus)(path).decode("ascii")


def path_of(folder: str, layout: Layout = Layout.PLUS_PLUS) -> Path:
    """Returns the path that a folder stands for: undoes `folder`, but for names that were too long."""
    if not folder:
        return INBOX_PATH
    octets = os.fsencode(folder)
    levels = octets.split(b"/") if layout is Layout.NESTED else octets[1:].split(b".")
    return tuple(map(_level, levels))


def subscribed_name(folder: str, layout: Layout) -> bytes:
    """Returns what a mailbox is called in the file `subscriptions`."""
    if not folder:
        return b"INBOX"
    return os.fsencode(folder if layout is Layout.NESTED else folder[1:])


def _plus_plus(path: Path) -> bytes:
    safe = b"." + b".".join(_safe(level, _UNSAFE) for level in path)
    if safe.lower().startswith(_OURS):
        safe = b".=%02X" % safe[1] + safe[2:]
    return safe if len(safe) <= MOST_OCTETS and path else _cut(safe)


def _nested(path: Path) -> bytes:
    levels = [_safe(level, _UNSAFE_NESTED) for level in path]
    levels = [b"=%02X" % level[0] + level[1:] if _TAKEN.fullmatch(level) else level for level in levels]
    whole = b"/".join(levels)
    if not path or len(whole) > MOST_NESTED_OCTETS:
        return _cut(levels[0] if path else b"", whole)
    return b"/".join(level if len(level) <= MOST_OCTETS else _cut(level) for level in levels)


def _cut(name: bytes, whole: bytes = b"") -> bytes:
    digest = hashlib.sha256(whole or name).hexdigest()[:HASH_CHARACTERS].encode()
    return name[: MOST_OCTETS - len(digest) - 2] + b"=~" + digest


def _safe(level: str, unsafe: re.Pattern[bytes]) -> bytes:
    """Returns a level of a path as it stands in a folder's name. Levels that were no text are kept as octets."""
    return unsafe.sub(lambda octet: b"=%02X" % octet[0][0], utf7.octets_of(level)) or _EMPTY_LEVEL


def _level(safe: bytes) -> str:
    octets = b"" if safe == _EMPTY_LEVEL else _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), safe)
    try:
        return "".join(map(_piece, _NO_ASCII.split(octets)))
    except ValueError:  # another program's name
        return octets.decode("utf-8", "surrogateescape")


def _piece(octets: bytes) -> str:
    return utf7.decode(octets) if octets.isascii() else octets.decode("utf-8", "surrogateescape")
