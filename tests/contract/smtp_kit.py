"""What the tests of the SMTP client share: a client for a fake server, a message, and a transport that keeps count."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from syncd.mail.body import Body
from syncd.net.deadline import Deadline
from syncd.net.transport import Transport
from syncd.smtp.client import Client, Content, Deadlines
from syncd.smtp.quirks import Quirks
from syncd.smtp.values import Envelope, Reply
from tests.fakes.smtp import FakeSmtp

HELO = "client.example"
LETTER = b"Subject: test\r\n\r\nhello\r\n.dots\r\n"
TRACE = b"Received: by client.example; Mon, 1 Jan 2024 00:00:00 +0000\r\n"


class Counting(Transport):
    """Counts round trips: waits for the server that came after something was sent. What is known to be here is none."""

    round_trips = 0
    _sent = False
    _here = False

    def send(self, octets: bytes, deadline: Deadline) -> None:
        super().send(octets, deadline)
        self._sent = True

    def readable(self) -> bool:
        self._here = super().readable()
        return self._here

    def receive(self, target: memoryview, deadline: Deadline) -> int:
        if not self._here:
            self.round_trips += self._sent
            self._sent = False
        self._here = False
        return super().receive(target, deadline)


def impatient(**seconds: float) -> Deadlines:
    """Every wait ends after a second, or as said."""
    names = ("connect", "tls", "greeting", "reply", "data", "block", "final", "quit")
    return Deadlines(**{**dict.fromkeys(names, 1.0), **seconds})


@contextlib.contextmanager
def session(
    server: FakeSmtp, *, quirks: Quirks | None = None, deadlines: Deadlines | None = None, **restrictions: Any
) -> Iterator[Client]:
    """A client that has said EHLO."""
    transport = Counting(server.host, server.port)
    client = Client(transport, deadlines or impatient(), lmtp=server.lmtp, helo=HELO, quirks=quirks)
    client.restrict(**restrictions)
    try:
        client.open(None)
        yield client
    finally:
        client.close()


def envelope(*recipients: str, **changes: Any) -> Envelope:
    return Envelope("me@example.org", recipients or ("you@example.org",), **changes)


def content(octets: bytes = LETTER, prefix: bytes = b"") -> Content:
    return Content(prefix, Body.of(octets))


def deliver(client: Client, octets: bytes = LETTER, to: Envelope | None = None) -> Sequence[Reply]:
    """One message from `begin` to `replies`."""
    refused = client.begin(to or envelope(), content(octets))
    if refused:
        return refused
    client.end()
    return client.replies()


def codes(replies: Sequence[Reply]) -> list[int]:
    return [reply.code for reply in replies]


def round_trips(client: Client) -> int:
    transport = client.transport
    assert isinstance(transport, Counting)
    return transport.round_trips
