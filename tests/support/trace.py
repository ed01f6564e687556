"""What arrived somewhere, taken apart: the fields that were put before a message, and the message itself.

Shares no code with what writes them. Receivers put theirs above ours, so the original begins behind our last one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from hashlib import sha256

OUR_LAST = re.compile(rb"^X-Syncd-Id: ([!-~]+)\r?\n", re.MULTILINE)
_FIELD = re.compile(rb"([!-9;-~]+):[^\n]*\n(?:[ \t][^\n]*\n)*")
TRACE_FIELDS = {b"return-path", b"x-original-to", b"delivered-to", b"received", b"x-syncd-id"}
Digests = Counter[bytes]


def split(arrived: bytes) -> tuple[list[bytes], bytes]:
    """The names of the fields on top, in lower case, and every octet after them. Fails where ours are missing."""
    ours = OUR_LAST.search(arrived)
    assert ours is not None, f"our trace fields are missing: {arrived[:500]!r}"
    fields = list(_FIELD.finditer(arrived, 0, ours.end()))
    assert b"".join(field[0] for field in fields) == arrived[: ours.end()], arrived[: ours.end()]
    return [field[1].lower() for field in fields], arrived[ours.end() :]


def identity(arrived: bytes) -> bytes:
    """The id that stays the same over every retry."""
    ours = OUR_LAST.search(arrived)
    assert ours is not None, f"our trace fields are missing: {arrived[:500]!r}"
    return ours[1]


def originals(arrived: Iterable[bytes]) -> Digests:
    """SHA-256 of each message as it was before anybody put something before it; fails where more was put than trace."""
    found: Digests = Counter()
    for octets in arrived:
        names, original = split(octets)
        assert set(names) <= TRACE_FIELDS, names
        assert names.count(b"x-syncd-id") == 1
        found[sha256(original).digest()] += 1
    return found
