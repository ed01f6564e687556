"""An archive as people look at it, whatever its format: listed, shown, checked, exported. Nothing is written to it.

A shelf is for one thread; it takes no lock, so that a run may write to the archive meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol
from uuid import UUID

from syncd.errors import FormatDamaged
from syncd.mail import headers
from syncd.mail.body import HEADER_CAP_OCTETS
from syncd.services.export import Stored

Lost = Callable[[str], None]  # told why a message cannot be read
Progress = Callable[[int, int], None]  # octets read, and their sum where it is known (else 0)
SHOWN_FIELDS = ("date", "from", "subject")


class Entry(NamedTuple):
    """One message. `id` finds it again: its SHA-256 in packs, the lasting part of its file's name in a Maildir."""

    id: str
    accounts: tuple[str, ...]
    mailboxes: tuple[bytes, ...]
    octets: int
    at: datetime | None  # as its Date field says, else when it came to its mailbox or into the archive
    sender: str
    subject: str
    damage: str = ""  # why it cannot be read; then there is no sender and no subject


class Finding(NamedTuple):
    """Something wrong. `harmless`: no mail is concerned, and the next run puts it right."""

    file: str
    offset: int | None
    what: str
    harmless: bool = False


class Held(NamedTuple):
    """A message that the ledger counts as delivered to this archive; `hint` is its receipt's."""

    sha256: bytes
    hint: str


@dataclass(frozen=True, slots=True)
class Figures:
    """An archive in figures. `stored_octets` are those of its files; the last two are None where it does not know."""

    format: str
    messages: int
    octets: int
    stored_octets: int
    files: int
    places: int | None = None
    accounts: int | None = None


class Shelf(Protocol):
    """One open archive."""

    path: Path

    def uuid(self) -> UUID:
        """Which archive it is."""
        ...

    def entries(self, account: str | None = None) -> Iterator[Entry]:
        """Every message (of one account, by name or UUID), in the order in which they are stored; streamed.

        One that cannot be read is among them.
        """
        ...

    def find(self, what: str) -> list[Entry]:
        """Messages whose id starts with `what`, or that a server called so."""
        ...

    def chunks(self, entry: Entry) -> Iterator[bytes]:
        """The octets of a message. Raises FormatDamaged, at the end, where they are not what was stored."""
        ...

    def stored(self, spool: Path, lost: Lost, account: str | None = None) -> Iterator[Stored]:
        """Every message at every place, to be written elsewhere; large bodies go to files in `spool`.

        What cannot be read is left out, and `lost` is told why, once for each place.
        """
        ...

    def figures(self) -> Figures:
        """The archive in figures."""
        ...

    def check(self, progress: Progress) -> Iterator[Finding]:
        """Read every octet again."""
        ...

    def missing(self, held: Iterable[Held]) -> Iterator[Finding]:
        """What the ledger says is here, and is not."""
        ...

    def close(self) -> None:
        """Let go of files. Repeatable."""
        ...


def entry(
    entry_id: str,
    octets: int,
    chunks: Iterator[bytes],
    stored_at: datetime | None,
    *,
    accounts: Iterable[str] = (),
    mailboxes: Iterable[bytes] = (),
) -> Entry:
    """Make an entry from the start of a message, which may turn out not to be readable."""
    start, damage = b"", ""
    try:
        start = next(chunks, b"")[:HEADER_CAP_OCTETS]
    except FormatDamaged as error:
        damage = str(error)
    found = headers.fields(start, SHOWN_FIELDS)
    return Entry(
        id=entry_id,
        accounts=tuple(dict.fromkeys(accounts)),
        mailboxes=tuple(dict.fromkeys(mailboxes)),
        octets=octets,
        at=headers.sent_at(found) or stored_at,
        sender=found.get("from", ""),
        subject=found.get("subject", ""),
        damage=damage,
    )


def sent_at(start: bytes) -> datetime | None:
    """What the Date field of a message says."""
    return headers.sent_at(headers.fields(start, ("date",)))
