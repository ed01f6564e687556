"""A Maildir archive as a shelf.

A Maildir keeps no checksums and no accounts: names of files are hashes of places, and the octets are those
that mail readers see, with LF line ends unless the archive says "verbatim". What the ledger knows (SHA-256 of
the original octets and the file of each message) is what `missing` holds them against.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from syncd.destinations.maildir import MaildirArchive
from syncd.errors import FormatDamaged, StorageError, storage_error
from syncd.formats.maildir import names as maildir
from syncd.formats.maildir.folder import Folder, read_chunks
from syncd.mail.body import BodyWriter
from syncd.mail.message import INBOX, MessageRef, Origin, Receipt
from syncd.services.export import Stored
from syncd.services.shelf import Entry, Figures, Finding, Held, Lost, Progress, entry, sent_at

_ESCAPED = re.compile(rb"=([0-9A-F]{2})")
_EPOCH = 1  # of exported places: the real one is not known here


class MaildirShelf:
    """See `Shelf`. Raises ArchiveMissing, FormatDamaged, StorageError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive = MaildirArchive(path)
        self._uuid = self._archive.identity()

    def uuid(self) -> UUID:
        """Which archive it is."""
        return self._uuid

    def entries(self, account: str | None = None) -> Iterator[Entry]:
        """Every message in every folder; of no account, as a Maildir does not say."""
        for file in self._files() if account is None else ():
            yield self._entry(file)

    def find(self, what: str) -> list[Entry]:
        """By the start of the file's name."""
        return [self._entry(file) for file in self._files() if file.base.startswith(what)]

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """The octets as the file has them."""
        file = next((file for file in self._files() if file.id == entry.id), None)
        if file is None:
            raise FormatDamaged(f"the message {entry.id} is no longer in {self.path}")
        yield from file.read()

    def stored(self, spool: Path, lost: Lost, account: str | None = None) -> Iterator[Stored]:
        """The octets as the files have them, in the mailboxes that the folders stand for."""
        for file in self._files() if account is None else ():
            writer = BodyWriter(spool)
            try:
                for chunk in file.read():
                    writer.write(chunk)
            except FormatDamaged as error:
                writer.discard()
                lost(str(error))
                continue
            body = writer.finish()
            origin = Origin(self._uuid, self.path.name, file.mailbox, _EPOCH)
            ref = MessageRef(origin, file.base.encode("utf-8", "surrogateescape"), 1)
            yield Stored(ref, maildir.flags_of(file.path.name), sent_at(next(body.chunks(), b"")) or file.at, body)

    def figures(self) -> Figures:
        """The archive in figures."""
        messages = octets = 0
        for file in self._files():
            messages, octets = messages + 1, octets + file.octets
        return Figures("maildir", messages, octets, octets, messages)

    def check(self, progress: Progress) -> Iterator[Finding]:
        """Whether every file can be read; for more, the ledger is needed."""
        done = 0
        for file in self._files():
            try:
                done += sum(map(len, file.read()))
            except StorageError as error:
                yield Finding(str(file.path), None, str(error))
            progress(done, 0)

    def missing(self, held: Iterable[Held]) -> Iterator[Finding]:
        """Every message the ledger knows here is read and held against its SHA-256."""
        for message in held:
            try:
                self._archive.read(Receipt(message.sha256, message.hint)).close()
            except StorageError as error:
                yield Finding(str(self.path / message.hint), None, str(error))

    def close(self) -> None:
        """Nothing is held open."""

    def _files(self) -> Iterator[_File]:
        """Every message file once, while mail readers move and rename them."""
        try:
            folders = sorted(path for path in self.path.iterdir() if _is_folder(path))
        except OSError as error:
            raise storage_error(error, f"cannot read {self.path}") from error
        for path in (self.path, *folders):
            try:
                with Folder(path) as folder:
                    yield from self._files_in(path, folder)
            except OSError as error:
                raise storage_error(error, f"cannot read {path}") from error

    def _files_in(self, path: Path, folder: Folder) -> Iterator[_File]:
        seen: set[str] = set()
        for name in folder.names():
            file = _look(self.path, path, name)
            if file is not None and file.base not in seen:
                seen.add(file.base)
                yield file

    def _entry(self, file: _File) -> Entry:
        return entry(file.id, file.octets, file.read(), file.at, mailboxes=(file.mailbox,))


@dataclass(frozen=True, slots=True)
class _File:
    """A message file when we looked. `base` is the part of its name that readers leave alone."""

    path: Path
    mailbox: bytes
    base: str
    octets: int
    at: datetime

    @property
    def id(self) -> str:
        """What the message is called in a list."""
        return maildir.stem_of(self.base) or self.base

    def read(self) -> Iterator[bytes]:
        """Its octets, wherever a reader moved it within its folder. Raises FormatDamaged: others may be read."""
        try:
            with self._open() as file:
                yield from read_chunks(file.fileno())
        except OSError as error:
            raise FormatDamaged(f"cannot read {self.path}: {error.strerror}") from error

    def _open(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except FileNotFoundError:
            folder = self.path.parent.parent
            moved = (path for name in ("new", "cur") for path in (folder / name).iterdir() if _base(path) == self.base)
            again = next(moved, None)
            if again is None:
                raise
            return again.open("rb")


def _base(path: Path) -> str:
    return path.name.partition(":2,")[0].partition(";2,")[0]


def _is_folder(path: Path) -> bool:
    return path.name.startswith(".") and (path / "cur").is_dir() and not path.is_symlink()


def _look(root: Path, folder: Path, name: str) -> _File | None:
    """One file; None where it was moved meanwhile: it is listed under its new name as well."""
    path = folder / name
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return None
    at = datetime.fromtimestamp(facts.st_mtime, UTC)
    return _File(path, _mailbox(folder.name) if folder != root else INBOX, _base(path), facts.st_size, at)


def _mailbox(folder: str) -> bytes:
    """The mailbox that a Maildir++ folder stands for: the opposite of `maildir.folder`, as far as there is one."""
    octets = folder.removeprefix(".").replace(".", "/").encode("utf-8", "surrogateescape")
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), octets)
