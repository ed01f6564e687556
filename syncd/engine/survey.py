"""Take in what a server lists, and judge it before it is recorded: for fetching and for removal alike."""

from __future__ import annotations

from syncd.db.ledger import ListingSession
from syncd.db.rows import DoubtfulLine
from syncd.engine.anomaly import Anomaly, anomaly
from syncd.sources.base import SourceSession, Totals, Wanted

PAGE_LINES = 1000


def survey(
    session: SourceSession, listing: ListingSession, lifted: str | None, *, with_headers: bool = True
) -> tuple[Totals, Anomaly | None]:
    """List, have the server show the headers of what is in doubt, and say what looks wrong with the whole.

    Of a server that shows its mail page by page, a listing is never the whole. `lifted`: see `anomaly`. Not
    `with_headers`: as of a server that has no headers alone to give, whose doubtful mail is fetched.
    """
    for chunk in session.list():
        listing.add(chunk)
    totals = session.totals()
    while with_headers and _recognise(session, listing):
        pass  # one was another message: the others under known ids are in doubt too
    return totals, None if session.info.pages else anomaly(listing.overlap(), lifted)


def _recognise(session: SourceSession, listing: ListingSession) -> bool:
    """Compare the headers of all lines in doubt; whether any is of another message than known under its id.

    A server that does not give headers alone is asked for one page of them.
    """
    others, after = False, 0
    while page := listing.doubtful(after, PAGE_LINES):
        same, other = _compared(session, page)
        if not same and not other:
            break
        listing.settle(same, other)
        others, after = others or bool(other), page[-1].number
    return others


def _compared(session: SourceSession, page: list[DoubtfulLine]) -> tuple[list[int], list[int]]:
    """Numbers of lines with the header known and with another; those that the server gives no header for are left."""
    known = {line.number: bytes(line.header_hash) for line in page}
    same: list[int] = []
    other: list[int] = []
    for number, seen in session.header_hashes(Wanted(line.number, *line[:3]) for line in page):
        if seen is not None:
            (same if seen == known[number] else other).append(number)
    return same, other
