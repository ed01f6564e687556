"""Names of exported files and folders: readable, harmless, and different for different mailboxes. Nothing is opened.

A mailbox is a path of folders, one for each level (`formats.readable`), under the folder of its account. The second of
two mailboxes that a file system might take for one (Work, work) ends in "=~" and a hash.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path
from uuid import UUID

from syncd.formats.maildir import layout
from syncd.formats.readable import cut, readable
from syncd.mail.mailbox import Path as MailboxPath
from syncd.mail.message import Origin


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
                path = path.with_name(cut(path.name, origin.path))
            self._taken.add(_folded(path))
            self._mailboxes[key] = path
        return self._mailboxes[key]


def _folded(path: Path) -> str:
    """Returns what is equal for paths that some file system takes for one."""
    return unicodedata.normalize("NFC", str(path)).casefold()
