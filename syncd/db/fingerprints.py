"""The identity of an account: which settings make it another one. Pure: the configuration is judged by it, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

STANDARD_PORTS: Final[Mapping[str, frozenset[int]]] = {  # of one server: a change among them is no change of account
    "pop3": frozenset({110, 995}),
    "imap": frozenset({143, 993}),
    "smtp": frozenset({25, 465, 587}),
    "lmtp": frozenset({24}),
}
ARCHIVE: Final = "archive"  # the protocol of an account that is an archive as a source; its host is the archive's UUID


def place(protocol: str, host: str, port: int) -> str:
    """Returns where a server is, as accounts are told apart: its host, and its port unless that is a standard one.

    Behind one host name there may be several servers (tunnels, containers), each at a port of its own.
    """
    host = host.lower().rstrip(".")
    if port in STANDARD_PORTS.get(protocol, ()):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_of(place: str) -> str:
    """Returns the host of a place, without its port: what limits of a host are about."""
    if place.startswith("["):
        return place[1:].partition("]")[0]
    host, colon, port = place.rpartition(":")
    return host if colon and ":" not in host and port.isdecimal() else place


def fingerprint(protocol: str, place: str, username: str) -> str:
    """Returns an account's identity as one line: the user name comes last, as it alone may contain spaces.

    `place` is from the function of this name; an archive's is its UUID.
    """
    return f"{protocol} {place.lower().rstrip('.')} {username}"
