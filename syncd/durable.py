"""The one gate for acts that survive a crash: commits, fsyncs, renames, links, messages sent, removals at a source.

Every such act stands inside `with durable_step(Step.X):` and does exactly one durable thing. Tests
install an observer and stop the program just before and just after each step; nothing else listens.
Idea: mbsync's test driver, which stops at every line of its journal.
"""

from __future__ import annotations

import os
from collections.abc import Callable
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
    PACK_CREATE = "pack.create"
    PACK_SYNC = "pack.sync"
    PACK_CUT = "pack.cut"  # a torn tail is kept as .torn and cut
    INDEX_COMMIT = "index.commit"
    MAILDIR_SYNC = "maildir.sync"  # fsync of one message file in tmp
    MAILDIR_LINK = "maildir.link"
    MAILDIR_UNLINK = "maildir.unlink"  # the name in tmp goes
    MESSAGE_END = "message.end"  # the octets that end a message leave for a server, which takes it upon itself
    SOURCE_REMOVE = "source.remove"  # DELE: marked, not yet gone
    SOURCE_QUIT = "source.quit"  # QUIT after DELE: the server expunges


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
