"""An archive of packs as a shelf."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from uuid import UUID

from syncd.errors import FormatDamaged
from syncd.formats.packs.check import check
from syncd.formats.packs.query import StoredMessage, StoredPlace, locate
from syncd.formats.packs.view import PackView
from syncd.services.export import Stored
from syncd.services.shelf import Entry, Figures, Finding, Held, Lost, Progress, entry, sent_at


class PacksShelf:
    """See `Shelf`. Raises ArchiveMissing, FormatDamaged, StorageError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._view = PackView.open(path)

    def uuid(self) -> UUID:
        """Which archive it is."""
        return self._view.home.uuid

    def entries(self, account: str | None = None) -> Iterator[Entry]:
        """Every message in the order of the packs: each frame is read once."""
        for message in self._view.messages():
            if any(_of(place, account) for place in message.places) or account is None:
                yield self._entry(message)

    def find(self, what: str) -> list[Entry]:
        """By SHA-256 or uid."""
        return [self._entry(message) for message in self._view.find(what)]

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """The octets as they were received."""
        digest = sha256()
        wanted = bytes.fromhex(entry.id)
        at = locate(self._view.index, wanted)
        if at is None:
            raise FormatDamaged(f"{self.path} does not hold the message {entry.id}")
        for chunk in self._view.chunks(at):
            digest.update(chunk)
            yield chunk
        if digest.digest() != wanted:
            where = f"{self._view.home.pack_path(at.pack)} at offset {at.frame}"
            raise FormatDamaged(f"{where}: the octets of message {entry.id} are not those that were stored")

    def stored(self, spool: Path, lost: Lost, account: str | None = None) -> Iterator[Stored]:
        """One for each place."""
        for message in self._view.messages():
            for place in message.places:
                if account is not None and not _of(place, account):
                    continue
                try:
                    body = self._view.body(message.sha256, spool)
                except FormatDamaged as error:
                    lost(str(error))
                    continue
                assert body is not None, "the index has just said that it is here"
                date = place.internal_date or sent_at(next(body.chunks(), b"")) or message.stored_at
                yield Stored(place.ref, place.flags, date, body)

    def figures(self) -> Figures:
        """The archive in figures."""
        stats = self._view.stats()
        return Figures(
            "packs", stats.messages, stats.octets, stats.pack_octets, stats.packs, stats.places, stats.accounts
        )

    def check(self, progress: Progress) -> Iterator[Finding]:
        """Every checksum of every frame and message, and the index against the packs."""
        for problem in check(self._view, progress):
            yield Finding(str(problem.file), problem.offset, problem.what, problem.harmless)

    def missing(self, held: Iterable[Held]) -> Iterator[Finding]:
        """Asked of the index, which `check` has compared with the packs."""
        for message in held:
            if locate(self._view.index, message.sha256) is None:
                what = f"message {message.sha256.hex()} is not here, and the ledger says it was delivered here"
                yield Finding(str(self.path), None, what)

    def close(self) -> None:
        """Let go of files."""
        self._view.close()

    def _entry(self, message: StoredMessage) -> Entry:
        origins = [place.ref.origin for place in message.places]
        dates = [place.internal_date for place in message.places if place.internal_date is not None]
        return entry(
            message.sha256.hex(),
            message.octets,
            self._view.chunks(message.location),
            dates[0] if dates else message.stored_at,
            accounts=(origin.account_name for origin in origins),
            mailboxes=(origin.mailbox for origin in origins),
        )


def _of(place: StoredPlace, account: str | None) -> bool:
    origin = place.ref.origin
    return account in {origin.account_name, str(origin.account)}
