"""What a crash left at the end of an mbox file: cut off where it is ours, and left alone where it is not.

Before the first octet of a batch is written, the journal says where it goes and what it is. Behind a crash the file has
more than was there before:

    all records of ours                                                   they count as stored. An older copy of the
                                                                          journal may be there, and the ledger has them
    some records of ours, the start of one, or NULs (a power cut)         cut back to where the batch began
    anything else: another program has written since                      nothing is cut. Records of ours that are
                                                                          whole, wherever they are now, count as stored
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from typing import Final

from syncd import clock
from syncd.durable import Step, durable_step
from syncd.formats.mbox import scan
from syncd.formats.mbox.from_line import START
from syncd.formats.mbox.journal import Appending, Journal, Known
from syncd.formats.mbox.scan import Window

_BLOCK_OCTETS: Final = 1 << 20
Find = Callable[[bytes, int], int]  # SHA-256 and a likely offset of a message → where it is, -1 if nowhere


def recover(descriptor: int, appending: Appending, journal: Journal, find: Find) -> int:
    """Take up an open and locked file after a crash; returns the octets that were cut. Raises OSError, StorageError."""
    facts = os.fstat(descriptor)
    same = facts.st_ino == appending.inode
    if same and facts.st_size == appending.start:
        journal.end(appending.file)
        return 0
    ours = same and facts.st_size > appending.start and _is_ours(descriptor, facts.st_size, appending)
    if ours and not _is_whole(descriptor, facts.st_size, appending):
        cut(descriptor, appending.start)
        journal.end(appending.file)
        return facts.st_size - appending.start
    now = clock.now().timestamp()
    places = [(it, find(it.sha256, it.start)) for it in appending.records]
    os.fsync(descriptor)
    journal.end(appending.file, [(it.stem, Known(appending.file, at, it.sha256, now)) for it, at in places if at >= 0])
    return 0


def cut(descriptor: int, end: int) -> None:
    """Cut an open file, durably. Raises OSError."""
    with durable_step(Step.MBOX_CUT):
        os.ftruncate(descriptor, end)
        os.fsync(descriptor)


def _is_ours(descriptor: int, size: int, appending: Appending) -> bool:
    end = _without_nuls(descriptor, size, appending.start)
    if end > appending.records[-1].end:
        return False
    window = Window(descriptor, end)
    for planned in appending.records:
        if planned.end <= end:
            digest = sha256()
            for chunk in window.chunks(planned.start, planned.end):
                digest.update(chunk)
            if digest.digest() != planned.stored:
                return False
        elif planned.start < end:
            there = window.read(planned.start, len(planned.head))
            if not planned.head.startswith(there) or _holds_from_line(window, planned.start + 1):
                return False
    return True


def _holds_from_line(window: Window, at: int) -> bool:
    """Returns whether another program's message follows, perhaps in the middle of the line where the torn one ends."""
    while (at := window.find(START, at)) >= 0:
        if scan.from_line(window, at) is not None:
            return True
        at += 1
    return False


def _is_whole(descriptor: int, size: int, appending: Appending) -> bool:
    """Returns whether a file that is ours has all records, and nothing behind them."""
    return size == appending.records[-1].end == _without_nuls(descriptor, size, appending.start)


def _without_nuls(descriptor: int, end: int, start: int) -> int:
    """Returns the end of a stretch without the NULs at its end: a power cut leaves them where nothing was written."""
    while end > start:
        at = max(start, end - _BLOCK_OCTETS)
        kept = os.pread(descriptor, end - at, at).rstrip(b"\0")
        if kept:
            return at + len(kept)
        end = at
    return start
