"""An archive in memory that keeps the contract and fails when it is told to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from uuid import UUID

from syncd.durable import Step, durable_step
from syncd.errors import ArchiveMissing, FormatDamaged, StorageError, SyncdError
from syncd.mail.body import Body
from syncd.mail.mailbox import Path
from syncd.mail.message import Message, MessageRef, Origin, Receipt, StoredMessage
from syncd.mail.outcome import Outcome, Place, Repeat, Verdict


class MemoryArchive:
    """`failures` are raised by the next batches, each after half of its outcomes; None lets a batch pass."""

    repeat = Repeat.SAFE

    def __init__(self) -> None:
        self.opened = 0
        self.failures: list[SyncdError | None] = []
        self.batches: list[int] = []  # the size of each batch that came
        self.damaged: set[bytes] = set()  # octets that it has and does not give back
        self.noted: list[Origin] = []  # mailboxes that it was told of
        self._uuid: UUID | None = None
        self._stored: dict[MessageRef, tuple[bytes, Place, Message]] = {}

    @property
    def copies(self) -> int:
        return len(self._stored)

    @property
    def messages(self) -> list[Message]:
        """The messages delivered first for each place; the bodies are closed."""
        return [message for _, _, message in self._stored.values()]

    def create(self, uuid: UUID) -> None:
        if self._uuid is not None:
            raise StorageError("the archive in memory is there already")
        self._uuid = uuid

    def identity(self) -> UUID:
        if self._uuid is None:
            raise ArchiveMissing("there is no archive in memory")
        return self._uuid

    def recognise(self) -> None:
        self.identity()

    def open(self) -> None:
        self.opened += 1
        self.identity()

    def deliver(
        self,
        batch: Sequence[Message],
        upcoming: Sequence[Message] = (),  # noqa: ARG002  the contract's
    ) -> Iterator[Sequence[Outcome]]:
        self.batches.append(len(batch))
        failure = self.failures.pop(0) if self.failures else None
        for message in batch[: len(batch) // 2] if failure else batch:
            with durable_step(Step.PACK_SYNC):
                self._keep(message)
            yield [Outcome(message.key, Verdict.DELIVERED, Receipt(message.body.sha256))]
        if failure:
            raise failure

    def close(self) -> None:
        """Does nothing: an archive in memory has no files to close."""

    def mailbox_key(self, path: Path) -> str:
        return "/".join(path)

    def note_mailboxes(self, origins: Iterable[Origin]) -> None:
        new = [origin for origin in dict.fromkeys(origins) if origin not in self.noted]
        if new:
            with durable_step(Step.PACK_SYNC):
                self.noted += new

    def read(self, receipt: Receipt, ref: MessageRef | None = None) -> StoredMessage:
        found = [place for place in self._places() if place.sha256 == receipt.sha256]
        for place in sorted(found, key=lambda place: place.ref != ref):
            data, _, message = self._stored[place.ref]
            if data not in self.damaged:
                return StoredMessage(Body.of(data), message.flags, message.internal_date, message.labels)
        raise FormatDamaged("the archive in memory does not hold that message")

    def places(self, account: UUID) -> Iterator[Place]:
        return (place for place in self._places() if place.ref.origin.account == account)

    def _keep(self, message: Message) -> None:
        if message.ref not in self._stored:
            data = b"".join(message.body.chunks())
            body = Body.of(data)
            place = Place(message.ref, body.sha256, body.octets, body.header_hash, "")
            self._stored[message.ref] = (data, place, message)

    def _places(self) -> Iterator[Place]:
        return (place for _, place, _ in self._stored.values())
