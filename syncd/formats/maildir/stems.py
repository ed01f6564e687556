"""A set of stems in 8 octets each: the messages of a Maildir folder of any size."""

from __future__ import annotations

from array import array
from bisect import bisect_left

PACK_AT = 32_768  # stems in a set of Python integers (about 3 MiB) before they are packed


class StemSet:
    """Remembers 64 bits of each stem (16 hexadecimal digits).

    "Not there" is always true; "there" is wrong once in 2⁶⁴ / size, so whoever hears it looks at the disk.
    Memory: 8 octets a stem and at most 3 MiB; a question costs one bisection for each 32,768 stems.
    """

    __slots__ = ("_pack_at", "_packed", "_recent")

    def __init__(self, pack_at: int = PACK_AT) -> None:
        self._pack_at = pack_at
        self._recent: set[int] = set()
        self._packed: list[array[int]] = []

    def add(self, stem: str) -> bool:
        """Add a stem; tell whether it was new."""
        key = int(stem[:16], 16)
        if key in self._recent or any(_holds(keys, key) for keys in self._packed):
            return False
        self._recent.add(key)
        if len(self._recent) >= self._pack_at:
            self._packed.append(array("Q", sorted(self._recent)))
            self._recent = set()
        return True


def _holds(keys: array[int], key: int) -> bool:
    at = bisect_left(keys, key)
    return at < len(keys) and keys[at] == key
