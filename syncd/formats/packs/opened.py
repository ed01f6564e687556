"""Packs and index opened for reading, without the lock: while a writer is at work, or where nothing may be written.

A reader does not see what a writer has appended and not yet put into the index. If there is no usable index, one is
made in a temporary file of SQLite's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from uuid import UUID

from syncd.errors import FormatDamaged, StorageError
from syncd.formats.packs import query
from syncd.formats.packs.frame import BadFrame
from syncd.formats.packs.home import Home
from syncd.formats.packs.index import Index, LeftOut, explained, oddity
from syncd.formats.packs.query import MessageRecord, Stats
from syncd.formats.packs.reader import Location, PackReader
from syncd.formats.packs.take_up import fill
from syncd.mail.body import BodyWriter
from syncd.mail.message import MessageRef, StoredMessage


class OpenedPacks:
    """An archive as it was when last written to. For one thread."""

    def __init__(self, home: Home, index: Index, *, lasting: bool) -> None:
        """`lasting`: the index is the archive's own, which knows what is durable."""
        self.home = home
        self.index = index
        self.lasting = lasting
        self._reader = PackReader(home.open_pack)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises ArchiveMissing, FormatDamaged, StorageError."""
        home = Home.open(path, writable=False)
        try:
            with explained(home.index):
                index = _lasting_index(home)
                return cls(home, index or _temporary_index(home), lasting=index is not None)
        except BaseException:
            home.close()
            raise

    def close(self) -> None:
        """Let go of files."""
        self.index.close()
        self.home.close()

    def read(self, sha256: bytes, spool: Path, ref: MessageRef | None = None) -> StoredMessage | None:
        """Returns the message with this SHA-256, checked; flags, date, labels are those of the place `ref` (None: any).

        None if the index does not know it. Large messages go to a file in `spool`. Raises FormatDamaged for this
        message, StorageError for the spool.
        """
        with explained(self.home.index):
            found = query.locate_at(self.index, sha256, ref)
        if found is None:
            return None
        at, flags, date, labels = found
        writer = BodyWriter(spool)
        try:
            for chunk in self.chunks(at):
                writer.write(chunk)
            body = writer.finish()
        except BaseException:
            writer.discard()
            raise
        if body.sha256 != sha256:
            body.close()
            raise self.differs(at, sha256)
        return StoredMessage(body, flags, date, labels)

    def chunks(self, at: Location) -> Iterator[bytes]:
        """The original octets of the message at `at`, not compared with its SHA-256.

        Raises FormatDamaged, also where the disk fails or a pack is missing: other messages may be readable.
        """
        try:
            yield from self._reader.chunks(at)
        except BadFrame as bad:
            raise FormatDamaged(f"{self._where(at)}: {bad}") from bad
        except (OSError, StorageError) as error:
            why = error if isinstance(error, StorageError) else f"cannot read {self._where(at)}: {error.strerror}"
            raise FormatDamaged(str(why)) from error

    def differs(self, at: Location, sha256: bytes) -> FormatDamaged:
        """Returns the error for octets that are sound and have another SHA-256."""
        return FormatDamaged(f"{self._where(at)}: the octets of message {sha256.hex()} are not those that were stored")

    def messages(self) -> Iterator[MessageRecord]:
        """Every message with its places, in the order of the packs."""
        with explained(self.home.index):
            yield from query.stored(self.index)

    def find(self, what: str) -> Iterator[MessageRecord]:
        """Messages by the start of their SHA-256 in hexadecimal (4 digits or more), or by the uid of a place."""
        with explained(self.home.index):
            yield from query.find(self.index, what)

    def places(self, account: UUID) -> Iterator[tuple[MessageRef, bytes, int, bytes]]:
        """Every place at an account, with SHA-256, octets and header_hash."""
        with explained(self.home.index):
            yield from query.places(self.index, account)

    def left_out(self) -> list[LeftOut]:
        """Returns the damage because of which messages may be missing here."""
        with explained(self.home.index):
            return self.index.left_out()

    def stats(self) -> Stats:
        """Returns the archive in figures."""
        with explained(self.home.index):
            index = sum(file.stat().st_size for file in self.home.path.glob("index.sqlite*"))
            return query.figures(self.index, self.home.packs(), index)

    def _where(self, at: Location) -> str:
        return f"{self.home.pack_path(at.pack)} at offset {at.frame}"


def _lasting_index(home: Home) -> Index | None:
    try:
        usable = home.index.exists() and not oddity(home.index)
        return Index.open(home.index, home.uuid) if usable else None
    except (sqlite3.OperationalError, OSError):
        return None  # a medium that cannot be written to: WAL needs its files beside


def _temporary_index(home: Home) -> Index:
    index = Index.create("", home.uuid)
    try:
        fill(home, index)
    except BaseException:
        index.close()
        raise
    return index
