"""What the POP3 source's tests share: a source for a fake server, and room that keeps count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from syncd.mail.body import MEMORY_CAP_OCTETS
from syncd.mail.listing import Listed, Wanted
from syncd.mail.message import Key
from syncd.net.endpoint import Endpoint
from syncd.pop3.client import Deadlines
from syncd.pop3.quirks import Quirks
from syncd.secret import Secret
from syncd.sources.base import OpenMailbox
from syncd.sources.pop3.account import Pop3Options, Pop3Source
from tests.fakes.pop3 import PASSWORD, USERNAME, FakePop3

SPOOL = Path("/nowhere/that/exists")  # only large messages go there


def source(server: FakePop3, quirks: Quirks | None = None, **changes: Any) -> Pop3Source:
    """A source for `server`; `changes` to the fields of Pop3Options and of its Endpoint."""
    endpoint: dict[str, Any] = {
        "host": server.host,
        "port": server.port,
        "security": "none",
        "allow_insecure": True,
        "username": USERNAME,
        "password": lambda: Secret(PASSWORD),
    }
    names = {field.name for field in fields(Endpoint)}
    endpoint |= {name: changes.pop(name) for name in names & changes.keys()}
    return Pop3Source(Pop3Options(**{"endpoint": Endpoint(**endpoint), "spool": SPOOL, **changes}), quirks)


def impatient(**seconds: float) -> Deadlines:
    """Every wait ends after a second, or as said."""
    names = ("connect", "tls", "greeting", "reply", "listing", "body", "quit")
    return Deadlines(**{**dict.fromkeys(names, 1.0), **seconds})


def listed(box: OpenMailbox) -> list[Listed]:
    return [row for chunk in box.list() for row in chunk]


def wanted(rows: list[Listed]) -> Iterator[Wanted]:
    return (Wanted(Key(row.number), row.number, row.uid, row.octets) for row in rows)


class Plenty:
    """Room without end, counted."""

    longest = MEMORY_CAP_OCTETS

    def __init__(self) -> None:
        self.taken: list[int] = []

    def try_take(self, octets: int) -> bool:
        self.taken.append(octets)
        return True

    def take(self, octets: int) -> None:
        raise AssertionError(f"there was room for {octets}")

    def grow(self, octets: int) -> bool:
        return self.try_take(octets)

    def shrink(self, octets: int) -> None:
        self.taken.append(-octets)


class Scarce:
    """Room for `octets`; the test gives back by hand."""

    longest = MEMORY_CAP_OCTETS

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

    def grow(self, octets: int) -> bool:
        return self.try_take(octets)

    def shrink(self, octets: int) -> None:
        self.free += octets
