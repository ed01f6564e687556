"""Recognises by its first octets what answers at a port, and asks a port that says nothing what it is.

A greeting begins like no other: "+OK" (RFC 1939 §4), "* OK" (RFC 3501 §7.1), "220" (RFC 5321 §4.2), "SSH-" (RFC 4253
§4.2). A server that begins with TLS, and one of HTTP, wait for the client to speak first: they are asked on a
connection of their own, because a slow server of the right kind would take the question for nonsense.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from syncd.errors import ConfigError, RemoteProtocolError, TimedOut, TlsFailed, TransportError, WrongService, printable
from syncd.net.deadline import Deadline
from syncd.net.tls import TlsPolicy
from syncd.net.transport import Transport

QUIET_S = 3.0  # a server that has not spoken by then is asked what it is; look-ups of our name take seconds too
ASK_S = 2.0  # for each question
TLS = "TLS"
SHOWN_OCTETS = 80
_REQUEST: Final = b"HEAD / HTTP/1.0\r\n\r\n"

# the first octets → the service; the first that fits
_SERVICES: Final = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), name)
    for pattern, name in (
        (rb"\s*\*\s+(OK|PREAUTH|BYE)\b", "IMAP"),
        (rb"\s*(\+OK|-ERR)(\s|\Z)", "POP3"),
        (rb"\s*SSH-", "SSH"),
        (rb"\s*(HTTP/\d|<!doctype|<html|<\?xml)", "HTTP"),
        (rb"[\x14-\x17]\x03[\x00-\x04]", TLS),
        (rb"\d{3}[ -][^\r\n]*\bLMTP\b", "LMTP"),
        (rb"\d{3}[ -][^\r\n]*\bE?SMTP\b", "SMTP"),
        (rb"\d{3}[ -][^\r\n]*FTP", "FTP"),
        (rb"20[01][ -]", "NNTP"),
        (rb"[245]\d\d([ -]|\Z)", "SMTP"),
        (rb'\s*"IMPLEMENTATION"', "ManageSieve"),
        (rb"RFB \d", "VNC"),
        (rb"\xff[\xfb-\xfe]", "Telnet"),
        (rb".{4}\x0a[\d.]+", "MySQL"),
    )
)
_ALIKE: Final = frozenset({"SMTP", "LMTP"})  # these greet alike; their commands tell which it is
_IN_CLEAR: Final = frozenset({"POP3", "IMAP", "SMTP", "LMTP"})  # these know STARTTLS


class Ports(NamedTuple):
    """The usual ports of a protocol, for advice."""

    tls: int
    starttls: int


PORTS: Final = {"POP3": Ports(995, 110), "IMAP": Ports(993, 143), "SMTP": Ports(465, 587), "LMTP": Ports(24, 24)}


def recognise(octets: bytes) -> str:
    """Returns the name of the service that begins like this, or an empty text."""
    return next((name for pattern, name in _SERVICES if pattern.match(octets)), "")


def is_other(octets: bytes, protocol: str) -> bool:
    """Returns whether a server that begins like this is known to speak another protocol."""
    name = recognise(octets)
    return name not in {"", protocol} and not {name, protocol} <= _ALIKE


def not_a_greeting(
    address: str, protocol: str, octets: bytes, why: str = "", *, busy: bool = False
) -> RemoteProtocolError:
    """Returns the error for a server whose first octets are no greeting of `protocol`.

    `why` says what is wrong with the greeting of a server of the right protocol. `busy`: its words ask to come later,
    which is the only trouble of this kind that waiting can mend.
    """
    name, shown = recognise(octets), _shown(octets)
    if name == TLS:
        return WrongService(begins_with_tls(address))
    if is_other(octets, protocol):
        return WrongService(
            f"{address}: {_article(name)} server answers here, not {protocol}: “{shown}”; {_ports(protocol)}"
        )
    if busy:
        return RemoteProtocolError(f"{address}: no {protocol} greeting, but “{shown}”; try again later")
    if why:
        return WrongService(f"{address}: {why}")
    return WrongService(f"{address}: what answers here is no {protocol} server: “{shown}”; {_ports(protocol)}")


def begins_with_tls(address: str) -> str:
    """Returns the words for a port that begins with TLS, while the configuration has it begin in clear."""
    return f'{address}: this port begins with TLS; set security = "tls", or the port that begins in clear'


def not_tls(address: str, protocol: str, octets: bytes) -> WrongService | None:
    """Returns the error for a server that answers in clear where TLS should begin; None if it is not known."""
    name, shown = recognise(octets), _shown(octets)
    if not name or name == TLS:
        return None
    if name in _IN_CLEAR and not is_other(octets, protocol):
        advice = f'set security = "starttls", or the port that begins with TLS, usually {PORTS[protocol].tls}'
        return WrongService(f"{address}: this port begins in clear, not with TLS: “{shown}”; {advice}")
    return WrongService(f"{address}: {_article(name)} server answers here, in clear: “{shown}”; {_ports(protocol)}")


def begin_tls(transport: Transport, protocol: str, policy: TlsPolicy, seconds: float) -> None:
    """Begin TLS at once. Raises WrongService for a server that begins in clear, and what `start_tls` raises."""
    try:
        transport.start_tls(policy, seconds)
    except (TlsFailed, TimedOut) as error:
        octets = transport.first or _ask(transport.another(), [_REQUEST])
        if (wrong := not_tls(transport.address, protocol, octets)) is not None:
            raise wrong from error
        raise


def ask_port(transport: Transport, policy: TlsPolicy | None = None) -> bytes:
    """Returns the beginning of what a port says that said nothing over `transport`; b"" if it is silent still.

    A new connection asks it for TLS, and then for a page of HTTP; with `policy` only the latter, in TLS. This takes a
    few seconds at most. Raises only Cancelled.
    """
    if policy is not None:
        return _ask(transport.another(), [_REQUEST], policy)
    from syncd.net.tls_stream import client_hello

    return _ask(transport.another(), [client_hello(transport.host), b"\r\n" + _REQUEST])  # a line of its own


def _ask(transport: Transport, questions: Iterable[bytes], policy: TlsPolicy | None = None) -> bytes:
    try:
        transport.connect(ASK_S)
        if policy is not None:
            transport.start_tls(policy, ASK_S)
        return next(filter(None, (_answer(transport, question) for question in questions)), b"")
    except (TransportError, RemoteProtocolError, ConfigError):
        return b""
    finally:
        transport.close()


def _answer(transport: Transport, question: bytes) -> bytes:
    target = memoryview(bytearray(512))
    try:
        transport.send(question, Deadline(ASK_S, transport.address))
        return bytes(target[: transport.receive(target, Deadline(ASK_S, transport.address))])
    except TransportError:
        return b""


def _shown(octets: bytes) -> str:
    """Returns the first line, fit to be shown."""
    return printable(octets.strip(b"\r\n").partition(b"\r\n")[0], SHOWN_OCTETS)


def _article(name: str) -> str:
    return f"an {name}" if name in {"IMAP", "SMTP", "LMTP", "SSH", "HTTP", "FTP", "NNTP"} else f"a {name}"


def _ports(protocol: str) -> str:
    tls, starttls = PORTS[protocol]
    return f'check host and port: {protocol} mostly has {tls} for security = "tls" and {starttls} for "starttls"'
