"""What the POP3 source's tests share: a source for a fake server, and room that keeps count."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from syncd.net.tls import TlsPolicy
from syncd.pop3.client import Deadlines
from syncd.secret import Secret
from syncd.sources.base import Listed, SourceSession, Wanted
from syncd.sources.pop3.account import Pop3Options, Pop3Source
from tests.fakes.pop3 import PASSWORD, USERNAME, FakePop3

SPOOL = Path("/nowhere/that/exists")  # only large messages go there


def source(server: FakePop3, **changes: Any) -> Pop3Source:
    options: dict[str, Any] = {
        "host": server.host,
        "port": server.port,
        "security": "none",
        "allow_insecure": True,
        "username": USERNAME,
        "password": lambda: Secret(PASSWORD),
        "spool": SPOOL,
        "tls": TlsPolicy(),
    }
    return Pop3Source(Pop3Options(**{**options, **changes}))


def impatient(**seconds: float) -> Deadlines:
    """Every wait ends after a second, or as said."""
    names = ("connect", "tls", "greeting", "reply", "listing", "body", "quit")
    return Deadlines(**{**dict.fromkeys(names, 1.0), **seconds})


def listed(session: SourceSession) -> list[Listed]:
    return [row for chunk in session.list() for row in chunk]


def wanted(rows: list[Listed]) -> Iterator[Wanted]:
    return (Wanted(row.number, row.number, row.uid, row.octets) for row in rows)


class Plenty:
    """Room without end, counted."""

    def __init__(self) -> None:
        self.taken: list[int] = []

    def try_take(self, octets: int) -> bool:
        self.taken.append(octets)
        return True

    def take(self, octets: int) -> None:
        raise AssertionError(f"there was room for {octets}")


class Scarce:
    """Room for `octets`; the test gives back by hand."""

    def __init__(self, octets: int) -> None:
        self.free = octets
        self.waits = 0

    def try_take(self, octets: int) -> bool:
        if octets > self.free:
            return False
        self.free -= octets
        return True

    def take(self, octets: int) -> None:
        assert octets <= self.free, "would wait for ever: nothing was given back after None"
        self.waits += 1
        self.free -= octets
