"""Adding the messages of one batch to one mbox file: planned in the journal, written, made durable, noted as stored.

    lock the file ─▶ journal: what is going to be written, and where ─▶ write ─▶ fsync ─▶ journal: it is stored
                                                    └─ an error of the disk ─▶ cut back to where the batch began

A message that the journal knows is looked for in the file, and not written again while it is there. Other programs see
a batch whole or not at all if they heed the locks (`formats/mbox/locks.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Final, NamedTuple

from syncd import clock
from syncd.durable import Step, durable_step, sync_directory, write_all
from syncd.errors import Locked, SyncdError
from syncd.formats.maildir.names import stem as stem_of
from syncd.formats.mbox import locks, tail
from syncd.formats.mbox.encoded import Measured, measure, record
from syncd.formats.mbox.home import MboxHome
from syncd.formats.mbox.journal import Appending, Journal, Known, Planned
from syncd.formats.mbox.lookup import Lookup, hint_of
from syncd.formats.mbox.scan import Window
from syncd.formats.regular import open_regular
from syncd.mail.message import Message, Receipt
from syncd.mail.outcome import Outcome, Verdict

WRITE_OCTETS: Final = 1 << 20  # at a time
_ROUNDS: Final = 5  # a program that replaces the file each time we open it is no mail program
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Fresh(NamedTuple):
    """A message that is going to be written, and the measures of its record."""

    message: Message
    stem: str
    measured: Measured


def make_file(home: MboxHome, name: str) -> None:
    """Make an mbox file and the folders above it where they are missing, durably. Raises OSError."""
    path = home.root / name
    for folder in reversed([it for it in path.parents if it != home.root and home.root in it.parents]):
        if not folder.is_dir():
            folder.mkdir(mode=0o700)
            sync_directory(folder.parent)
    with suppress(FileExistsError):
        os.close(os.open(path, _CREATE, 0o600))
        sync_directory(path.parent)


@contextmanager
def locked_file(home: MboxHome, name: str) -> Iterator[int]:
    """Open a file and lock it. Raises Locked, OSError."""
    path = home.root / name
    for _ in range(_ROUNDS):
        descriptor = open_regular(path, os.O_RDWR)
        try:
            with locks.locked(descriptor, os.fspath(path)):
                if os.path.samestat(os.fstat(descriptor), path.lstat()):
                    yield descriptor
                    return
        finally:
            os.close(descriptor)
    raise Locked(f"another program keeps replacing {path}; try again later")


def take_up(home: MboxHome, journal: Journal, lookup: Lookup) -> int:
    """Take up what a crash left in any file. Returns the octets that were cut off. Raises OSError, SyncdError."""
    cut = 0
    for appending in journal.appending():
        name = os.fsdecode(appending.file)
        try:
            with locked_file(home, name) as descriptor:
                cut += tail.recover(descriptor, appending, journal, partial(_find, lookup, name, descriptor))
        except FileNotFoundError:
            journal.end(appending.file)
    return cut


def _find(lookup: Lookup, name: str, descriptor: int, sha256: bytes, start: int) -> int:
    window = Window(descriptor, os.fstat(descriptor).st_size)
    return lookup.find(name, window, descriptor, sha256, start)


class FileBatch:
    """One file. For the holder of the archive's lock, after `take_up`; used once."""

    def __init__(self, home: MboxHome, name: str, journal: Journal, lookup: Lookup) -> None:
        self._home = home
        self._name = name
        self._file = os.fsencode(name)
        self._journal = journal
        self._lookup = lookup

    def run(self, messages: Sequence[Message]) -> list[Outcome]:
        """Store all of them; one outcome each. Raises OSError, SyncdError: then none of them is stored."""
        with locked_file(self._home, self._name) as descriptor:
            there, fresh = self._divide(descriptor, messages)
            if fresh:
                self._append(descriptor, fresh)
        stems = {it.stem for it in fresh}
        return [self._outcome(message, there, stems) for message in messages]

    def _divide(self, descriptor: int, messages: Sequence[Message]) -> tuple[dict[str, Known], list[Fresh]]:
        """Returns what is there already, and what is to be written, each message once."""
        there: dict[str, Known] = {}
        fresh: dict[str, Fresh] = {}
        for message in messages:
            stem = stem_of(message.ref)
            if stem in there or stem in fresh:
                continue
            known = self._journal.known(stem)
            if known is not None and known.file == self._file and known.sha256 == message.body.sha256:
                at = _find(self._lookup, self._name, descriptor, known.sha256, known.start)
                if at >= 0:
                    there[stem] = known._replace(start=at)
                    continue
            fresh[stem] = Fresh(message, stem, measure(message))
        return there, list(fresh.values())

    def _append(self, descriptor: int, fresh: Sequence[Fresh]) -> None:
        facts = os.fstat(descriptor)
        gap = _gap(descriptor, facts.st_size)
        planned, at = [], facts.st_size + len(gap)
        for it in fresh:
            end = at + it.measured.octets
            sha256 = it.message.body.sha256
            planned.append(Planned(it.stem, at, end, it.measured.head, it.measured.stored, sha256))
            at = end
        self._journal.begin(Appending(self._file, facts.st_ino, facts.st_size, tuple(planned)))
        try:
            os.lseek(descriptor, facts.st_size, os.SEEK_SET)
            write_all(descriptor, _joined(gap, fresh))
            with durable_step(Step.MBOX_SYNC):
                os.fsync(descriptor)
        except OSError:
            with suppress(OSError, SyncdError):  # where this fails too, the next batch does it
                tail.cut(descriptor, facts.st_size)
                self._journal.end(self._file)
            raise
        now = clock.now().timestamp()
        self._journal.end(self._file, [(it.stem, Known(self._file, it.start, it.sha256, now)) for it in planned])

    def _outcome(self, message: Message, there: dict[str, Known], fresh: set[str]) -> Outcome:
        stem = stem_of(message.ref)
        since = None if stem in fresh else datetime.fromtimestamp(there[stem].since, UTC)
        receipt = Receipt(message.body.sha256, hint_of(self._name, stem))
        return Outcome(message.key, Verdict.DELIVERED, receipt, there_since=since)


def _gap(descriptor: int, size: int) -> bytes:
    """Returns what a file lacks at its end for an empty line to be there: other programs may not end it with one."""
    last = os.pread(descriptor, 2, max(0, size - 2))
    return b"" if not last or last == b"\n\n" else b"\n" if last.endswith(b"\n") else b"\n\n"


def _joined(gap: bytes, fresh: Iterable[Fresh]) -> Iterator[bytes]:
    """Yields the records in pieces of about WRITE_OCTETS."""
    waiting, octets = [gap], len(gap)
    for it in fresh:
        for piece in record(it.message, it.measured):
            waiting.append(piece)
            octets += len(piece)
            if octets >= WRITE_OCTETS:
                yield b"".join(waiting)
                waiting, octets = [], 0
    yield b"".join(waiting)
