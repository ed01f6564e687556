"""What may be shown of a server's words once it was told a secret (B33, CWE-532). Pure.

Servers that are out of step take a line of an exchange for a command and say "unknown command", and the line after it:
in capitals, or as much of it as a reply has room for. So whatever is quoted goes without the secrets: as they are, and
in base64, alone or inside of something longer.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from itertools import takewhile

from syncd.errors import printable

BLANK = "…".encode()
_TELLING = 8  # octets of its beginning that stand for a secret, or for the base64 of a part of one, and nothing else


class Redaction:
    """Of one session. Knows nothing at first, and changes nothing then."""

    __slots__ = ("_forms",)

    def __init__(self, *secrets: bytes) -> None:
        self._forms: list[bytes] = []  # in small letters, the longest first: others may be parts of it
        self.learn(*secrets)

    def learn(self, *secrets: bytes) -> None:
        """Show these in no form."""
        for secret in secrets:
            self.add(secret, *_in_base64(secret))

    def add(self, *forms: bytes) -> None:
        """Show none of these. A single octet is no secret."""
        known = {*self._forms, *(form.lower() for form in forms if len(form) > 1)}
        self._forms = sorted(known, key=lambda form: (-len(form), form))

    def blank(self, octets: bytes) -> bytes:
        """All of something that a server said, without what it repeats."""
        lowered = octets.lower()
        if any(form[:_TELLING] in lowered for form in self._forms):  # hardly ever
            for form in self._forms:
                octets = _without(octets, form)
        return octets

    def quote(self, octets: bytes) -> str:
        """Something that may be cut anywhere, so that it can be shown: it may end in the middle of a secret."""
        octets = self.blank(octets)
        lowered = octets.lower()
        cut = max((_beginning(lowered, form) for form in self._forms), default=0)
        return printable(octets[: len(octets) - cut] + BLANK if cut else octets)


def _in_base64(secret: bytes) -> Iterator[bytes]:
    """Alone, and its inside where 0, 1 or 2 octets more than a multiple of 3 stand before it."""
    yield binascii.b2a_base64(secret, newline=False)
    for before in range(3):
        whole = binascii.b2a_base64(bytes(before) + secret, newline=False)
        inner = whole[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
        if len(inner) >= _TELLING:
            yield inner


def _without(octets: bytes, form: bytes) -> bytes:
    """Whatever begins like `form` is cut as far as it is the same."""
    lowered, head = octets.lower(), form[:_TELLING]
    parts, start = [], 0
    while (at := lowered.find(head, start)) >= 0:
        parts += [octets[start:at], BLANK]
        start = at + sum(1 for _ in takewhile(_same, zip(lowered[at:], form, strict=False)))
    return b"".join((*parts, octets[start:])) if parts else octets


def _beginning(octets: bytes, form: bytes) -> int:
    """With how many octets of its beginning `form` ends the octets. One says nothing."""
    lengths = range(min(len(octets), len(form) - 1, _TELLING), 1, -1)
    return next((length for length in lengths if octets.endswith(form[:length])), 0)


def _same(pair: tuple[int, int]) -> bool:
    return pair[0] == pair[1]
