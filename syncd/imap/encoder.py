"""Encodes commands (RFC 3501 §4, §9). Arguments with CR, LF or NUL are refused here, for all commands.

A command is a list of parts. After each part but the last, the server has to ask for the next one, because a
synchronising literal follows: nothing may be sent behind such a part before that (I22).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from typing import Final

from syncd.errors import LocalProtocolError
from syncd.imap.values import Verb

MAX_COMMAND_OCTETS: Final = 8000  # I141: Dovecot, Cyrus, Courier and the others that were tried take so much

# Characters of an astring (RFC 3501 §9), without "]", which some servers refuse, and "[", which may begin a section.
_ATOM: Final = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\[\]]+')
_QUOTED: Final = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x7f]*")
_MAX_QUOTED_OCTETS: Final = 512  # a longer string goes as a literal: servers bound quoted strings differently

Parts = list[bytes]


class Word(bytes):
    """An argument that goes as it is: an atom, a list, a set. Nothing that came from outside is made a Word."""

    __slots__ = ()


def can_carry(argument: bytes) -> bool:
    """Returns whether a command can carry `argument`: it has no CR, LF or NUL."""
    return not any(octet in argument for octet in (b"\r", b"\n", b"\0"))


def command(verb: Verb, *arguments: bytes, literal_octets: int = -1, utf8: bool = False) -> Parts:
    """Returns a command without its tag. Each argument is a Word, or an astring in octets, which is encoded here.

    Literals of up to `literal_octets` need not be asked for (RFC 7888); -1: all have to be. With `utf8=True` the
    server takes UTF-8 in quoted strings (RFC 6855 §3). Raises LocalProtocolError; the error does not show the argument.
    """
    parts: Parts = [verb.value.encode()]
    for argument in arguments:
        if not can_carry(argument):
            raise LocalProtocolError(f"an argument of {verb.value} contains CR, LF or NUL, which IMAP cannot carry")
        parts[-1] += b" "
        if isinstance(argument, Word):
            parts[-1] += argument
        else:
            _add(parts, argument, literal_octets, utf8=utf8)
    parts[-1] += b"\r\n"
    return parts


def quoted(text: bytes) -> Word:
    """Returns a quoted string (RFC 3501 §4.3). The text must be able to be one: no CR, LF, NUL or 8-bit octets."""
    if not _QUOTED.fullmatch(text):
        raise LocalProtocolError("a quoted string cannot carry CR, LF, NUL or 8-bit octets")
    return Word(b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"')


def identity(fields: Mapping[str, str] | None) -> Word:
    """Returns the argument of ID (RFC 2971 §3.3): names and values, or NIL."""
    if not fields:
        return Word(b"NIL")
    return Word(b"(" + b" ".join(quoted(text.encode()) for field in fields.items() for text in field) + b")")


def base64(octets: bytes) -> bytes:
    """Returns base64 as SASL exchanges carry it, without line ends."""
    return binascii.b2a_base64(octets, newline=False)


def authenticate(mechanism: str, initial: bytes | None, *, sasl_ir: bool) -> Parts:
    """Returns AUTHENTICATE, with the initial response if the server takes one (RFC 4959) and the line is not too long.

    An empty initial response is sent as "="; None means that there is no initial response.
    """
    arguments = [Word(mechanism.encode())]
    if initial is not None and sasl_ir:
        arguments.append(Word(base64(initial) or b"="))
    whole = command(Verb.AUTHENTICATE, *arguments)
    return whole if len(whole[0]) <= MAX_COMMAND_OCTETS else command(Verb.AUTHENTICATE, arguments[0])


def _add(parts: Parts, argument: bytes, literal_octets: int, *, utf8: bool) -> None:
    """Add an astring to the last part, or as a literal in a part of its own."""
    if _ATOM.fullmatch(argument) and argument.upper() != b"NIL":
        parts[-1] += argument
    elif len(argument) <= _MAX_QUOTED_OCTETS and (_QUOTED.fullmatch(argument) or (utf8 and _is_utf8(argument))):
        parts[-1] += b'"' + argument.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    elif len(argument) <= literal_octets:
        parts[-1] += b"{%d+}\r\n" % len(argument) + argument
    else:
        parts[-1] += b"{%d}\r\n" % len(argument)
        parts.append(argument)


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
