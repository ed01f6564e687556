"""The listing of one mailbox: UID FETCH of the sizes, streamed.

The server's EXISTS says how many messages there are; a listing with fewer rows is not complete (I61), and the engine
then takes no message for absent. What arrives while the listing comes is listed behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from syncd.errors import RemoteProtocolError
from syncd.imap.client import Client
from syncd.imap.fetch import instant
from syncd.imap.sets import LAST, UidSet
from syncd.imap.stream import RowStream
from syncd.imap.values import FetchItems, FetchRow
from syncd.mail.listing import Facts, LineNumber, Listed, Totals
from syncd.mail.message import Uid

MOST_MESSAGES = 10_000_000  # a server that lists more is not believed
_ITEMS = FetchItems(size=True)  # flags and date come with the body: what is known already needs neither
_FACTS = FetchItems(size=True, flags=True, internal_date=True)


class Listing:
    """The listings of one mailbox that is open. `totals` is as of the last one."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._ahead: RowStream | None = None  # asked for before somebody wants to read it
        self.totals: Totals | None = None  # None: nothing was listed

    def ask_ahead(self) -> None:
        """Ask for everything in one flight with the command that opens the mailbox."""
        self._ahead = self._client.rows(UidSet.everything(), _ITEMS)

    def drop_ahead(self) -> None:
        """Read off what was asked for ahead, if nobody wants to read it. Repeatable."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def rows(self) -> Iterator[list[Listed]]:
        """Every message in chunks of at most 1,000. Raises Refused, RemoteProtocolError, TransportError."""
        for lines, _ in self._chunks(_ITEMS):
            yield lines

    def facts(self) -> Iterator[list[Facts]]:
        """Every message with flags and INTERNALDATE, as `rows`."""
        self.drop_ahead()
        for lines, chunk in self._chunks(_FACTS):
            yield [Facts(*line, row.flags or (), _date(row)) for line, row in zip(lines, chunk, strict=True)]

    def _chunks(self, items: FetchItems) -> Iterator[tuple[list[Listed], list[FetchRow]]]:
        count = octets = highest = 0
        while self._exists() > count:
            before = count
            stream, self._ahead = self._ahead, None
            for chunk in stream or self._client.rows(UidSet([(highest + 1, LAST)]), items):
                lines = self._lines(chunk, count)
                count += len(lines)
                octets += sum([line.octets for line in lines])
                highest = max(highest, *[row.uid for row in chunk])
                yield lines, chunk
            if count == before:
                break  # the server counts messages that it does not show
        self.totals = Totals(max(self._exists(), count), octets)

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
