"""Records mailboxes of a Maildir archive beside their messages: path, special use, subscription.

Path and special use stand in a file where the folder's name does not tell them. The user is subscribed to a mailbox
when it is new here; later changes of a mail reader to its subscription stay.
For the holder of the archive's lock; raises OSError, Locked.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from syncd.formats.maildir import notes
from syncd.formats.maildir.files import MaildirFiles
from syncd.formats.maildir.folder import Folder, is_folder
from syncd.formats.maildir.layout import Layout, path_of, subscribed_name
from syncd.formats.maildir.notes import Facts
from syncd.mail.mailbox import Path as MailboxPath
from syncd.mail.message import Origin


class MailboxNotes:
    """The notes of the archive at `root`. What was read is known until `forget`."""

    def __init__(self, root: Path, layout: Layout) -> None:
        self._root = root
        self._layout = layout
        self._facts: dict[str, Facts] = {}  # by folder

    def forget(self) -> None:
        """Read again what is needed: another program may have written."""
        self._facts.clear()

    def record(self, name: str, origins: Iterable[Origin]) -> None:
        """Record of the mailbox in a folder what the folder's name does not tell.

        Mailboxes of several accounts may share a folder: the first path and the first special use count.
        """
        for path, use, *_ in {origin[4:]: origin[4:] for origin in origins} if name else ():
            self._record(name, path, use)

    def _record(self, name: str, path: MailboxPath, use: str) -> None:
        known = self._facts.get(name)
        if known is not None and (known.use or not use):
            return
        with Folder(self._root, name) as folder:
            there = notes.facts_of(notes.read(folder, notes.FACTS))
            told = there or Facts(path_of(name, self._layout), "")
            wanted = Facts(there.path if there else path, told.use or use)
            if wanted != told:
                notes.replace(folder, notes.FACTS, notes.facts_octets(wanted))
        self._facts[name] = wanted

    def subscribe(self, mailboxes: Iterable[tuple[str, Origin]]) -> None:
        """Subscribe to mailboxes whose folders are not there yet (INBOX: has no messages yet), if their user is.

        A file of subscriptions that was not there first gets all mailboxes that are.
        """
        wanted = dict.fromkeys(name for name, origin in mailboxes if origin.subscribed)
        added = [subscribed_name(name, self._layout) for name in wanted if self._is_new(name)]
        if not added:
            return
        with Folder(self._root) as root:
            there = self._names() if notes.read(root, notes.SUBSCRIPTIONS) is None else []
            notes.change(root, notes.SUBSCRIPTIONS, lambda now: notes.with_subscriptions(now, [*there, *added]))

    def _is_new(self, name: str) -> bool:
        if name:
            return not is_folder(self._root / name)
        with Folder(self._root) as root:
            return not any(root.names())

    def begin(self) -> None:
        """Make the file of subscriptions, unless there is mail of another program: it may subscribe to all of it."""
        with Folder(self._root) as root:
            if len(self._names()) == 1 and not any(root.names()):
                notes.change(root, notes.SUBSCRIPTIONS, lambda now: now or b"")

    def _names(self) -> list[bytes]:
        """Returns the mailboxes that have folders, as subscriptions call them."""
        with closing(MaildirFiles(self._root, "", self._layout)) as files:
            return [subscribed_name(os.fsdecode(folder), self._layout) for folder in files.folders()]
