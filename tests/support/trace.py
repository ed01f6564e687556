"""What arrived somewhere, taken apart: the fields that were put before a message, and the message itself.

Shares no code with what writes them. Receivers put theirs above ours, so the original begins behind our last one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from hashlib import sha256

# what else is put before first lines that a field above them would change
_OPENING = re.compile(rb"X-Syncd-First-Line:(?=[ \t])|\r?\n(?=[ \t]|>*From )")
_MAILBOX_LINES = re.compile(rb"(?:X-Mailbox-Line: >*From [^\n]*\n)+")
OUR_LAST = re.compile(rb"^X-Syncd-Id: ([!-~]+)\r?\n", re.MULTILINE)
_FIELD = re.compile(rb"([!-9;-~]+):[^\n]*\n(?:[ \t][^\n]*\n)*")
TRACE_FIELDS = {b"return-path", b"x-original-to", b"delivered-to", b"received", b"x-syncd-id"}
Digests = Counter[bytes]


def split(arrived: bytes) -> tuple[list[bytes], bytes]:
    """The names of the fields on top, in lower case, and the message after them. Fails where ours are missing.

    A message that begins with an empty line and a space cannot be told from one to which the empty line was added.
    """
    ours = OUR_LAST.search(arrived)
    assert ours is not None, f"our trace fields are missing: {arrived[:500]!r}"
    fields = list(_FIELD.finditer(arrived, 0, ours.end()))
    assert b"".join(field[0] for field in fields) == arrived[: ours.end()], arrived[: ours.end()]
    return [field[1].lower() for field in fields], _without_opening(arrived[ours.end() :])


def _without_opening(message: bytes) -> bytes:
    lines = _MAILBOX_LINES.match(message)
    if lines is not None:
        return lines[0].replace(b"X-Mailbox-Line: ", b"") + message[lines.end() :]
    found = _OPENING.match(message)
    return message[found.end() :] if found is not None else message


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
