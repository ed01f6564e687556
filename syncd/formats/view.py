"""The one interface of readers: what can be read from any archive, whatever its format.

    sources/archive.py     an archive as a source: mailboxes, lines, octets
    services/archive.py    `syncd archive list | show | check | stats | export`
    services/search.py     `syncd archive search | reindex`

A view is for one thread. It takes no lock and changes nothing; a run may write to the archive meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol
from uuid import UUID

from syncd.errors import StorageError
from syncd.mail import headers
from syncd.mail.body import HEADER_CAP_OCTETS, Body
from syncd.mail.flags import Flags
from syncd.mail.listing import Listed, Totals, Wanted
from syncd.mail.mailbox import Mailbox, Unread
from syncd.mail.mailbox import Path as MailboxPath
from syncd.mail.message import MessageRef, Origin, Uid

Lost = Callable[[str], None]  # told why a message cannot be read
Places = frozenset[tuple[UUID, bytes]]  # a choice of mailboxes: account and the mailbox's name there, in all its epochs
Progress = Callable[[int, int], None]  # octets read, and their sum where it is known (else 0)
SHOWN_FIELDS = ("from", "subject", *headers.DATED)


@dataclass(frozen=True, slots=True)
class Found:
    """A message as an archive has it. Reading `chunks` raises StorageError; `sha256` is None where none is known."""

    chunks: Iterator[bytes]
    sha256: bytes | None
    flags: Flags
    internal_date: datetime | None
    labels: tuple[str, ...] = ()


class Stored(NamedTuple):
    """A message at one of its places; `ref.origin` says which mailbox that is. The caller closes the body."""

    ref: MessageRef
    flags: Flags
    date: datetime | None  # INTERNALDATE, else what its header says, else when it was stored
    body: Body
    labels: tuple[str, ...] = ()


class Seen(NamedTuple):
    """A place where a message was seen, for people, and what is known of it there."""

    account: str
    mailbox: MailboxPath
    uid: bytes
    flags: Flags
    date: datetime | None  # INTERNALDATE
    labels: tuple[str, ...] = ()
    removed_at: datetime | None = None


class Entry(NamedTuple):
    """One message for people. `id` finds it again: its SHA-256 in packs, in a Maildir what stays of its file's name."""

    id: str
    accounts: tuple[str, ...]
    mailboxes: tuple[MailboxPath, ...]
    octets: int
    at: datetime | None  # as its header says, else when it came to its mailbox or into the archive
    sender: str
    subject: str
    damage: str = ""  # why it cannot be read; sender and subject are then empty
    places: tuple[Seen, ...] = ()


class Finding(NamedTuple):
    """Something wrong. `harmless`: no message is concerned, and the next run puts it right."""

    file: str
    offset: int | None
    what: str
    harmless: bool = False


class LeftOut(NamedTuple):
    """Messages of which nothing is known but that they, or some of them, cannot be read.

    `why` begins with file and offset; `messages` is None where nobody knows how many messages there were.
    """

    why: str
    messages: int | None

    @property
    def line(self) -> str:
        """Returns why, and how many messages that concerns."""
        cost = "what was there" if self.messages is None else f"{self.messages:,} message(s) that were there"
        return f"{self.why}: {cost} cannot be read"


class Delivered(NamedTuple):
    """A message that the ledger counts as delivered to an archive; `hint` is its receipt's."""

    sha256: bytes
    hint: str


class Fresh(NamedTuple):
    """A message that a search index lacks. `key` names it in this archive for good; reading may raise StorageError."""

    key: bytes
    octets: int
    at: datetime | None  # when it came to its mailbox, or into the archive
    chunks: Iterator[bytes]
    origins: tuple[Origin, ...]


class Further(NamedTuple):
    """A message that a search index has was seen in more mailboxes."""

    key: bytes
    origins: tuple[Origin, ...]


class Gone(NamedTuple):
    """A message that a search index has is no longer in the archive."""

    key: bytes


class Mark(NamedTuple):
    """With all that came before this, a search index is as far as `mark` says."""

    mark: str


class Known(Protocol):
    """The contents of a search index."""

    @property
    def mark(self) -> str:
        """Returns the last `Mark`; "" where there was none."""
        ...

    def lacking(self, keys: Sequence[bytes]) -> set[bytes]:
        """Returns those of some messages that are not in the index."""
        ...

    def keys(self, start: bytes = b"") -> Iterator[bytes]:
        """Every message in the index whose key begins so."""
        ...


class Kept(NamedTuple):
    """The place of a message in an archive, as the ledger calls it.

    `mailbox` and `uid` are those of the archive as a source. `hint` is that of the receipt by which the message was
    delivered here; "" where nothing but its octets or its places tell.
    """

    mailbox: bytes
    uid: Uid
    hint: str = ""


class Read(NamedTuple):
    """A message found by its key; `chunks` begins to read it, as often as needed. Raises StorageError.

    `refs` are its places, where the archive keeps what they were at their accounts.
    """

    entry: Entry
    chunks: Callable[[], Iterator[bytes]]
    kept: tuple[Kept, ...]
    refs: tuple[MessageRef, ...] = ()


