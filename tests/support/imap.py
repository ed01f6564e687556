"""Octets of a server into the pure IMAP core, whole or in pieces."""

from __future__ import annotations

from collections.abc import Iterable

from syncd.imap.connection import Connection
from syncd.imap.events import Event, Rows, Text
from syncd.imap.values import Kind, Status, Verb

GREETING = b"* OK ready\r\n"
LIMIT = 1 << 30


def greeted(*verbs: Verb, limit: int = LIMIT) -> Connection:
    """A connection after its greeting, with these commands in flight: a1, a2, …"""
    connection = Connection(limit)
    assert whole(connection, GREETING) == [Status(Kind.OK, text=b"ready")]
    for verb in verbs:
        connection.sent(verb)
    return connection


def in_pieces(connection: Connection, pieces: Iterable[bytes]) -> list[Event]:
    """The events of octets that come in pieces; the lines of a listing one by one."""
    events: list[Event] = []
    for piece in pieces:
        for start in range(0, len(piece), 64 << 10):
            part = piece[start : start + (64 << 10)]
            connection.buffer.target()[: len(part)] = part
            connection.buffer.received(len(part))
            while (event := connection.next_event()) is not None:
                events.extend(event.rows if isinstance(event, Rows) else [event])
    return events


def whole(connection: Connection, octets: bytes) -> list[Event]:
    """The events of octets that come at once."""
    return in_pieces(connection, [octets])


def octet_by_octet(connection: Connection, octets: bytes) -> list[Event]:
    """The events of octets that come one by one, pieces of a text put together."""
    return joined(in_pieces(connection, (octets[i : i + 1] for i in range(len(octets)))))


def joined(events: Iterable[Event]) -> list[Event]:
    """The same events with the pieces of each text put together."""
    found: list[Event] = []
    for event in events:
        last = found[-1] if found else None
        if isinstance(event, Text) and isinstance(last, Text) and not last.last:
            found[-1] = Text(last.octets + event.octets, last=event.last)
        else:
            found.append(event)
    return found
