"""The report of a verification: who was compared with whom, counts, entries; one canonical text, and its digest.

The canonical text is JSON in ASCII without spaces, keys in order; the digest is the SHA-256 of its octets. A report in
JSON is `{"report": …, "sha256": "…"}`, so that anybody can check it: `jq -acSj .report FILE | sha256sum`. Reports in
other formats show the same digest.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

from syncd.errors import printable
from syncd.mail.mailbox import Path
from syncd.services.verify.values import DIFFERENCES, DestinationProof, Entry, MailboxProof, Other, Status, Tally

if TYPE_CHECKING:
    from syncd.services.verify.scratch import Scratch

VERSION: Final = 1  # grows where a field changes its meaning or goes


@dataclass(frozen=True, slots=True)
class Report:
    """The result. `entries` are read from the notes of the verification, which must be open."""

    job: str
    at: datetime  # when it began
    read: bool  # every octet was hashed
    source: str
    source_kind: str  # "pop3", "imap", "packs", "maildir"
    destinations: tuple[DestinationProof, ...]
    mailboxes: tuple[MailboxProof, ...]
    others: tuple[Other, ...]
    scratch: Scratch

    def entries(self) -> Iterator[Entry]:
        """Yields every message that is not equal or not there, and why; by mailbox, destination and uid."""
        paths = [mailbox.path for mailbox in self.mailboxes]
        return self.scratch.entries(paths, [one.name for one in self.destinations])

    def totals(self, destination: int) -> Tally:
        """Returns the tallies of all mailboxes for a destination, together."""
        total = Tally(self.destinations[destination].name)
        for mailbox in self.compared:
            tally = mailbox.tallies[destination]
            total.counts += tally.counts
            total.messages += tally.messages
            total.octets += tally.octets
        return total

    @property
    def compared(self) -> list[MailboxProof]:
        """The mailboxes that the job reads."""
        return [mailbox for mailbox in self.mailboxes if mailbox.chosen]

    @property
    def messages(self) -> int:
        """Returns how many messages the source has in the mailboxes that the job reads."""
        return sum(mailbox.messages for mailbox in self.compared)

    @property
    def octets(self) -> int:
        """Returns how many octets these have, as the source lists them."""
        return sum(mailbox.octets for mailbox in self.compared)

    @property
    def differences(self) -> int:
        """Returns how many messages differ or are not there, at all destinations together."""
        return sum(tally.differences for mailbox in self.compared for tally in mailbox.tallies)

    def digest(self) -> str:
        """Returns the SHA-256 of the canonical text, in hexadecimal."""
        digest = sha256()
        for piece in canonical(self):
            digest.update(piece.encode())
        return digest.hexdigest()


def canonical(report: Report, most: int | None = None) -> Iterator[str]:
    """Yields the canonical text, piece by piece; with `most`, of the entries only the first ones."""
    before = {
        "at": report.at.astimezone(UTC).isoformat(timespec="seconds"),
        "destinations": [one._asdict() for one in report.destinations],
        "differences": report.differences,
    }
    behind = {
        "job": report.job,
        "mailboxes": [_mailbox(mailbox) for mailbox in report.mailboxes],
        "messages": report.messages,
        "octets": report.octets,
        "others": [one._asdict() for one in report.others],
        "read": report.read,
        "source": {"kind": report.source_kind, "name": report.source},
        "totals": [_tally(report.totals(number)) for number in range(len(report.destinations))],
        "version": VERSION,
    }
    yield f'{_text(before)[:-1]},"entries":['
    entries = islice(report.entries(), most)
    yield from chain(
        (_text(_entry(entry)) for entry in _first(entries)), (f",{_text(_entry(entry))}" for entry in entries)
    )
    yield f"],{_text(behind)[1:]}"


def _first(entries: Iterator[Entry]) -> Iterator[Entry]:
    first = next(entries, None)
    if first is not None:
        yield first


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _mailbox(mailbox: MailboxProof) -> dict[str, Any]:
    return {
        "path": shown(mailbox.path),
        "use": printable(mailbox.use),
        "chosen": mailbox.chosen,
        "messages": mailbox.messages,
        "octets": mailbox.octets,
        "destinations": [_tally(tally) for tally in mailbox.tallies],
    }


def _tally(tally: Tally) -> dict[str, Any]:
    return {
        "to": tally.to,
        "mailboxes": [printable(name) for name in sorted(tally.places)],
        "messages": tally.messages,
        "octets": tally.octets,
        "differences": tally.differences,
        "statuses": counted(tally.counts),
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return {
        **entry._asdict(),
        "mailbox": shown(entry.mailbox),
        "place": printable(entry.place),
        "status": entry.status.value,
        "reason": printable(entry.reason, 2000),
        "differs": entry.status in DIFFERENCES,
    }


def shown(path: Path) -> list[str]:
    """Returns the levels of a path as text that can be shown."""
    return [printable(level) for level in path]


def counted(counts: Counter[Status]) -> dict[str, int]:
    """Returns the counts that are not zero, by the value of their status."""
    return {status.value: counts[status] for status in Status if counts[status]}
