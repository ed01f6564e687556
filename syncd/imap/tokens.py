"""Octets of a response to tokens: atoms, strings, literals, nested lists (RFC 3501 §4, §9; RFC 9051 §9). Pure.

A response is one line, or several with literals between them. What is a literal is decided by tokens, never by how a
line ends: "{50}" may stand in a quoted string, and a quoted string of some servers has line ends in it (I134).
"""

from __future__ import annotations

import re
from typing import Final

from syncd.errors import RemoteProtocolError, printable

MAX_NESTING = 32  # RFC 9051 has no limit; BODYSTRUCTURE of real mail stays under 20
MAX_RESPONSE_OCTETS = 1 << 20  # one response with its short literals; a LIST row has a few hundred octets
MAX_LITERALS = 1000  # in one response; labels of Gmail and names in ENVELOPE may be literals
MAX_STRING_OCTETS = 8 << 10  # of a quoted string with line ends in it, which is read again with each line

_TOKEN: Final = re.compile(
    rb"""(?P<blanks>[ \t]+)
      | (?P<open>\()
      | (?P<close>\))
      | "(?P<quoted>[^"\\]*(?:\\.[^"\\]*)*)"
      | ~?\{(?P<literal>\d+)\+?\}\Z
      | (?P<unclosed>".*)
      | (?P<atom>(?:BODY|BINARY)(?:\.\w+)?\[[^\]]*\](?:<\d+>)? | [^ \t()]+)
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_MAX_DIGITS = 18


class Atom(bytes):
    """A word that is not quoted. Strings, quoted or literal, are plain bytes; NIL is None."""

    __slots__ = ()


class Streamed(bytes):
    """Stands for a literal whose octets were handed out as they came; it is empty itself."""

    __slots__ = ()


Value = bytes | None | list["Value"]


class Tokens:
    """The tokens of one response, which comes line by line.

    After `line`, either `literal` has the octets of the literal that follows, to be given by `add`, or `open` is true
    (a quoted string goes on in the next line), or the response is whole and `values` has it. Raises
    RemoteProtocolError.
    """

    __slots__ = ("_lists", "_literals", "_octets", "_unclosed", "literal", "values")

    def __init__(self) -> None:
        self.values: list[Value] = []
        self.literal: int | None = None
        self._lists = [self.values]  # those that are not closed, the outermost first
        self._unclosed = b""  # the beginning of a quoted string
        self._octets = 0
        self._literals = 0

    @property
    def open(self) -> bool:
        """Returns whether a quoted string goes on in the next line."""
        return bool(self._unclosed)

    @property
    def depth(self) -> int:
        """Returns how many lists are not closed."""
        return len(self._lists) - 1

    @property
    def items(self) -> list[Value]:
        """Returns the innermost list that is not closed, or `values`."""
        return self._lists[-1]

    def line(self, octets: bytes) -> None:
        """Read the next line, without its CRLF."""
        self._count(len(octets))
        if self._unclosed:
            octets, self._unclosed = self._unclosed + b"\r\n" + octets, b""
            if len(octets) > MAX_STRING_OCTETS:
                raise RemoteProtocolError(f"a quoted string without its end: “{printable(octets)}”")
        for found in _TOKEN.finditer(octets):
            kind = found.lastgroup
            if kind == "atom":
                word = found[0]
                self.items.append(None if word.upper() == b"NIL" else Atom(word))
            elif kind == "quoted":
                word = found["quoted"]
                self.items.append(_ESCAPED.sub(rb"\1", word) if b"\\" in word else word)
            elif kind == "open":
                self._open(octets)
            elif kind == "close":
                self._close(octets)
            elif kind == "literal":
                self.literal = _number(found["literal"])
            elif kind == "unclosed":
                self._unclosed = found[0]
        if self._lists[-1] is not self.values and self.literal is None and not self._unclosed:
            raise RemoteProtocolError(f"a list without its end in “{printable(octets)}”")

    def add(self, literal: bytes) -> None:
        """Put the literal in its place; its line goes on with `line`."""
        self._count(len(literal))
        self._literals += 1
        if self._literals > MAX_LITERALS:
            raise RemoteProtocolError(f"a response with more than {MAX_LITERALS} literals")
        self.items.append(literal)
        self.literal = None

    def _open(self, octets: bytes) -> None:
        if len(self._lists) > MAX_NESTING:
            raise RemoteProtocolError(f"lists nested more than {MAX_NESTING} deep in “{printable(octets)}”")
        inner: list[Value] = []
        self.items.append(inner)
        self._lists.append(inner)

    def _close(self, octets: bytes) -> None:
        if len(self._lists) == 1:
            raise RemoteProtocolError(f"the end of a list that has not begun in “{printable(octets)}”")
        self._lists.pop()

    def _count(self, octets: int) -> None:
        self._octets += octets
        if self._octets > MAX_RESPONSE_OCTETS:
            raise RemoteProtocolError(f"a response of more than {MAX_RESPONSE_OCTETS} octets")


def _number(digits: bytes) -> int:
    if len(digits) > _MAX_DIGITS:
        raise RemoteProtocolError(f"a literal of {printable(digits, 40)} octets")
    return int(digits)
