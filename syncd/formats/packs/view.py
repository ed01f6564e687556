"""An archive of packs as a view (`formats.view.ArchiveView`): a mailbox is one of an account (see `listing`).

Octets that were seen at two accounts are two messages, as they were there. What a writer has appended and not yet put
into the index is left for the next listing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Final
from uuid import UUID

from syncd.errors import FormatDamaged
from syncd.formats.packs import changes, check, listing, query
from syncd.formats.packs.home import FORMAT
from syncd.formats.packs.index import explained
from syncd.formats.packs.opened import OpenedPacks
from syncd.formats.packs.query import MessageRecord, PlaceRecord
from syncd.formats.view import (
    Delivered,
    Entry,
    Figures,
    Finding,
    Found,
    Fresh,
    Further,
    Gone,
    Known,
    LeftOut,
    Lost,
    Mark,
    Places,
    Progress,
    Read,
    Seen,
    Stored,
    entry,
    sent_at,
)
from syncd.mail.listing import Listed, Totals, Wanted
from syncd.mail.mailbox import Mailbox, Unread
from syncd.mail.message import Origin, Uid

MAX_TOLD: Final = 20  # damaged places that a run tells of; `syncd archive check` shows all


class PacksView:
    """The archive at `path`."""

    def __init__(self, path: Path) -> None:
        """Raises ArchiveMissing, FormatDamaged, StorageError."""
        self.path = path
        self.packs = OpenedPacks.open(path)
        self._is_open = True

    @property
    def uuid(self) -> UUID:
        """The archive's UUID."""
        return self.packs.home.uuid

    @property
    def unread(self) -> tuple[Unread, ...]:
        """Returns the damage that keeps messages out of the index, and mailboxes with them; MAX_TOLD at most."""
        return tuple(Unread(b"", it.line, anywhere=True) for it in islice(self.left_out(), MAX_TOLD))

    def mailboxes(self) -> Iterator[list[Mailbox]]:
        """Every mailbox of every account that the packs name, also without messages."""
        with explained(self.packs.home.index):
            yield from listing.mailboxes(self.packs.index)

    def open(self, name: bytes) -> PacksMailbox | None:
        """Open a mailbox by its account's UUID and its name there."""
        with explained(self.packs.home.index):
            known = listing.is_known(self.packs.index, name)
        return PacksMailbox(self.packs, name) if known else None

    def origins(self) -> list[Origin]:
        """Returns every mailbox that the packs name, in each of its epochs."""
        with explained(self.packs.home.index):
            return list(self.packs.index.origins())

    def entries(self, which: Places | None = None) -> Iterator[Entry]:
        """Every message in the order of the packs: each frame is read once."""
        for message in self.packs.messages():
            if which is None or any(_is_among(place, which) for place in message.places):
                yield self._entry(message)

    def find(self, what: str) -> list[Entry]:
        """Returns messages by the start of their SHA-256, or by their uid at a server."""
        return [self._entry(message) for message in self.packs.find(what)]

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """The octets as they were received."""
        digest, wanted = sha256(), bytes.fromhex(entry.id)
        with explained(self.packs.home.index):
            at = query.locate(self.packs.index, wanted)
        if at is None:
            raise FormatDamaged(f"{self.path} does not hold the message {entry.id}")
        for chunk in self.packs.chunks(at):
            digest.update(chunk)
            yield chunk
        if digest.digest() != wanted:
            raise self.packs.differs(at, wanted)

    def stored(self, spool: Path, lost: Lost, which: Places | None = None) -> Iterator[Stored]:
        """Every message once for each of its places."""
        for message in self.packs.messages():
            for place in message.places:
                if which is not None and not _is_among(place, which):
                    continue
                try:
                    read = self.packs.read(message.sha256, spool, place.ref)
                except FormatDamaged as error:
                    lost(str(error))
                    continue
                assert read is not None, "the index has just said that it is here"
                date = place.internal_date or sent_at(read.body) or message.stored_at
                yield Stored(place.ref, place.flags, date, read.body, place.labels)

    def figures(self) -> Figures:
        """Returns the archive in figures."""
        stats = self.packs.stats()
        return Figures(
            FORMAT, stats.messages, stats.octets, stats.pack_octets, stats.packs, stats.places, stats.accounts
        )

    def check(self, progress: Progress) -> Iterator[Finding]:
        """Compare every frame and message with its checksums, and the index with the packs."""
        for problem in check.check(self.packs, progress):
            yield Finding(str(problem.file), problem.offset, problem.what, problem.harmless)

    def missing(self, delivered: Iterable[Delivered]) -> Iterator[Finding]:
        """Ask the index, which `check` has compared with the packs."""
        for message in delivered:
            with explained(self.packs.home.index):
                is_here = query.locate(self.packs.index, message.sha256) is not None
            if not is_here:
                what = f"message {message.sha256.hex()} is not here, and the ledger says it was delivered here"
                yield Finding(str(self.path), None, what)

    def left_out(self) -> Iterator[LeftOut]:
        """Damage that was there when the index was made, so that nothing else tells of the messages."""
        for damage in self.packs.left_out():
            path = self.packs.home.pack_path(damage.pack)
            yield LeftOut(f"{path} at offset {damage.offset}: {damage.reason}", damage.messages)

    @property
    def search_index(self) -> Path:
        """The path of its search index, beside the index of the packs."""
        return self.path / "search.sqlite"

    def changes(self, known: Known) -> Iterator[Fresh | Further | Gone | Mark]:
        """Further places of messages that are known, then every message behind the last one of `known`."""
        with explained(self.packs.home.index):
            yield from changes.changes(self.packs, known)

    def unindexed(self, known: Known) -> int | None:
        """Returns how many messages were stored behind the last one of `known`."""
        with explained(self.packs.home.index):
            return changes.unindexed(self.packs, known)

    @staticmethod
    def id_of(key: bytes) -> str:
        """Returns the SHA-256 in hexadecimal."""
        return key.hex()

    def by_key(self, key: bytes) -> Read | None:
        """Returns a message by its SHA-256."""
        with explained(self.packs.home.index):
            message = query.by_digest(self.packs.index, key)
        if message is None:
            return None
        found = self._entry(message)
        refs = tuple(place.ref for place in message.places)
        return Read(found, lambda: self.chunks(found), tuple(listing.kept(ref, key) for ref in refs), refs)

    def verify(self) -> None:
        """See that archive and pack are still at their path. Raises ArchiveMissing."""
        self.packs.home.verify()

    def close(self) -> None:
        """Let go of files. Repeatable."""
        if self._is_open:
            self._is_open = False
            self.packs.close()

    def _entry(self, message: MessageRecord) -> Entry:
        dates = [place.internal_date for place in message.places if place.internal_date is not None]
        return entry(
            message.sha256.hex(),
            message.octets,
            self.packs.chunks(message.location),
            dates[0] if dates else message.stored_at,
            places=map(_seen, message.places),
        )


