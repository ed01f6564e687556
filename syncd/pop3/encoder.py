"""Encodes commands. Arguments with CR, LF or NUL are refused here, for all commands."""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Iterable

from syncd.errors import LocalProtocolError
from syncd.pop3.values import Verb
from syncd.secret import Secret

MAX_COMMAND_OCTETS = 255  # RFC 2449 §4, CRLF included


def command(verb: Verb, *arguments: str) -> bytes:
    """Returns a command line. Raises LocalProtocolError for CR, LF or NUL; the error does not show the argument."""
    for argument in arguments:
        if any(c in argument for c in "\r\n\0"):
            raise LocalProtocolError(f"an argument of {verb.name} contains CR, LF or NUL, which POP3 cannot carry")
    # the octets of a password that is not UTF-8 are surrogates in its text, see `Secret.reveal`
    return " ".join((verb.name, *arguments)).encode("utf-8", "surrogateescape") + b"\r\n"


def numbered(verb: Verb, numbers: Iterable[int], suffix: str = "") -> bytes:
    """Returns a command for each message number, all in one piece."""
    form = f"{verb.name} %d{suffix}\r\n".encode()
    return b"".join([form % number for number in numbers])


def base64(octets: bytes) -> str:
    """Returns base64 as SASL exchanges carry it, without line ends."""
    return binascii.b2a_base64(octets, newline=False).decode("ascii")


def auth(mechanism: str, initial: bytes | None) -> bytes:
    """Returns AUTH with the initial response, or without it if the line would be too long (RFC 5034 §4).

    An empty initial response is sent as "="; None means that there is no initial response.
    """
    bare = f"AUTH {mechanism}\r\n".encode()
    if initial is None:
        return bare
    whole = f"AUTH {mechanism} {base64(initial) or '='}\r\n".encode()
    return whole if len(whole) <= MAX_COMMAND_OCTETS else bare


def apop_digest(timestamp: bytes, password: Secret) -> str:
    """Returns MD5 of the greeting's timestamp and the password (RFC 1939 §7). MD5 is broken: only on request."""
    return hashlib.md5(timestamp + password.octets(), usedforsecurity=False).hexdigest()
