"""Blanks secrets in a server's words, before an error or log shows them (B33, CWE-532). Pure.

A server that is out of step takes a line of a SASL exchange for a command. It answers "unknown command" and repeats the
line, perhaps in capitals, perhaps cut. So secrets are blanked in every quotation: as they are and in base64, alone or
inside a longer text.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from itertools import takewhile

from syncd.errors import printable

BLANK = "…".encode()
_TELLING = 8  # octets: a beginning of this length is taken for the secret itself, and occurs by accident hardly ever


class Redaction:
    """The secrets of one session. Without any, nothing is blanked."""

    __slots__ = ("_forms",)

    def __init__(self, *secrets: bytes) -> None:
        self._forms: list[bytes] = []  # in small letters, the longest first: others may be parts of it
        self.learn(*secrets)

    def learn(self, *secrets: bytes) -> None:
        """Blank `secrets` from now on, in every form."""
        for secret in secrets:
            self.add(secret, *_in_base64(secret))

    def add(self, *forms: bytes) -> None:
        """Blank exactly `forms` from now on. A single octet is not a secret."""
        known = {*self._forms, *(form.lower() for form in forms if len(form) > 1)}
        self._forms = sorted(known, key=lambda form: (-len(form), form))

    def blank(self, octets: bytes) -> bytes:
        """Returns a whole text of the server without the secrets."""
        lowered = octets.lower()
        if any(form[:_TELLING] in lowered for form in self._forms):  # hardly ever
            for form in self._forms:
                octets = _without(octets, form)
        return octets

    def quote(self, octets: bytes) -> str:
        """Returns a printable text without the secrets. `octets` may be cut anywhere, even inside a secret."""
        octets = self.blank(octets)
        lowered = octets.lower()
        cut = max((_beginning(lowered, form) for form in self._forms), default=0)
        return printable(octets[: len(octets) - cut] + BLANK if cut else octets)


def _in_base64(secret: bytes) -> Iterator[bytes]:
    """Yields the base64 of a secret alone, and its inner part behind 0, 1 or 2 octets more than a multiple of 3."""
    yield binascii.b2a_base64(secret, newline=False)
    for before in range(3):
        whole = binascii.b2a_base64(bytes(before) + secret, newline=False)
        inner = whole[-(-before * 8 // 6) : (before + len(secret)) * 8 // 6]
        if len(inner) >= _TELLING:
            yield inner


def _without(octets: bytes, form: bytes) -> bytes:
    """Returns `octets` with each text that begins like `form` cut out, up to where it differs from `form`."""
    lowered, head = octets.lower(), form[:_TELLING]
    parts, start = [], 0
    while (at := lowered.find(head, start)) >= 0:
        parts += [octets[start:at], BLANK]
        start = at + sum(1 for _ in takewhile(_same, zip(lowered[at:], form, strict=False)))
    return b"".join((*parts, octets[start:])) if parts else octets


def _beginning(octets: bytes, form: bytes) -> int:
    """Returns how many first octets of `form` stand at the end of `octets`; 0 for a single one, which says nothing."""
    lengths = range(min(len(octets), len(form) - 1, _TELLING), 1, -1)
    return next((length for length in lengths if octets.endswith(form[:length])), 0)


def _same(pair: tuple[int, int]) -> bool:
    return pair[0] == pair[1]
