"""The one gate for acts that survive a crash: commits, fsyncs, renames, links, messages sent, removals at a source.

Every such act stands inside `with durable_step(Step.X):` and does exactly one durable thing. Tests
install an observer and stop the program just before and just after each step; nothing else listens.
Idea: mbsync's test driver, which stops at every line of its journal.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

Moment = Literal["before", "after"]


class Step(Enum):
    """Every kind of durable step there is; a new one is added here, and the kill tests find it."""

    LEDGER_COMMIT = "ledger.commit"
    ARCHIVE_IDENTITY = "archive.identity"  # archive.json or its Maildir twin is renamed to its name
    DIRECTORY_SYNC = "directory.sync"  # fsync of a directory after a file was made in it
    PACK_CREATE = "pack.create"  # a pack with its first frame is renamed to its name
    PACK_SYNC = "pack.sync"
    PACK_UNDO = "pack.undo"  # what a batch that failed has written is cut off
    TORN_SYNC = "torn.sync"  # fsync of the copy of a torn tail
    PACK_CUT = "pack.cut"  # the torn tail itself goes
    INDEX_COMMIT = "index.commit"  # also: a rebuilt index is renamed to its name
    INDEX_SYNC = "index.sync"  # fsync of a rebuilt index, before it has its name
    INDEX_REMOVE = "index.remove"  # a file of an index that is rebuilt goes
    SEARCH_COMMIT = "search.commit"  # of a search index beside an archive
    MAILDIR_SYNC = "maildir.sync"  # fsync of one message file in tmp
    MAILDIR_LINK = "maildir.link"
    MAILDIR_NOTE = "maildir.note"  # a file about keywords, subscriptions or a mailbox is renamed to its name
    MAILDIR_UNLINK = "maildir.unlink"  # the name in tmp goes
    MBOX_SYNC = "mbox.sync"  # fsync of an mbox file to which a batch was added
    MBOX_CUT = "mbox.cut"  # what a crash or a failure left at its end goes
    MBOX_NOTE = "mbox.note"  # a commit of the archive's own notes about its files
    EXPORT_SYNC = "export.sync"  # fsync of an exported file
    EXPORT_MOVE = "export.move"  # a folder or file of a complete export is renamed to its place
    EXPORT_DONE = "export.done"  # the list of what was renamed goes: what is there is no export of ours any more
    MESSAGE_END = "message.end"  # the octets that end a message leave for a server, which takes it upon itself
    SOURCE_REMOVE = "source.remove"  # DELE, \Deleted: marked, not yet gone
    SOURCE_QUIT = "source.quit"  # QUIT after DELE: the server expunges
    SOURCE_EXPUNGE = "source.expunge"  # UID EXPUNGE, or MOVE to the trash: gone


observer: Callable[[Step, Moment], None] | None = None


class _DurableStep:
    __slots__ = ("step",)

    def __init__(self, step: Step) -> None:
        self.step: Final = step

    def __enter__(self) -> None:
        if observer is not None:
            observer(self.step, "before")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if observer is not None and kind is None:
            observer(self.step, "after")


def durable_step(step: Step) -> _DurableStep:
    """Guard one durable act. Raises whatever the act raises; "after" is only seen when it succeeded."""
    return _DurableStep(step)


def write_all(descriptor: int, chunks: Iterable[bytes]) -> None:
    """Write every octet: `write(2)` may take fewer than it was given. Raises OSError."""
    for chunk in chunks:
        written = os.write(descriptor, chunk)
        while written < len(chunk):
            written += os.write(descriptor, memoryview(chunk)[written:])


def make_directories(path: Path) -> None:
    """Make a directory (0700) and those above it that are missing, durably; it may be there. Raises OSError."""
    missing = [folder for folder in path.parents if not folder.exists()]
    for folder in (*reversed(missing), path):
        folder.mkdir(mode=0o700, exist_ok=True)
        with suppress(PermissionError):  # of a folder that is ours in one that we must not list
            sync_directory(folder.parent)


def sync_directory(directory: Path | int) -> None:
    """Make the names in a directory (its path, or an open descriptor) durable. Raises OSError."""
    if isinstance(directory, int):
        with durable_step(Step.DIRECTORY_SYNC):
            os.fsync(directory)
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_directory(descriptor)
    finally:
        os.close(descriptor)
