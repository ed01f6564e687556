"""Sets of UIDs and of sequence numbers, as commands and replies carry them (RFC 3501 §9, RFC 9051 §9). Pure.

Two types, because a number of one kind is never valid in place of the other. A set is a tuple of ranges, ascending and
disjoint (I25: some servers refuse anything else), so a million neighbouring messages cost a few octets. "*" is never
written: servers disagree about what it means (I111).
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final, Self

LAST: Final = (1 << 32) - 1  # RFC 3501 §2.3.1.1, §9: nz-number
MAX_SET_OCTETS: Final = 900  # I24: with the command around it a line stays under 1,000 octets (RFC 2683 §3.2.1.5)

_SET: Final = re.compile(rb"\d{1,10}(?::\d{1,10})?(?:,\d{1,10}(?::\d{1,10})?)*")

Range = tuple[int, int]  # first and last, both in it


class _NumberSet:
    """Ascending, disjoint ranges of numbers from 1 to LAST."""

    __slots__ = ("_firsts", "_len", "ranges")

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        """Ranges in any order; those that meet are joined. Raises ValueError for a number out of bounds."""
        self.ranges = _joined(ranges)
        self._firsts = [first for first, _ in self.ranges]
        self._len = sum(last - first + 1 for first, last in self.ranges)

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Self:
        """Returns the set of `numbers`, in any order."""
        return cls(_runs(sorted(numbers)))

    @classmethod
    def everything(cls) -> Self:
        """Returns the set of all numbers that there can be."""
        return cls([(1, LAST)])

    @classmethod
    def parse(cls, octets: bytes) -> Self:
        """Parse a set that a server sends. Raises ValueError.

        sequence-set = (seq-number / seq-range) *("," sequence-set)    ; RFC 3501 §9, without "*"
        """
        if not _SET.fullmatch(octets):
            raise ValueError("no set of numbers")
        ends = ([int(end) for end in part.split(b":")] for part in octets.split(b","))
        return cls((min(numbers), max(numbers)) for numbers in ends)

    def __len__(self) -> int:
        return self._len

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and number <= self.ranges[at][1]

    def __iter__(self) -> Iterator[int]:
        for first, last in self.ranges:
            yield from range(first, last + 1)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, _NumberSet) and other.ranges == self.ranges

    def __hash__(self) -> int:
        return hash(self.ranges)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.encode().decode()})"

    def __or__(self, other: Self) -> Self:
        return type(self)((*self.ranges, *other.ranges))

    def __and__(self, other: Self) -> Self:
        return type(self)(_common(self.ranges, other.ranges))

    def __sub__(self, other: Self) -> Self:
        return type(self)(_common(self.ranges, _gaps(other.ranges)))

    def encode(self) -> bytes:
        """Returns the set as a command carries it. An empty set cannot be carried: it gives no octets."""
        return b",".join(map(_written, self.ranges))

    def pieces(self, max_octets: int = MAX_SET_OCTETS) -> Iterator[Self]:
        """Yields the set in parts whose `encode` has at most `max_octets`, in order."""
        part: list[Range] = []
        octets = 0
        for one in self.ranges:
            more = len(_written(one)) + 1
            if part and octets + more > max_octets + 1:
                yield type(self)(part)
                part, octets = [], 0
            part.append(one)
            octets += more
        if part:
            yield type(self)(part)


class UidSet(_NumberSet):
    """A set of UIDs (RFC 3501 §2.3.1.1)."""

    __slots__ = ()


class SeqSet(_NumberSet):
    """A set of sequence numbers (RFC 3501 §2.3.1.2)."""

    __slots__ = ()


class Seen:
    """Numbers that have come, mostly in ascending order: 8 octets for each run of neighbours."""

    __slots__ = ("_firsts", "_lasts", "_others")

    def __init__(self) -> None:
        self._firsts = array("I")
        self._lasts = array("I")
        self._others: set[int] = set()  # those that came after a greater one

    def add(self, number: int) -> bool:
        """Note a number from 1 to LAST. Returns whether it is new."""
        lasts = self._lasts
        if not lasts or number > lasts[-1] + 1:
            self._firsts.append(number)
            lasts.append(number)
        elif number == lasts[-1] + 1:
            lasts[-1] = number
        elif number in self:
            return False
        else:
            self._others.add(number)
        return True

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number) - 1
        return (at >= 0 and number <= self._lasts[at]) or number in self._others

    def uids(self) -> UidSet:
        """Returns the numbers as UIDs."""
        runs = zip(self._firsts, self._lasts, strict=True)
        return UidSet((*runs, *((number, number) for number in self._others)))


def _written(one: Range) -> bytes:
    first, last = one
    return b"%d" % first if first == last else b"%d:%d" % one


def _runs(numbers: list[int]) -> Iterator[Range]:
    """Yields the runs of neighbours in ascending numbers, which may repeat."""
    if not numbers:
        return
    first = numbers[0]
    for number, following in pairwise(numbers):
        if following > number + 1:
            yield first, number
            first = following
    yield first, numbers[-1]


def _joined(ranges: Iterable[Range]) -> tuple[Range, ...]:
    joined: list[Range] = []
    for first, last in sorted(ranges):
        if not 1 <= first <= last <= LAST:
            raise ValueError(f"{first}:{last} is no range of numbers from 1 to {LAST}")
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(joined[-1][1], last)
        else:
            joined.append((first, last))
    return tuple(joined)


def _common(ours: tuple[Range, ...], theirs: tuple[Range, ...]) -> Iterator[Range]:
    """Yields the ranges that are in both."""
    i = j = 0
    while i < len(ours) and j < len(theirs):
        first, last = max(ours[i][0], theirs[j][0]), min(ours[i][1], theirs[j][1])
        if first <= last:
            yield first, last
        if ours[i][1] <= theirs[j][1]:
            i += 1
        else:
            j += 1


def _gaps(ranges: tuple[Range, ...]) -> tuple[Range, ...]:
    """Returns the ranges of all numbers that are not in `ranges`."""
    ends = [(0, 0), *ranges, (LAST + 1, LAST + 1)]
    return tuple((before[1] + 1, after[0] - 1) for before, after in pairwise(ends) if before[1] + 1 < after[0])
