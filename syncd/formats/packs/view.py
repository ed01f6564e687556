"""Reading an archive of packs without its lock: while a writer is at work, or where nothing may be written.

What a writer has appended and not yet put into the index is not seen. If there is no usable index, one is made in
a temporary file of SQLite's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from uuid import UUID

from syncd.errors import FormatDamaged, StorageError
from syncd.formats.packs import query as pack_query
from syncd.formats.packs.frame import BadFrame
from syncd.formats.packs.home import Home
from syncd.formats.packs.index import Index, explained
from syncd.formats.packs.query import Stats, StoredMessage
from syncd.formats.packs.reader import Location, PackReader
from syncd.formats.packs.take_up import take_up
from syncd.mail.body import Body, BodyWriter
from syncd.mail.message import MessageRef


class PackView:
    """An archive as it was when last written to. For one thread."""

    def __init__(self, home: Home, index: Index) -> None:
        self.home = home
        self.index = index
        self._reader = PackReader(home.open_pack)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises ArchiveMissing, FormatDamaged, StorageError."""
        home = Home.open(path, writable=False)
        try:
            with explained(home.index):
                return cls(home, _usable_index(home))
        except BaseException:
            home.close()
            raise

    def close(self) -> None:
        """Let go of files."""
        self.index.close()
        self.home.close()

    def body(self, sha256: bytes, spool: Path) -> Body | None:
        """The octets with this SHA-256, checked, or None if they are not known. Large ones go to a file in `spool`.

        Raises FormatDamaged for this message, StorageError for the spool.
        """
        with explained(self.home.index):
            at = pack_query.locate(self.index, sha256)
        if at is None:
            return None
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
            raise FormatDamaged(
                f"{self._where(at)}: the octets of message {sha256.hex()} are not those that were stored"
            )
        return body

    def chunks(self, at: Location) -> Iterator[bytes]:
        """The original octets of the message at `at`, not held against its SHA-256.

        Raises FormatDamaged, also where the disk or a pack that is not there is to blame: others may be read.
        """
        try:
            yield from self._reader.chunks(at)
        except BadFrame as bad:
            raise FormatDamaged(f"{self._where(at)}: {bad}") from bad
        except (OSError, StorageError) as error:
            why = error if isinstance(error, StorageError) else f"cannot read {self._where(at)}: {error.strerror}"
            raise FormatDamaged(str(why)) from error

    def _where(self, at: Location) -> str:
        return f"{self.home.pack_path(at.pack)} at offset {at.frame}"

    def messages(self) -> Iterator[StoredMessage]:
        """Every message with its places, in the order of the packs."""
        with explained(self.home.index):
            yield from pack_query.stored(self.index)

    def find(self, what: str) -> Iterator[StoredMessage]:
        """Messages by the start of their SHA-256 in hexadecimal (4 digits or more), or by uid."""
        with explained(self.home.index):
            yield from pack_query.find(self.index, what)

    def places(self, account: UUID) -> Iterator[tuple[MessageRef, bytes, int, bytes]]:
        """Everything seen at an account: place, SHA-256, octets, header_hash."""
        with explained(self.home.index):
            yield from pack_query.places(self.index, account)

    def stats(self) -> Stats:
        """The archive in figures."""
        with explained(self.home.index):
            index = sum(file.stat().st_size for file in self.home.path.glob("index.sqlite*"))
            return pack_query.figures(self.index, self.home.packs(), index)


def _usable_index(home: Home) -> Index:
    path = home.index
    if path.is_file() and not path.is_symlink():
        try:
            index = Index.open(path, home.uuid)
        except sqlite3.OperationalError:
            index = None  # a medium that cannot be written to: WAL needs its files beside
        if index is not None:
            return index
    index = Index.create("", home.uuid)
    try:
        take_up(home, index, cut=False, sync=False)
    except StorageError:
        index.close()
        raise
    return index
