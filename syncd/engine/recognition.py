"""Messages of a mailbox that a server numbers from the start again: recognised by header and size, not fetched.

Where the ledger knows exactly one text with this header and this size among the account's messages that lost their ids,
the message is that one, and what became of it holds for the new id. Only headers with a Message-ID prove anything. What
is not recognised is fetched, and then recognised by its octets.
"""

from __future__ import annotations

from typing import Final

from syncd.db.ledger import Ledger, ListingSession
from syncd.db.rows import WorkRow
from syncd.db.states import MessageState
from syncd.mail.body import header_hash
from syncd.mail.listing import LineNumber, Wanted
from syncd.mail.message import Key
from syncd.sources.base import OpenMailbox

PAGE_ROWS: Final = 1000
_PROOF: Final = b"\nmessage-id:"


def recognise(opened: OpenMailbox, listing: ListingSession, ledger: Ledger) -> int:
    """Recognise what a recorded listing leaves to be fetched; returns how many messages are known.

    If a page of headers has none that is known, no more are asked for. Raises NoHeaders.
    """
    count, after = 0, LineNumber(0)
    while page := listing.work(after, PAGE_ROWS):
        fresh = {row.key: row for row in page if row.state is MessageState.LISTED}
        known = _known(opened, listing, ledger, fresh) if fresh else 0
        if fresh and not known:
            break
        count, after = count + known, page[-1].number
    return count


def _known(opened: OpenMailbox, listing: ListingSession, ledger: Ledger, fresh: dict[Key, WorkRow]) -> int:
    wanted = [Wanted(row.key, row.number, row.uid, row.octets) for row in fresh.values()]
    heads = [
        (key, fresh[key].octets, header_hash(start))
        for key, start in opened.headers(wanted)
        if start is not None and _PROOF in b"\n" + start.lower()
    ]
    return len(ledger.recognise(listing.scope, heads))
