"""Text as words, alike for the index and for questions to it.

A word is a run of letters and digits, without case, accents and ligatures ("Straße" is "strasse"). Writing without
spaces (Chinese, Japanese) is taken as pairs of characters. A word of a field carries the field's mark before it; every
word is also there without one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from enum import Enum
from functools import lru_cache
from itertools import chain, compress, count, islice
from operator import not_
from typing import Final

MAX_WORD: Final = 32  # characters; longer ones are no words: keys, digests, addresses of web pages
MAX_WORDS: Final = 20_000  # different ones of a message
MAX_OCTETS: Final = 1_000_000  # of all of them: PostgreSQL's tsvector has at most 1,048,575
ALWAYS_FIT: Final = 7_000  # words of MAX_WORD characters, four octets each, with a mark
_WORD: Final = re.compile(r"[^\W_]+")
_SIGNS: Final = bytes(sign for sign in range(128) if not chr(sign).isalnum())
_AS_SPACES: Final = bytes.maketrans(_SIGNS, b" " * len(_SIGNS))
_UNSPACED: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")
_ACCENTS: Final = re.compile(r"[\u0300-\u036f]+")


class Field(Enum):
    """The fields that can be asked for by name. The value marks their words: control characters are in no word."""

    FROM = "\x81"
    TO = "\x82"
    SUBJECT = "\x83"
    HAS = "\x84"
    SIZE = "\x85"  # the number of binary digits of the message's octets


def words(text: str) -> list[str]:
    """Returns the words of a text, in their order."""
    pieces = _pieces(text)
    if not text.isascii():
        found: list[str] = []
        end = 0
        for at in compress(count(), map(not_, map(str.isascii, pieces))):
            found += pieces[end:at]
            found += _words_of(pieces[at])
            end = at + 1
        pieces = found + pieces[end:]
    return [it for it in pieces if len(it) <= MAX_WORD] if max(map(len, pieces), default=0) > MAX_WORD else pieces


def _pieces(text: str) -> list[str]:
    """Returns what stands between signs that are ASCII: words, and whatever else there is beyond ASCII.

    It takes a fifth of the time in which `_WORD` finds the words.
    """
    lower = text.casefold()
    octets = (lower if lower.isascii() else unicodedata.normalize("NFKC", lower)).encode("utf-8", "surrogatepass")
    return octets.translate(_AS_SPACES).decode("utf-8", "surrogatepass").split()


def _words_of(piece: str) -> tuple[str, ...]:
    """Returns the words of a piece that is not of ASCII alone. Without spaces, a paragraph is one piece."""
    return _of_short(piece) if len(piece) <= MAX_WORD else _split(piece)


def _split(piece: str) -> tuple[str, ...]:
    return tuple(chain.from_iterable(map(_plain, _WORD.findall(piece))))


_of_short = lru_cache(4096)(_split)


def _plain(word: str) -> tuple[str, ...]:
    """Returns a word without accents, or its pairs where it is written without spaces."""
    if _UNSPACED.search(word):
        return tuple(_pairs(word))
    return (_ACCENTS.sub("", unicodedata.normalize("NFKD", word)),)


def _pairs(run: str) -> Iterator[str]:
    """Yields characters in pairs, and what stands between them."""
    at = 0
    for found in _UNSPACED.finditer(run):
        if found.start() > at:
            yield run[at : found.start()]
        text, at = found[0], found.end()
        yield from (text[i : i + 2] for i in range(max(1, len(text) - 1)))
    if at < len(run):
        yield run[at:]


def indexed(
    fields: Iterable[tuple[Field, list[str]]], others: Iterable[list[str]], octets: int, *, attachments: bool
) -> list[str]:
    """Returns all that is in the index of a message whose texts have these words: each word once, in no order."""
    found = {size(octets)}
    if attachments:
        found.add(Field.HAS.value + "attachment")
    for field, text in fields:
        found.update(text, [field.value + word for word in text])
    found.update(*others)
    return list(found) if len(found) <= ALWAYS_FIT else _bounded(islice(sorted(found), MAX_WORDS))


def _bounded(found: Iterable[str]) -> list[str]:
    """Returns the first words that have no more than MAX_OCTETS together."""
    fit, octets = [], 0
    for word in found:
        octets += len(word.encode())
        if octets > MAX_OCTETS:
            break
        fit.append(word)
    return fit


def size(octets: int) -> str:
    """Returns the word that tells how large a message is."""
    return f"{Field.SIZE.value}{octets.bit_length()}"
