"""Take in what a source lists in one mailbox, and judge it before it is recorded: for fetching and removal alike."""

from __future__ import annotations

from typing import NamedTuple

from syncd.db.ledger import ListingSession
from syncd.db.rows import Freeze, SuspectLine
from syncd.engine.anomaly import Anomaly, anomaly
from syncd.mail.body import header_hash
from syncd.mail.listing import LineNumber, Totals, Wanted
from syncd.mail.mailbox import Epoch
from syncd.sources.base import OpenMailbox

PAGE_LINES = 1000


class Survey(NamedTuple):
    """A listing that was taken in. `validity` is the UIDVALIDITY where it is not the epoch that the ledger knows."""

    totals: Totals
    found: Anomaly | None
    validity: Epoch | None


def survey(
    opened: OpenMailbox, listing: ListingSession, *, pages: bool, lifted: Freeze | None, with_headers: bool = True
) -> Survey:
    """List a mailbox, compare the headers of suspect lines, and say what looks wrong with the whole.

    Servers that page their listing (Gmail) never show the whole mailbox, so their listings are not judged. `lifted` is
    passed to `anomaly`. With `with_headers=False` no header is requested, as from a server without TOP: a line whose
    size differs then counts as a new message and is fetched.

    A mailbox that was deleted and made again may have the UIDVALIDITY it had. Its UIDNEXT is then mostly below a uid
    that was seen before: every line becomes suspect.

    Where UIDVALIDITY changed no line is compared: the ids mean nothing in the epoch that the ledger knows.
    """
    for chunk in opened.list():
        listing.add(chunk)
    totals, validity = opened.totals(), opened.mailbox.validity
    changed = None if validity is None else validity != listing.scope.epoch
    if opened.mailbox.uid_next is not None and not changed:
        listing.distrust_above(opened.mailbox.uid_next)
    while with_headers and not changed and _recognise(opened, listing):
        pass  # one was another message: the messages under other known ids are suspect too
    found = None if pages else anomaly(listing.overlap(), validity_changed=changed, lifted=lifted)
    return Survey(totals, found, validity if changed else None)


def _recognise(opened: OpenMailbox, listing: ListingSession) -> bool:
    """Compare the headers of all suspect lines; returns whether any is of another message than known under its id.

    A server that does not give headers alone is asked for one page of them.
    """
    others, after = False, LineNumber(0)
    while page := listing.suspects(after, PAGE_LINES):
        same, other = _compared(opened, page)
        if not same and not other:
            break
        listing.judge(same, other)
        others, after = others or bool(other), page[-1].number
    return others


def _compared(opened: OpenMailbox, page: list[SuspectLine]) -> tuple[list[LineNumber], list[LineNumber]]:
    """Returns the lines with the header known and with another. Without a header from the server: neither."""
    lines = {line.key: line for line in page}
    same: list[LineNumber] = []
    other: list[LineNumber] = []
    for key, start in opened.headers(Wanted(line.key, line.number, line.uid, line.octets) for line in page):
        if start is not None:
            line = lines[key]
            (same if header_hash(start) == bytes(line.header_hash) else other).append(line.number)
    return same, other