class PacksMailbox:
    """One mailbox of one account (`formats.view.MailboxView`). Memory: the lines of one page."""

    def __init__(self, packs: OpenedPacks, name: bytes) -> None:
        self._packs = packs
        with explained(packs.home.index):
            self._lines = listing.Lines(packs.index, name)
        self._page: tuple[int, dict[Uid, listing.Placed]] = (-1, {})
        self._totals: Totals | None = None

    def rows(self) -> Iterator[list[Listed]]:
        """Every place in this mailbox, in the order of the packs."""
        self._page, messages, octets = (-1, {}), 0, 0
        with explained(self._packs.home.index):
            noted = self._lines.note()
            for rows in self._lines.pages():
                messages, octets = messages + len(rows), octets + sum([row.octets for row in rows])
                yield rows
        self._totals = Totals(messages, octets)
        if messages < noted:
            index = self._packs.home.index
            raise FormatDamaged(f"{index} counts {noted:,} messages and lists {messages:,}: delete it, it is rebuilt")

    def totals(self) -> Totals:
        """Returns how many places there are, and the octets of the messages there."""
        with explained(self._packs.home.index):
            return self._totals or self._lines.totals()

    def find(self, wanted: Wanted) -> Found | None:
        """Returns the message of a line of the last listing."""
        page = (wanted.number - 1) // listing.PAGE
        if self._page[0] != page:
            with explained(self._packs.home.index):
                self._page = (page, self._lines.page(page))
        placed = self._page[1].get(wanted.uid)
        if placed is None:
            return None
        digest, location, flags, date, labels = placed
        return Found(self._packs.chunks(location), digest, flags, date, labels)

    @property
    def looks(self) -> int:
        """Returns 0: nothing moves."""
        return 0


def _seen(place: PlaceRecord) -> Seen:
    origin, uid, _ = place.ref
    return Seen(
        origin.account_name,
        origin.path,
        uid,
        place.flags,
        place.internal_date,
        place.labels,
        place.removed_at,
    )


def _is_among(place: PlaceRecord, which: Places) -> bool:
    return (place.ref.origin.account, place.ref.origin.mailbox) in which
