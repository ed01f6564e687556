"""A fuzz harness for the IMAP core.

The invariant: whatever octets come, in whatever pieces, the connection gives the same events and then the same error or
none, raises nothing but RemoteProtocolError, and never holds more than its buffer and one response.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from syncd.errors import RemoteProtocolError
from syncd.imap.connection import WHOLE_OCTETS, Connection
from syncd.imap.events import (
    Event,
    Found,
    Text,
    Vanished,
)
from syncd.imap.values import Verb
from syncd.net.buffer import RECEIVE_OCTETS
from tests.support.imap import GREETING, joined, whole
from tests.support.imap_samples import SAMPLES

LIMIT = 300_000
_SEEDS = [octets for octets, _ in SAMPLES]
_WORDS = [b"(", b")", b'"', b"\\", b"{3}\r\n", b"{0}\r\n", b"{300000}\r\n", b"{99999999999999999999}\r\n", b"~{2}\r\n",
          b"\r\n", b"\n", b"\r", b" ", b"NIL", b"* ", b"+ ", b"a1 OK ", b"a2 NO [", b"]", b"\0", b"\xff", b"BODY[]",
          b"BODY[HEADER]", b"UID 7", b"FLAGS (", b"* 1 FETCH (", b"* SEARCH ", b"1,2:3", b"* BYE x", b"*"]  # fmt: skip


def cases(seed: int, count: int) -> Iterator[bytes]:
    """Octets that are nearly what servers say."""
    chance = random.Random(seed)
    for _ in range(count):
        octets = b"".join(chance.choices(_SEEDS, k=chance.randint(1, 4)))
        for _ in range(chance.randint(0, 6)):
            octets = _changed(chance, octets)
        yield octets


def _changed(chance: random.Random, octets: bytes) -> bytes:
    at = chance.randrange(len(octets) + 1)
    match chance.randrange(5):
        case 0:
            return octets[:at] + chance.choice(_WORDS) + octets[at:]
        case 1:
            return octets[:at] + octets[at + chance.randint(1, 9) :]
        case 2:
            return octets[:at] + chance.randbytes(chance.randint(1, 4)) + octets[at:]
        case 3:
            end = min(at + chance.randint(1, 20), len(octets))
            return octets[:end] + octets[at:end] * chance.choice([1, 2, 40, 3000]) + octets[end:]
        case _:
            return octets[:at]


def check(octets: bytes, seed: int) -> None:
    """Raise AssertionError if the invariant does not hold for `octets`."""
    chance = random.Random(seed)
    expected = _read([octets])
    pieces: list[bytes] = []
    at = 0
    step = chance.choice([1, 3, 50, 5000])
    while at < len(octets) and len(pieces) < 20_000:
        size = chance.randint(1, step) if len(pieces) < 19_999 else len(octets)
        pieces.append(octets[at : at + size])
        at += size
    assert _read(pieces) == expected, octets


def _read(pieces: list[bytes]) -> tuple[list[Event], str]:
    """The events, and the name of the error that ended the session."""
    connection = Connection(LIMIT)
    whole(connection, GREETING)
    for verb in (Verb.NOOP, Verb.UID_FETCH, Verb.UID_SEARCH):
        connection.sent(verb)
    events: list[Event] = []
    try:
        for piece in pieces:
            for part in (piece[at : at + RECEIVE_OCTETS] for at in range(0, len(piece), RECEIVE_OCTETS)):
                connection.buffer.target()[: len(part)] = part
                connection.buffer.received(len(part))
                while (event := connection.next_event()) is not None:
                    events.append(event)
            assert len(connection.buffer.octets) == WHOLE_OCTETS + 8192 + 2 * RECEIVE_OCTETS
    except RemoteProtocolError as error:
        found = _plain(events)
        while found and isinstance(found[-1], Found | Vanished):  # of a line that turned out wrong behind its beginning
            found.pop()
        return found, type(error).__name__
    return _plain(events), ""


def _plain(events: list[Event]) -> list[Event]:
    """The events with what was handed out in parts put together; the part of a text that an error cut off is left out.

    How much of it was handed out before is chance.
    """
    found: list[Event] = []
    for event in joined(events):
        last = found[-1] if found else None
        if isinstance(event, Found) and isinstance(last, Found) and event.tag == last.tag:
            found[-1] = last._replace(ranges=last.ranges + event.ranges)
            continue
        if isinstance(event, Vanished) and isinstance(last, Vanished) and event.earlier == last.earlier:
            found[-1] = last._replace(ranges=last.ranges + event.ranges)
            continue
        found.append(event)
    if found and isinstance(found[-1], Text) and not found[-1].last:
        found.pop()
    return found
