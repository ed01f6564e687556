"""Typed commands to octets. Arguments with CR, LF or NUL are refused here, for all commands."""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Iterable

from syncd.errors import LocalProtocolError
from syncd.pop3.values import Verb
from syncd.secret import Secret

MAX_COMMAND_OCTETS = 255  # RFC 2449 §4, CRLF included


def command(verb: Verb, *arguments: str) -> bytes:
    """One command line. Raises LocalProtocolError for CR, LF or NUL; the message does not show the argument."""
    for argument in arguments:
        if any(c in argument for c in "\r\n\0"):
            raise LocalProtocolError(f"an argument of {verb.name} contains CR, LF or NUL, which POP3 cannot carry")
    return " ".join((verb.name, *arguments)).encode() + b"\r\n"


def numbered(verb: Verb, numbers: Iterable[int], suffix: str = "") -> bytes:
    """A flight of one command for each message number."""
    form = f"{verb.name} %d{suffix}\r\n".encode()
    return b"".join([form % number for number in numbers])


def base64(octets: bytes) -> str:
    """As SASL exchanges carry it."""
    return binascii.b2a_base64(octets, newline=False).decode("ascii")


def auth(mechanism: str, initial: bytes | None) -> bytes:
    """AUTH with the initial response, or without where that would make the line too long (RFC 5034 §4).

    An empty initial response is sent as "="; None is none.
    """
    bare = f"AUTH {mechanism}\r\n".encode()
    if initial is None:
        return bare
    whole = f"AUTH {mechanism} {base64(initial) or '='}\r\n".encode()
    return whole if len(whole) <= MAX_COMMAND_OCTETS else bare


def apop_digest(timestamp: bytes, password: Secret) -> str:
    """MD5 over the greeting's timestamp and the password (RFC 1939 §7). MD5 is broken: only when asked for."""
    return hashlib.md5(timestamp + password.reveal().encode(), usedforsecurity=False).hexdigest()
