"""The order of a message's words, kept beside the set of them that an index has: phrases are then found in the index.

A message's words are in an index once each, in no order. Their order is kept as numbers of words, a byte for each, or
two that are packed: a fifth of the text, where the text itself, packed, would take a third to a half.
"""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Final

from syncd.errors import FormatDamaged

END: Final = 0  # of a text
LACKING: Final = 1  # a word that is not in the index: it has at most `words.MAX_WORDS` of a message
FIRST: Final = 2  # the number of the first word
ONE_BYTE: Final = 256
FIRST_MARK: Final = "\x80"  # marks are control characters, which are in no word
AFTER_MARKS: Final = "\xa0"


class _Numbers(dict[str, int]):
    def __missing__(self, word: str) -> int:
        return LACKING


def packed(there: Iterable[str], texts: Iterable[Sequence[str]]) -> bytes:
    """Returns the order of the words of texts; `there` are all that the index has of the message (`words.indexed`)."""
    known = _known(there)
    number = _Numbers(zip(known, count(FIRST))).__getitem__
    order: list[int] = []
    for text in texts:
        order.extend(map(number, text))
        order.append(END)
    return bytes(order) if _fits(known) else zlib.compress(struct.pack(f"<{len(order)}H", *order), 1)


def unpacked(there: Iterable[str], order: bytes) -> list[list[str]]:
    """Returns the texts, as lists of words, of which `packed` gave this order; words that the index lacks are "".

    Raises FormatDamaged where it is no order of these words.
    """
    known = _known(there)
    words = ["", "", *known]
    texts: list[list[str]] = [[]]
    try:
        for number in order if _fits(known) else _numbers(order):
            if number == END:
                texts.append([])
            else:
                texts[-1].append(words[number])
    except (zlib.error, struct.error, IndexError) as error:
        how = "make it again: syncd archive reindex NAME --all"
        raise FormatDamaged(f"the search index is damaged: the order of a message's words ({error}); {how}") from None
    return texts[:-1]


def _numbers(order: bytes) -> Sequence[int]:
    octets = zlib.decompress(order)
    return struct.unpack(f"<{len(octets) // 2}H", octets)


def _known(there: Iterable[str]) -> list[str]:
    """Returns words without a mark, sorted."""
    known = sorted(there)
    del known[bisect_left(known, FIRST_MARK) : bisect_left(known, AFTER_MARKS)]
    return known


def _fits(known: Sequence[str]) -> bool:
    return len(known) + FIRST <= ONE_BYTE
