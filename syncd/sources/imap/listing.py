r"""The listing of one mailbox: UID FETCH of the sizes, streamed.

The server's EXISTS says how many messages there are; a listing with fewer rows is not complete (I61), and the engine
then takes no message for absent. What arrives while the listing comes is listed behind it.

A job may leave messages out of a mailbox: those that are marked \Deleted, and at Gmail those of All Mail that have a
label whose mailbox is read. They count as not being there; without the mark or the label they are there again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from syncd.errors import MailboxRefused, RemoteProtocolError
from syncd.imap.client import Client
from syncd.imap.fetch import instant
from syncd.imap.sets import LAST, UidSet
from syncd.imap.stream import RowStream
from syncd.imap.values import FetchItems, FetchRow
from syncd.mail import utf7
from syncd.mail.flags import DELETED
from syncd.mail.listing import Facts, LineNumber, Listed, Totals
from syncd.mail.message import Uid
from syncd.sources.imap.mailboxes import label_key

MOST_MESSAGES = 10_000_000  # a server that lists more is not believed


@dataclass(frozen=True, slots=True)
class Hiding:
    """The messages that are left out of a mailbox: with a label of `labels`; with `deleted=True` marked as deleted."""

    labels: frozenset[str] = frozenset()
    deleted: bool = False

    def items(self, *, facts: bool = False) -> FetchItems:
        """Returns what is asked of each message. Flags and date come with the body: only facts need both."""
        labels = bool(self.labels)
        return FetchItems(size=True, flags=facts or self.deleted, internal_date=facts, gmail_labels=labels)

    def shown(self, chunk: list[FetchRow]) -> list[FetchRow]:
        """Returns the messages that are not left out."""
        return [row for row in chunk if not self._hides(row)] if self.deleted or self.labels else chunk

    def _hides(self, row: FetchRow) -> bool:
        if self.deleted and DELETED in (row.flags or ()):
            return True
        return has_label(row, self.labels)


NOTHING_HIDDEN = Hiding()


def has_label(row: FetchRow, labels: frozenset[str]) -> bool:
    """Returns whether a message has one of these labels of Gmail, which are written as by `label_key`."""
    return not labels.isdisjoint(label_key(utf7.text_of(label)) for label in row.labels or ())


class Listing:
    """The listings of one mailbox that is open. `totals` is as of the last one."""

    def __init__(self, client: Client, hiding: Hiding = NOTHING_HIDDEN) -> None:
        self._client = client
        self._hiding = hiding
        self._ahead: RowStream | None = None  # asked for before somebody wants to read it
        self.totals: Totals | None = None  # None: nothing was listed

    def ask_ahead(self) -> None:
        """Ask for everything in one flight with the command that opens the mailbox."""
        self._ahead = self._client.rows(UidSet.everything(), self._hiding.items())

    def drop_ahead(self) -> None:
        """Read off what was asked for ahead, if nobody wants to read it. Repeatable."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def rows(self) -> Iterator[list[Listed]]:
        """Every message in chunks of at most 1,000. Raises Refused, RemoteProtocolError, TransportError."""
        for lines, _ in self._chunks(self._hiding.items()):
            yield lines

    def facts(self) -> Iterator[list[Facts]]:
        """Every message with flags and INTERNALDATE, as `rows`. Raises MailboxRefused where flags are not told."""
        self.drop_ahead()
        for lines, chunk in self._chunks(self._hiding.items(facts=True)):
            if (silent := next((row.uid for row in chunk if row.flags is None), None)) is not None:
                raise MailboxRefused(
                    f"{self._client.address}: the server does not tell the flags of the message {silent}"
                )
            yield [Facts(*line, row.flags, _date(row)) for line, row in zip(lines, chunk, strict=True)]

    def _chunks(self, items: FetchItems) -> Iterator[tuple[list[Listed], list[FetchRow]]]:
        count = octets = highest = hidden = 0
        while self._exists() > count:
            before = count
            stream, self._ahead = self._ahead, None
            for chunk in stream or self._client.rows(UidSet([(highest + 1, LAST)]), items):
                shown = self._hiding.shown(chunk)
                lines = self._lines(shown, count - hidden)
                count += len(chunk)
                hidden += len(chunk) - len(shown)
                octets += sum([line.octets for line in lines])
                highest = max(highest, *[row.uid for row in chunk])
                yield lines, shown
            if count == before:
                break  # the server counts messages that it does not show
        if not count and self._exists():
            raise MailboxRefused(
                f"{self._client.address}: the server counts {self._exists():,} messages and shows none"
            )
        self.totals = Totals(max(self._exists(), count) - hidden, octets)

    def _exists(self) -> int:
        selected = self._client.selected
        return 0 if selected is None or selected.exists is None else selected.exists

    def _lines(self, chunk: list[FetchRow], count: int) -> list[Listed]:
        if count + len(chunk) > MOST_MESSAGES:
            raise RemoteProtocolError(
                f"{self._client.address}: the server lists more than {MOST_MESSAGES:,} messages in one mailbox, which "
                "cannot be; the session was closed, try again later"
            )
        return [
            Listed(LineNumber(number), Uid(b"%d" % row.uid), row.size or 0)
            for number, row in enumerate(chunk, count + 1)
        ]


def _date(row: FetchRow) -> datetime | None:
    return None if row.internal_date is None else instant(row.internal_date)
