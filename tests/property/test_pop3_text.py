"""Whatever a message contains and wherever the network cuts it, it comes out as it went in, and so does the next."""

from __future__ import annotations

import itertools

from hypothesis import example, given, settings
from hypothesis import strategies as st

from syncd.pop3.connection import Connection
from syncd.pop3.values import RETR, Text
from tests.fakes.pop3 import delivered, stuffed

# Few kinds of octets, so that everything that means something comes up all the time.
messages = st.one_of(
    st.binary(max_size=300), st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"x"])).map(b"".join)
)


def read(octets: bytes, cuts: set[int], count: int) -> list[bytes]:
    connection = Connection(1 << 30)
    connection.sent(RETR, count)
    bodies, parts = [], b""
    at = [0, *sorted(cuts), len(octets)]
    for start, end in itertools.pairwise(at):
        connection.buffer.target()[: end - start] = octets[start:end]
        connection.buffer.received(end - start)
        while connection.in_flight and (event := connection.next_event()) is not None:
            if isinstance(event, Text):
                parts += event.octets
                if event.last:
                    bodies.append(parts)
                    parts = b""
    assert connection.in_flight == 0
    assert len(connection.buffer) == 0
    return bodies


@given(messages, messages)
@example(b".", b"")
@example(b"\r\n.\r\n", b"..\r\n.")
@settings(max_examples=300)
def test_every_boundary(first: bytes, second: bytes):
    wire = b"+OK\r\n" + b"".join(b"+OK\r\n" + stuffed(message) for message in (first, second))
    expected = [delivered(first), delivered(second)]
    for cut in range(len(wire) + 1):
        assert read(wire, {cut}, 2) == expected


@given(st.data(), st.lists(messages, max_size=5))
def test_any_boundaries(data: st.DataObject, several: list[bytes]):
    wire = b"+OK\r\n" + b"".join(b"+OK\r\n" + stuffed(message) for message in several)
    cuts = data.draw(st.sets(st.integers(0, len(wire))))
    assert read(wire, cuts, len(several)) == [delivered(message) for message in several]


@given(messages)
def test_one_octet_at_a_time(message: bytes):
    wire = b"+OK\r\n+OK\r\n" + stuffed(message)
    assert read(wire, set(range(len(wire))), 1) == [delivered(message)]
