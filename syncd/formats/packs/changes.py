"""What a search index lacks of an archive of packs.

Packs only grow, so it lacks what is behind the last message that it has, and further places of the messages before.
The mark is JSON: the SHA-256 of that message, and how many places each mailbox had up to there. Where a mailbox has
another number now, all of its places are told again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from syncd.formats.packs import query
from syncd.formats.view import Fresh, Further, Known, Mark

if TYPE_CHECKING:
    from syncd.formats.packs.opened import OpenedPacks

MARK_EVERY: Final = 100  # messages: no more are read again after a stop
_NUMBER: Final = "SELECT id FROM messages WHERE sha256 = ?"
_COUNTS: Final = "SELECT origin, count(*) FROM places WHERE message <= ? GROUP BY origin"
_BEHIND: Final = "SELECT count(*) FROM messages WHERE id > ?"
_PLACES: Final = """SELECT p.message, m.sha256 FROM places p INDEXED BY places_by_uid JOIN messages m
    ON m.id = p.message WHERE p.origin = ? AND p.message <= ?"""


def unindexed(packs: OpenedPacks, known: Known) -> int:
    """Returns how many messages are behind the last one that is known."""
    last, _ = _known(packs, known)
    (number,) = packs.index.connection.execute(_BEHIND, (last,)).fetchone()
    return int(number)


def changes(packs: OpenedPacks, known: Known) -> Iterator[Fresh | Further | Mark]:
    """Yields what is to be taken over, with a mark after every MARK_EVERY messages."""
    last, had = _known(packs, known)
    counts = Counter(dict(packs.index.connection.execute(_COUNTS, (last,)).fetchall()))
    if last and counts != had:
        yield from _further(packs, last, [number for number in counts if counts[number] != had[number]])
    numbers = packs.index.origins()
    taken = 0
    for message in query.stored(packs.index, last):
        origins = tuple(dict.fromkeys(place.ref.origin for place in message.places))
        dates = [place.internal_date for place in message.places if place.internal_date is not None]
        at = dates[0] if dates else message.stored_at
        yield Fresh(message.sha256, message.octets, at, packs.chunks(message.location), origins)
        counts.update(numbers[place.ref.origin] for place in message.places if place.ref.origin in numbers)
        taken += 1
        if taken % MARK_EVERY == 0:
            yield _mark(message.sha256, counts)
    if taken % MARK_EVERY:
        yield _mark(message.sha256, counts)
    elif not taken and counts != had:
        yield _mark(json.loads(known.mark)["last"], counts)


def _further(packs: OpenedPacks, last: int, origins: list[int]) -> Iterator[Further]:
    known = {number: origin for origin, number in packs.index.origins().items()}
    for number in origins:
        for _, sha256 in packs.index.connection.execute(_PLACES, (number, last)):
            yield Further(sha256, (known[number],))


def _known(packs: OpenedPacks, known: Known) -> tuple[int, Counter[int]]:
    """Returns the number of the last message that is known, 0 for none, and the places of each mailbox until there."""
    mark = json.loads(known.mark or "{}")
    row = packs.index.connection.execute(_NUMBER, (bytes.fromhex(mark.get("last", "")),)).fetchone()
    return (
        (row[0], Counter({int(number): count for number, count in mark["places"].items()})) if row else (0, Counter())
    )


def _mark(sha256: str | bytes, counts: Counter[int]) -> Mark:
    last = sha256 if isinstance(sha256, str) else sha256.hex()
    return Mark(json.dumps({"last": last, "places": counts}))
