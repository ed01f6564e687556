"""Names of exported files and folders: readable, harmless, and different for different mailboxes. Nothing is opened.

A mailbox is a path of folders, one for each level, under the folder of its account. Characters that are no text for
people, that some file system forbids, or that mean something in a path become "=XX", as do a dot or space at an end,
and "=" itself; so does the dot of ".eml" and ".mbox" at the end, which our own files have. A level or path too long
ends in "=~" and a hash, and so does the second of two mailboxes that a file system might take for one (Work, work).
"""

from __future__ import annotations

import re
import unicodedata
from hashlib import sha256
from pathlib import Path
from typing import Final
from uuid import UUID

from syncd.formats.maildir import layout
from syncd.mail.mailbox import Path as MailboxPath
from syncd.mail.message import Origin

MOST_OCTETS: Final = 200  # of one name, which may have 255; ".mbox" comes behind
MOST_PATH_OCTETS: Final = 1_000
HASH_CHARACTERS: Final = 16
_UNSAFE: Final = re.compile(r'[/\\:*?"<>|=~]|\A[. ]|[. ]\Z|\.(?=(?:eml|mbox)\Z)', re.IGNORECASE)


def readable(path: MailboxPath) -> str:
    """Returns the name of a mailbox's folder, with "/" between levels."""
    levels = [_level(level) for level in path] or ["="]
    name = "/".join(levels)
    if len(name.encode()) > MOST_PATH_OCTETS:
        return _cut(levels[0], path)
    return "/".join(_cut(it, (it,)) if len(it.encode()) > MOST_OCTETS else it for it in levels)


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


def _cut(name: str, path: MailboxPath) -> str:
    digest = sha256(repr(path).encode("utf-8", "surrogatepass")).hexdigest()[:HASH_CHARACTERS]
    kept = name.encode()[: MOST_OCTETS - HASH_CHARACTERS - 2].decode("utf-8", "ignore")
    return f"{kept}=~{digest}"


class Names:
    """Folders of accounts and mailboxes below `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._accounts: dict[UUID, Path] = {}
        self._mailboxes: dict[tuple[UUID, MailboxPath], Path] = {}
        self._taken: set[str] = set()

    def account(self, origin: Origin) -> Path:
        """The folder of an account, made when it is first asked for; no two accounts share one."""
        known = self._accounts.get(origin.account)
        if known is None:
            name = layout.folder((origin.account_name,))[1:] or "INBOX"
            if self._path / name in self._accounts.values():
                name += f"-{origin.account}"
            known = self._accounts[origin.account] = self._path / name
            known.mkdir(mode=0o700)
        return known

    def mailbox(self, origin: Origin) -> Path:
        """The path of a mailbox in its account's folder; nothing is made but the account's folder."""
        key = origin.account, origin.path
        if key not in self._mailboxes:
            path = self.account(origin) / readable(origin.path)
            if _folded(path) in self._taken:
                path = path.with_name(_cut(path.name, origin.path))
            self._taken.add(_folded(path))
            self._mailboxes[key] = path
        return self._mailboxes[key]


def _folded(path: Path) -> str:
    """Returns what is equal for paths that some file system takes for one."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def make_directories(path: Path) -> None:
    """Make a directory and those above it that are missing, for the owner alone. Raises OSError."""
    missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700)
