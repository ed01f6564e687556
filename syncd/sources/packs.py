"""An archive of packs as a source: each place of each message is a message of its own (see formats/pack_listing.py).

Octets that were seen at two accounts are two messages here, as they were there. What a writer has appended and not
yet put into the index is left for the next listing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from syncd.errors import FormatDamaged
from syncd.formats.packs import listing as pack_listing
from syncd.formats.packs.index import explained
from syncd.formats.packs.listing import FIRST, PAGE, Key, Placed
from syncd.formats.packs.view import PackView
from syncd.sources.archive import ArchiveSource, Found
from syncd.sources.base import Listed, Totals, Wanted


class PacksSource(ArchiveSource):
    """The archive at `path`."""

    def __init__(self, path: Path, spool: Path) -> None:
        super().__init__(path, spool, PackHoldings)


class PackHoldings:
    """What the packs hold, as their index says (`sources.archive.Holdings`).

    Memory: of a listing, one key for each PAGE lines; of the messages that are read, the lines of one page.
    """

    def __init__(self, path: Path) -> None:
        """Raises ArchiveMissing, FormatDamaged, StorageError."""
        self.path = path
        self._view = PackView.open(path)
        self._open = True
        self._ends: list[Key] = [FIRST]  # page n of the last listing is behind the key n, up to the key n + 1
        self._page: tuple[int, dict[bytes, Placed]] = (-1, {})
        self._totals: Totals | None = None

    def rows(self) -> Iterator[list[Listed]]:
        """Every place, in the order of the packs."""
        self._ends, self._page = [FIRST], (-1, {})
        messages = octets = 0
        with explained(self._view.home.index):
            before = pack_listing.totals(self._view.index)
            for page in pack_listing.lines(self._view.index):
                self._ends.append(page[-1].key)
                rows = [Listed(number, line.uid, line.octets) for number, line in enumerate(page, messages + 1)]
                messages, octets = messages + len(page), octets + sum([line.octets for line in page])
                yield rows
        self._totals = Totals(messages, octets)
        if messages < before[0]:
            index = self._view.home.index
            raise FormatDamaged(
                f"{index} counts {before[0]:,} messages and lists {messages:,}: delete it, it is rebuilt"
            )

    def totals(self) -> Totals:
        """Places, and the octets of the messages there."""
        with explained(self._view.home.index):
            return self._totals or Totals(*pack_listing.totals(self._view.index))

    def find(self, one: Wanted) -> Found | None:
        """The message of a line of the last listing."""
        placed = self._placed(one)
        if placed is None:
            return None
        return Found(self._view.chunks(placed.location), placed.sha256, placed.flags, placed.internal_date)

    def header_hash(self, one: Wanted) -> bytes | None:
        """As the index has it."""
        placed = self._placed(one)
        return placed.header_hash if placed else None

    def verify(self) -> None:
        """See that archive and pack are still at their path. Raises ArchiveMissing."""
        self._view.home.verify()

    def close(self) -> None:
        """Let go of files. Repeatable."""
        if self._open:
            self._open = False
            self._view.close()

    def _placed(self, one: Wanted) -> Placed | None:
        page = (one.number - 1) // PAGE
        if self._page[0] != page and page + 1 < len(self._ends):
            with explained(self._view.home.index):
                placed = pack_listing.between(self._view.index, self._ends[page], self._ends[page + 1])
            self._page = (page, placed)
        return self._page[1].get(one.uid)
