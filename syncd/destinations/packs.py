"""The archive of packs: append-only zstd frames that are one mbox for `zstdcat`, with an index beside them.

Repeat-safe: octets are stored once, whatever number of times and places they come from; a place that is known just
so is not written again. A batch is: lock, take up what others appended, append, one `fdatasync`, commit the index,
unlock, outcomes. A crash in between leaves a tail that the next writer takes up as far as it is whole, and cuts.

The formats are in `formats/pack*.py`; docs/archive-format.md is for whoever must read an archive without us.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from uuid import UUID

from syncd.destinations.base import Outcome, Place, Repeat, Verdict
from syncd.errors import ArchiveMissing, FormatDamaged, StateError
from syncd.formats.packs.append import SEAL_OCTETS
from syncd.formats.packs.check import Problem, check
from syncd.formats.packs.home import Home, identity
from syncd.formats.packs.index import IndexDamaged
from syncd.formats.packs.query import Stats, StoredMessage
from syncd.formats.packs.take_up import build_index
from syncd.formats.packs.view import PackView
from syncd.formats.packs.writer import PackWriter
from syncd.mail.body import Body
from syncd.mail.message import Message, Receipt


class PacksArchive:
    """An archive of packs. For one thread at a time: who reads while another writes has an object of his own.

    `deliver` needs `open`; everything that reads needs neither `open` nor the lock.
    """

    repeat = Repeat.SAFE

    def __init__(
        self,
        path: Path,
        name: str = "",
        *,
        spool: Path | None = None,
        expected: UUID | None = None,
        seal_octets: int = SEAL_OCTETS,
    ) -> None:
        """`name` is for people. `spool` takes large messages that are read back (the archive's folder if not given).

        `expected`: which archive it has to be, for all but `identity` and `create`; the first one opened if not given.
        """
        self.path = path
        self.name = name
        self._spool = spool or path
        self._expected = expected
        self._seal_octets = seal_octets
        self._writer: PackWriter | None = None
        self._view: PackView | None = None

    # --- Archive ---

    def identity(self) -> UUID:
        """The UUID in archive.json. Raises ArchiveMissing when there is none, FormatDamaged."""
        return identity(self.path)

    def create(self, uuid: UUID) -> None:
        """Make an empty archive. Raises StorageError where there is one."""
        Home.create(self.path, uuid)

    def open(self) -> None:
        """Check that it is the archive we know, which it then has to stay; take up what a crash left.

        Raises ArchiveMissing, FormatDamaged, Locked, StorageError.
        """
        self.close()
        home = Home.open(self.path, writable=True)
        try:
            self._recognise(home)
            self._writer = PackWriter.open(home, self._seal_octets)
        except BaseException:
            home.close()
            raise

    def deliver(self, batch: Sequence[Message], upcoming: Sequence[Message] = ()) -> Iterator[Sequence[Outcome]]:
        """Store the batch; the outcomes come together, when it is durable and in the index.

        What is `upcoming` is compressed while this batch is made durable.

        Raises ArchiveMissing, Locked, StorageError, DiskFull before any outcome: then none of it is stored as far
        as anyone knows, and the next batch goes on cleanly.
        """
        if batch:
            self._store(batch, upcoming)
            yield [Outcome(message.key, Verdict.DELIVERED, Receipt(message.body.sha256)) for message in batch]

    def close(self) -> None:
        """Let go of locks, files and the thread. Repeatable."""
        if self._writer:
            self._writer.close()
            self._writer = None
        self._forget_view()

    def read(self, receipt: Receipt) -> Body:
        """The octets of a stored message, checked. Raises FormatDamaged when they differ or are not there."""
        body = self._seen().body(receipt.sha256, self._spool)
        if body is None:  # the index may have been built anew since we opened it
            self._forget_view()
            body = self._seen().body(receipt.sha256, self._spool)
        if body is None:
            raise FormatDamaged(
                f"the archive {self.path} does not hold the message with SHA-256 {receipt.sha256.hex()}"
            )
        return body

    def places(self, account: UUID) -> Iterator[Place]:
        """Everything this archive holds of an account."""
        for ref, sha256, octets, header_hash in self._seen().places(account):
            yield Place(ref, sha256, octets, header_hash, "")

    def extent(self) -> int:
        """The octets of its packs, as far as they are durable (`Growing`)."""
        if self._writer:
            return self._writer.extent()
        home = Home.open(self.path, writable=False)
        try:
            self._recognise(home)
            return sum(home.packs().values())
        finally:
            home.close()

    def _store(self, batch: Sequence[Message], upcoming: Sequence[Message]) -> None:
        if self._writer is None:
            raise StateError(f"the archive {self.path} is not open for writing")
        try:
            self._writer.store(batch, upcoming)
        except IndexDamaged:
            self._writer.drop_index()
            self.close()
            raise

    # --- for people: neither `open` nor the lock is needed ---

    def list(self) -> Iterator[StoredMessage]:
        """Every message with its places, in the order in which it was stored."""
        return self._seen().messages()

    def find(self, what: str) -> Iterator[StoredMessage]:
        """Messages by the start of their SHA-256 in hexadecimal (at least 4 digits), or by the uid of a place."""
        return self._seen().find(what)

    def stats(self) -> Stats:
        """The archive in figures."""
        return self._seen().stats()

    def check(self, progress: Callable[[int, int], None] | None = None) -> Iterator[Problem]:
        """Read every octet again and compare it with every checksum, and the index with the packs.

        `progress` is told the octets read and their sum. Yields what is wrong; raises StorageError where reading fails.
        """
        return check(self._seen(), progress)

    def rebuild(self) -> None:
        """Build the index anew from the packs. Raises Locked, StorageError."""
        self.close()
        home = Home.open(self.path, writable=True)
        try:
            self._recognise(home)
            with home.locked():
                build_index(home)
        finally:
            home.close()

    def _seen(self) -> PackView:
        if self._view is None:
            view = PackView.open(self.path)
            try:
                self._recognise(view.home)
            except BaseException:
                view.close()
                raise
            self._view = view
        return self._view

    def _recognise(self, home: Home) -> None:
        """Raise ArchiveMissing if it is another one than before."""
        if self._expected not in {None, home.uuid}:
            raise ArchiveMissing(
                f"the archive {self.path} is another one ({home.uuid}) than before ({self._expected}): "
                "mount the right disk, or have this one filled by `syncd run JOB --refill`"
            )
        self._expected = home.uuid

    def _forget_view(self) -> None:
        if self._view:
            self._view.close()
            self._view = None