@dataclass(frozen=True, slots=True)
class Figures:
    """An archive in figures. `stored_octets` counts its files; the last two are None where the format does not know."""

    format: str
    messages: int
    octets: int
    stored_octets: int
    files: int
    places: int | None = None
    accounts: int | None = None


class MailboxView(Protocol):
    """One mailbox of an archive. It is dead once the view opens another one. Raises StorageError, ArchiveMissing."""

    def rows(self) -> Iterator[list[Listed]]:
        """Lists every message, as `sources.base.OpenMailbox.list`."""
        ...

    def totals(self) -> Totals:
        """Returns how much there is; as of the last listing, if there was one."""
        ...

    def find(self, wanted: Wanted) -> Found | None:
        """Returns the message of a line of the last listing; None where it is not there any more."""
        ...

    @property
    def looks(self) -> int:
        """How often it was looked into; reading a message does so again where a mail program has moved it."""
        ...


class ArchiveView(Protocol):
    """One open archive. Raises ArchiveMissing, FormatDamaged, StorageError."""

    @property
    def path(self) -> Path:
        """Its folder."""
        ...

    @property
    def uuid(self) -> UUID:
        """The archive's UUID."""
        ...

    @property
    def unread(self) -> Sequence[Unread]:
        """Parts that could not be read at the last listing: mailboxes and messages may be there that are not listed."""
        ...

    def mailboxes(self) -> Iterator[list[Mailbox]]:
        """Every mailbox in chunks of at most 1,000, in an order that lasts."""
        ...

    def open(self, name: bytes) -> MailboxView | None:
        """Open one of `mailboxes` by its name; None where it is not there any more."""
        ...

    def origins(self) -> list[Origin]:
        """Returns every mailbox of every account that messages may have come from, the first one first.

        The name of the account is "" where the format does not keep accounts.
        """
        ...

    def entries(self, which: Places | None = None) -> Iterator[Entry]:
        """Every message (with `which`, at these places), streamed; messages that cannot be read are among them."""
        ...

    def find(self, what: str) -> list[Entry]:
        """Returns the messages whose id starts with `what`, or whose uid at their server is `what`."""
        ...

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """The octets of a message. Raises FormatDamaged, at the end, where they are not the octets that were stored."""
        ...

    def stored(self, spool: Path, lost: Lost, which: Places | None = None) -> Iterator[Stored]:
        """Every message at every place (with `which`, at these); large bodies go to files in `spool`.

        A message that cannot be read is left out, and `lost` is told why, once for each place.
        """
        ...

    @property
    def search_index(self) -> Path:
        """The path of its search index."""
        ...

    def changes(self, known: Known) -> Iterator[Fresh | Further | Gone | Mark]:
        """Yields what a search index has to take over, in the order in which it is read fastest."""
        ...

    def unindexed(self, known: Known) -> int | None:
        """Returns how many messages a search index lacks; None where that is not known without looking at each."""
        ...

    @staticmethod
    def id_of(key: bytes) -> str:
        """Returns the id for people (`Entry.id`) of a message by its key."""
        ...

    def by_key(self, key: bytes) -> Read | None:
        """Returns a message by the key that `changes` gave it; None where it is not here."""
        ...

    def left_out(self) -> Iterator[LeftOut]:
        """Yields damage that keeps messages out of `entries`, `stored` and every mailbox, of whatever account."""
        ...

    def figures(self) -> Figures:
        """Returns the archive in figures."""
        ...

    def check(self, progress: Progress) -> Iterator[Finding]:
        """Read every octet again and yield what is wrong."""
        ...

    def missing(self, delivered: Iterable[Delivered]) -> Iterator[Finding]:
        """Yields a finding for each of these messages that the archive cannot give back."""
        ...

    def verify(self) -> None:
        """See that the same archive is still at its path. Raises ArchiveMissing."""
        ...

    def close(self) -> None:
        """Let go of files. Repeatable."""
        ...


def start_of(chunks: Iterable[bytes]) -> bytes:
    """Returns the first HEADER_CAP_OCTETS of a message, or all of it. Raises what `chunks` raises."""
    start = b""
    for chunk in chunks:
        start += chunk
        if len(start) >= HEADER_CAP_OCTETS:
            break
    return start[:HEADER_CAP_OCTETS]


def entry(
    entry_id: str,
    octets: int,
    chunks: Iterator[bytes],
    stored_at: datetime | None,
    *,
    places: Iterable[Seen],
) -> Entry:
    """Make an entry from the start of a message, which may turn out not to be readable."""
    start, damage = b"", ""
    try:
        start = start_of(chunks)
    except StorageError as error:
        damage = str(error)
    found, places = headers.fields(start, SHOWN_FIELDS), tuple(places)
    return Entry(
        id=entry_id,
        accounts=tuple(dict.fromkeys(seen.account for seen in places if seen.account)),
        mailboxes=tuple(dict.fromkeys(seen.mailbox for seen in places)),
        octets=octets,
        at=headers.sent_at(found) or stored_at,
        sender=found.get("from", ""),
        subject=found.get("subject", ""),
        damage=damage,
        places=places,
    )


def sent_at(body: Body) -> datetime | None:
    """Returns the instant of a message's Date field or top Received field, None where neither makes sense."""
    return headers.sent_at(headers.fields(start_of(body.chunks()), headers.DATED))
