"""Shared by the tests of the SMTP client: a client for a fake server, a message, transports, deadlines."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from syncd.mail.body import Body
from syncd.net.deadline import Deadline
from syncd.net.transport import Transport
from syncd.smtp.client import Client, Content, Deadlines
from syncd.smtp.quirks import Quirks
from syncd.smtp.values import Envelope, Reply, Verb
from tests.fakes.smtp import FakeSmtp
from tests.servers.certificate import Authority

HELO = "client.example"
LETTER = b"Subject: test\r\n\r\nhello\r\n.dots\r\n"
TRACE = b"Received: by client.example; Mon, 1 Jan 2024 00:00:00 +0000\r\n"


class Counting(Transport):
    """Counts round trips: waits for the server after something was sent, unless octets were known to be here."""

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


PATIENCE_S = 600.0  # a machine that is busy for a minute must not change an outcome


def patient(**seconds: float) -> Deadlines:
    """No wait ends by its deadline, except the wait for the reply to QUIT, on which nothing depends."""
    names = ("connect", "tls", "greeting", "quiet", "reply", "data", "block", "final")
    return Deadlines(**{**dict.fromkeys(names, PATIENCE_S), "quit": 1.0, **seconds})


@dataclass(frozen=True, slots=True)
class _Hurried(Deadlines):
    hurried: Callable[[Verb], bool] = lambda _: False
    seconds: float = 0.2

    def of(self, verb: Verb) -> float:
        return self.seconds if self.hurried(verb) else Deadlines.of(self, verb)


def hurried(*verbs: Verb, seconds: float = 0.2, when: Callable[[], bool] = lambda: True) -> Deadlines:
    """Only the replies to `verbs` are due within `seconds`, and only while `when()`: those that do not come."""
    names = ("connect", "tls", "greeting", "quiet", "reply", "data", "block", "final")
    return _Hurried(
        **dict.fromkeys(names, PATIENCE_S), quit=1.0, hurried=lambda verb: verb in verbs and when(), seconds=seconds
    )


@contextlib.contextmanager
def session(
    server: FakeSmtp,
    *,
    quirks: Quirks | None = None,
    deadlines: Deadlines | None = None,
    transport: Transport | None = None,
    **restrictions: Any,
) -> Iterator[Client]:
    """A client that has said EHLO."""
    transport = transport or Counting(server.host, server.port)
    client = Client(transport, deadlines or patient(), lmtp=server.lmtp, helo=HELO, quirks=quirks)
    client.restrict(**restrictions)
    try:
        client.open(None)
        yield client
    finally:
        client.close()


def server_tls(authority: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate_file, authority.key_file)
    return context


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
