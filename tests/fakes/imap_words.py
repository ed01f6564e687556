"""Words of IMAP commands, as a scripted server reads them: atoms, strings and lists of these."""

from __future__ import annotations

import re
from collections.abc import Iterator

Word = bytes | list["Word"]

_LITERAL = re.compile(rb"\{(\d+)(\+?)\}\r\n")
LITERAL_AT_END = re.compile(rb"\{(\d+)(\+?)\}$")


def words(command: bytes) -> list[Word]:
    """Take a whole command apart, its literals inside. A section in brackets belongs to its atom."""
    found, _ = _read(command, 0)
    return found


def _read(text: bytes, at: int) -> tuple[list[Word], int]:
    found: list[Word] = []
    while at < len(text):
        octet = text[at : at + 1]
        if octet == b" ":
            at += 1
        elif octet == b")":
            return found, at + 1
        elif octet == b"(":
            inner, at = _read(text, at + 1)
            found.append(inner)
        elif octet == b'"':
            string, at = _quoted(text, at + 1)
            found.append(string)
        elif literal := _LITERAL.match(text, at):
            end = literal.end() + int(literal[1])
            found.append(text[literal.end() : end])
            at = end
        else:
            end = _atom_end(text, at)
            found.append(text[at:end])
            at = end
    return found, at


def _quoted(text: bytes, at: int) -> tuple[bytes, int]:
    string = b""
    while text[at : at + 1] != b'"':
        at += text[at : at + 1] == b"\\"
        assert at < len(text), "a quoted string without its end"
        string += text[at : at + 1]
        at += 1
    return string, at + 1


def _atom_end(text: bytes, at: int) -> int:
    depth = 0
    while at < len(text):
        octet = text[at : at + 1]
        depth += (octet == b"[") - (octet == b"]")
        if depth == 0 and octet in b" ()":
            break
        at += 1
    return at


def flat(word: Word) -> list[bytes]:
    """The words of a list, or the word alone."""
    return [one for one in word if isinstance(one, bytes)] if isinstance(word, list) else [word]


def numbers(text: bytes, highest: int) -> Iterator[tuple[int, int]]:
    """The ranges of a set; `*` is the highest number (RFC 3501 §9, sequence-set)."""
    for part in text.split(b","):
        first, colon, last = part.partition(b":")
        ends = [highest if end == b"*" else int(end) for end in ((first, last) if colon else (first, first))]
        yield min(ends), max(ends)


def quoted(octets: bytes) -> bytes:
    """A string that goes over the wire, quoted where that is possible, else a literal."""
    if any(octet in octets for octet in b'"\\\r\n\0') or not octets.isascii():
        return b"{%d}\r\n%b" % (len(octets), octets)
    return b'"%b"' % octets
