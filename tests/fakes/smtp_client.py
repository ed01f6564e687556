"""A mail server as its client shows it, without a socket: follows a script, and records messages that arrive.

The script has a word for each message that is begun, "250 ok" when it is used up. A word is a reply or one of ours:

    250 … 5xx …        the reply to its last octets            MAIL 4xx …   the reply before them
    LATE 421 …         the reply to MAIL, which is read after them: all left in one flight
    stuck              the connection is lost, and its last octets could not leave
    unfit              the envelope cannot be sent
    cut                the connection is lost before its last octets
    lost, lost-early   … after them; the message arrived, or did not
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from syncd.destinations.smtp.envelope import Offer
from syncd.destinations.smtp.relay import Connection, Relay, RelayOptions
from syncd.errors import Cancelled, ConnectionLost, LocalProtocolError, SyncdError
from syncd.net.endpoint import Endpoint
from syncd.net.transport import Transport
from syncd.smtp.content import Content, Form
from syncd.smtp.grammar import reply, reply_line
from syncd.smtp.quirks import Quirks
from syncd.smtp.values import CLOSING, Capabilities, Envelope, Reply

ENDPOINT = Endpoint("mx.example.net", 25, "none")
ANNOUNCED = ("PIPELINING", "SIZE 1000000", "8BITMIME", "SMTPUTF8", "CHUNKING", "DSN")


def said(text: str) -> Reply:
    return reply([reply_line(text.encode())])


def early(text: str) -> Reply:
    """A reply to something before the end of the message."""
    found = said(text)
    return found._replace(early=found.code == CLOSING)


class FakeServer:
    """The server of several clients; `relay()` connects to it."""

    def __init__(self, script: Iterable[str] = (), *, announced: Sequence[str] = ANNOUNCED, depth: int = 1) -> None:
        self.script = deque(script)
        self.announced = Capabilities(tuple(announced))
        self.depth = depth  # messages in flight; over 1: they are pipelined
        self.opening: deque[SyncdError | None] = deque()  # what connecting raises, in turn
        self.clients: list[FakeClient] = []
        self.begun: list[Envelope] = []
        self.ended: list[str] = []  # ENVIDs of what may have arrived
        self.arrived: list[tuple[Envelope, bytes]] = []
        self.hangs = threading.Event()  # set: replies come; a test may clear it
        self.hangs.set()
        self.on_end: Callable[[], None] = lambda: None
        self._lock = threading.Lock()

    def relay(self, connections: int = 1, *, lmtp: bool = False) -> Relay:
        options = RelayOptions(ENDPOINT, connections=connections, lmtp=lmtp, ehlo_name="me.example")
        return Relay(options, self._connect)

    def _connect(self, _: RelayOptions, adopt: Callable[[Transport], None], __: Quirks) -> Connection:
        with self._lock:
            error = self.opening.popleft() if self.opening else None
            if error is not None:
                raise error
            client = FakeClient(self)
            self.clients.append(client)
        adopt(client.transport)
        return Connection(client, Offer.of(self.announced))  # type: ignore[arg-type]

    def word(self) -> str:
        with self._lock:
            return self.script.popleft() if self.script else "250 2.0.0 ok"


class FakeTransport:
    def __init__(self, server: FakeServer) -> None:
        self._server = server
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True
        self._server.hangs.set()

    def check(self) -> None:
        if self.cancelled:
            raise Cancelled("stopped on request")


class FakeClient:
    """One session."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server
        self.transport: Transport = FakeTransport(server)  # type: ignore[assignment]
        self.capabilities = server.announced
        self.helo = "me.example"
        self.closed = self.said_goodbye = self.stale = False
        self._begun: tuple[Envelope, bytes, str] | None = None
        self._ended: deque[tuple[Envelope, bytes, str]] = deque()

    @property
    def pipelines_messages(self) -> bool:
        return self._server.depth > 1

    def rewrites(self, content: Content) -> bool:
        return content.rewritten

    def begin(self, envelope: Envelope, content: Content) -> Sequence[Reply]:
        self._check()
        assert self._begun is None
        assert not self._ended or self.pipelines_messages
        word = self._server.word()
        self._server.begun.append(envelope)
        if word == "cut":
            raise self._lost()
        if word == "unfit":
            raise LocalProtocolError("SMTP cannot carry an address of the envelope")
        if word.startswith("MAIL "):
            self.closed |= word.startswith("MAIL 421")
            return (early(word.removeprefix("MAIL ")),)
        self._begun = (envelope, b"".join(content.chunks(Form.TEXT)), word)
        return ()

    def end(self) -> None:
        self._check()
        assert self._begun is not None
        begun, self._begun = self._begun, None
        if begun[2] == "stuck":
            raise self._lost()
        self._server.on_end()
        self._server.ended.append(begun[0].envid)
        self._ended.append(begun)

    def replies(self) -> Sequence[Reply]:
        envelope, octets, word = self._ended.popleft()
        self._server.hangs.wait()
        self._check()
        if word == "lost-early":
            raise self._lost()
        if word == "lost" or word.startswith("2"):
            self._server.arrived.append((envelope, octets))
        if word == "lost":
            raise self._lost()
        if word.startswith("LATE "):
            self.closed = True
            self._server.ended.remove(envelope.envid)
            return (early(word.removeprefix("LATE ")),)
        self.closed |= word.startswith("421")
        return (said(word),)

    def quit(self) -> Reply:
        self.said_goodbye = True
        return said("221 2.0.0 bye")

    def close(self) -> None:
        self.closed = True

    def _check(self) -> None:
        self.transport.check()  # type: ignore[attr-defined]
        if self.closed:
            raise self._lost()

    def _lost(self) -> ConnectionLost:
        self.closed = True
        return ConnectionLost("mx.example.net:25: the server closed the connection; try again later")
