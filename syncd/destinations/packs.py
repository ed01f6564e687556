"""The archive of packs: append-only zstd frames that are one mbox for `zstdcat`, with an index beside them.

Repeat-safe: octets are stored once, from however many places they come; a place that is known with the same facts is
not written again. A batch is: lock, take up what others appended, append, one `fdatasync`, commit the index, unlock,
outcomes. A crash in between leaves a tail; the next writer takes up its whole frames and cuts the rest.

The format is in `formats/packs/`; docs/archive-format.md describes it for whoever must read an archive without us.
Looking into an archive is `formats/packs/view.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from uuid import UUID

from syncd.errors import ArchiveMissing, FormatDamaged, StateError
from syncd.formats.packs.append import SEAL_OCTETS
from syncd.formats.packs.home import Home, identity
from syncd.formats.packs.index import IndexDamaged
from syncd.formats.packs.opened import OpenedPacks
from syncd.formats.packs.writer import PackWriter
from syncd.formats.probe import probe
from syncd.mail.message import Message, MessageRef, Origin, Receipt, StoredMessage
from syncd.mail.outcome import Outcome, Place, Repeat, Verdict


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
        self._packs: OpenedPacks | None = None

    # --- Archive ---

    def identity(self) -> UUID:
        """The UUID in archive.json. Raises ArchiveMissing when there is none, FormatDamaged."""
        return identity(self.path)

    def recognise(self) -> None:
        """See that it is the archive we know. Raises ArchiveMissing, FormatDamaged, StorageError."""
        self._expect(self.identity())

    def create(self, uuid: UUID) -> None:
        """Make an empty archive. Raises StorageError where there is one."""
        Home.create(self.path, uuid)

    def open(self) -> None:
        """Check its file system, and that it is the archive we know, which it has to stay; take up what a crash left.

        Raises ArchiveMissing, FormatDamaged, Locked, Unusable, StorageError.
        """
        self.close()
        home = Home.open(self.path, writable=True)
        try:
            self._expect(home.uuid)
            probe(self.path)
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
        self._forget_seen()

    def note_mailboxes(self, origins: Iterable[Origin]) -> None:
        """Record mailboxes, also such as have no messages. Known ones are not written again. Raises as `deliver`."""
        self._opened_writer().note(origins)

    def read(self, receipt: Receipt, ref: MessageRef | None = None) -> StoredMessage:
        """Returns a stored message, checked. Raises FormatDamaged when its octets differ or are not there.

        Where the place `ref` is not known, flags, date and labels are those of another place of these octets.
        """
        found = self._seen().read(receipt.sha256, self._spool, ref)
        if found is None:  # the index may have been built again since we opened it
            self._forget_seen()
            found = self._seen().read(receipt.sha256, self._spool, ref)
        if found is None:
            raise FormatDamaged(
                f"the archive {self.path} does not hold the message with SHA-256 {receipt.sha256.hex()}"
            )
        return found

    def places(self, account: UUID) -> Iterator[Place]:
        """Every place of an account, with the message that was seen there."""
        for ref, sha256, octets, header_hash in self._seen().places(account):
            yield Place(ref, sha256, octets, header_hash, "")

    def extent(self) -> int:
        """Returns the octets of its packs that are durable (`Growing`)."""
        if self._writer:
            return self._writer.extent()
        home = Home.open(self.path, writable=False)
        try:
            self._expect(home.uuid)
            return sum(home.packs().values())
        finally:
            home.close()

    def _store(self, batch: Sequence[Message], upcoming: Sequence[Message]) -> None:
        writer = self._opened_writer()
        try:
            writer.store(batch, upcoming)
        except IndexDamaged:
            writer.drop_index()
            self.close()
            raise

    def _opened_writer(self) -> PackWriter:
        if self._writer is None:
            raise StateError(f"the archive {self.path} is not open for writing")
        return self._writer

    def _seen(self) -> OpenedPacks:
        if self._packs is None:
            packs = OpenedPacks.open(self.path)
            try:
                self._expect(packs.home.uuid)
            except BaseException:
                packs.close()
                raise
            self._packs = packs
        return self._packs

    def _expect(self, found: UUID) -> None:
        """Raise ArchiveMissing if it is another one than before."""
        if self._expected not in {None, found}:
            raise ArchiveMissing(
                f"the archive {self.path} is another one ({found}) than before ({self._expected}): "
                "mount the right disk, or correct the path of the archive"
            )
        self._expected = found

    def _forget_seen(self) -> None:
        if self._packs:
            self._packs.close()
            self._packs = None
