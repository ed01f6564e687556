r"""Flags of a message, as they travel, are stored and are compared (pure).

Flags travel as a tuple of names in one canonical form (`canonical`): RFC 3501's five system flags spelled as the RFC
does (`\Seen`), every other flag and keyword as its server spells it, each once, in an order that lasts. Equal sets of
flags are therefore equal tuples. `\Recent` belongs to a session and `\*` to a mailbox: neither is kept.

A flag that is no valid UTF-8 keeps its octets as surrogates (`from_octets`, `to_octets`).

Where a database or an index wants them small: `system` gives the five as bits, `others` the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntFlag
from functools import lru_cache
from typing import Final

Flags = tuple[str, ...]  # in canonical form


class System(IntFlag):
    """The system flags that are kept (RFC 3501 §2.3.2). The values may stand in databases."""

    ANSWERED = 1
    FLAGGED = 2
    DELETED = 4
    SEEN = 8
    DRAFT = 16


ANSWERED: Final = "\\Answered"
FLAGGED: Final = "\\Flagged"
DELETED: Final = "\\Deleted"
SEEN: Final = "\\Seen"
DRAFT: Final = "\\Draft"
SYSTEM: Final = frozenset({ANSWERED, FLAGGED, DELETED, SEEN, DRAFT})
NEW_KEYWORDS: Final = "\\*"  # stands for any keyword in what a mailbox takes (RFC 3501 §7.1)
FORWARDED: Final = "$Forwarded"  # a keyword (RFC 5788 registers it) that Maildir has a letter for

_NAMES: Final = {
    System.ANSWERED: ANSWERED,
    System.FLAGGED: FLAGGED,
    System.DELETED: DELETED,
    System.SEEN: SEEN,
    System.DRAFT: DRAFT,
}
_BITS: Final = {name.lower(): bit for bit, name in _NAMES.items()}  # flags are told apart in any case
_SPELLED: Final = {name.lower(): name for name in _NAMES.values()}
_NOT_KEPT: Final = {"\\recent", NEW_KEYWORDS}
_CACHED: Final = 1024  # sets of flags; a mailbox has a few dozen
_CACHED_OCTETS: Final = 256  # of a set: a server may send any number of keywords, and memory is bounded

# maildir(5); letters "a" to "z" are keywords of one folder (Dovecot, Courier)
LETTERS: Final = {"D": DRAFT, "F": FLAGGED, "P": FORWARDED, "R": ANSWERED, "S": SEEN, "T": DELETED}
_LETTER_OF: Final = {name.lower(): letter for letter, name in LETTERS.items()}


def canonical(names: tuple[str, ...]) -> Flags:
    """Returns flags in canonical form: system flags first, then the rest by name; equal names in any case once."""
    return _of_few(names) if sum(map(len, names)) <= _CACHED_OCTETS else _canonical(names)


def _canonical(names: tuple[str, ...]) -> Flags:
    found = {name.lower(): name for name in reversed(names) if name}
    kept = [_SPELLED.get(lower, name) for lower, name in found.items() if lower not in _NOT_KEPT]
    return tuple(sorted(kept, key=_place))


_of_few = lru_cache(_CACHED)(_canonical)


def from_octets(names: Iterable[bytes]) -> Flags:
    """Returns flags as a server sends them, in canonical form. Any octets are taken."""
    return canonical(tuple(name.decode("utf-8", "surrogateescape") for name in names))


def to_octets(flags: Flags) -> tuple[bytes, ...]:
    """Returns the octets of each flag: undoes `from_octets`, but for order, case of system flags, and doubles."""
    return tuple(flag.encode("utf-8", "surrogateescape") for flag in flags)


def system(flags: Flags) -> System:
    """Returns the system flags among `flags` as bits."""
    bits = System(0)
    for flag in flags:
        bits |= _BITS.get(flag.lower(), System(0))
    return bits


def others(flags: Flags) -> tuple[str, ...]:
    """Returns what is no system flag: keywords, and flags that RFC 3501 does not know."""
    return tuple(flag for flag in flags if flag.lower() not in _BITS)


def combined(bits: System, names: Iterable[str] = ()) -> Flags:
    """Returns flags in canonical form: undoes `system` and `others`."""
    return canonical((*(name for bit, name in _NAMES.items() if bit & bits), *names))


def letters(flags: Iterable[str], keywords: Mapping[str, str] | None = None) -> str:
    """Returns flags as Maildir letters in ASCII order, as maildir(5) wants them; flags without a letter are left out.

    `keywords` has a folder's own letters ("a" to "z") by keyword in lower case. A keyword may have two: Dovecot does
    not know "P".
    """
    found = {known[flag.lower()] for flag in flags for known in (_LETTER_OF, keywords or {}) if flag.lower() in known}
    return "".join(sorted(found))


def of_letters(info: Iterable[str], keywords: Mapping[str, str] | None = None) -> Flags:
    """Returns the flags that Maildir letters tell, in canonical form; unknown letters are ignored.

    `keywords` has a folder's keywords by their letter.
    """
    known = LETTERS if not keywords else {**keywords, **LETTERS}
    return canonical(tuple(known[letter] for letter in info if letter in known))


def _place(flag: str) -> tuple[bool, str, str]:
    lower = flag.lower()
    return lower not in _BITS, lower, flag
