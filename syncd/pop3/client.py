"""Blocking POP3: a transport, a connection, and the protocol's verbs as methods.

Commands given to `ask` leave in one flight where PIPELINING is announced, one at a time otherwise; either
way the answers are read in order with `status`, `lines` and `event`, so callers are written once.
Round trips are what a session costs: none is spent that the server or its state does not call for.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from syncd.auth.redaction import Redaction
from syncd.errors import ConnectionLost, Refused, RemoteProtocolError, StateError, Unsupported
from syncd.net.deadline import Deadline
from syncd.net.tls import TlsPolicy
from syncd.net.transport import Transport
from syncd.pop3 import grammar
from syncd.pop3.connection import Connection
from syncd.pop3.encoder import command
from syncd.pop3.refusals import refusal
from syncd.pop3.values import (
    CAPA,
    GREETING,
    LIST,
    QUIT,
    RETR,
    STAT,
    STLS,
    TOP,
    UIDL,
    Answer,
    Capabilities,
    Event,
    Status,
    Text,
    Verb,
)

MAX_CAPA_OCTETS = 64 << 10  # real answers are under 1 KiB
PROGRESS_OCTETS = 4 << 10  # this much of a multi-line answer earns it its time again: 34 octets a second at least


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that each kind of wait may take in all, however its octets are dripped."""

    connect: float = 30  # name look-up and all addresses
    tls: float = 30
    greeting: float = 60
    reply: float = 120  # some servers make a wrong password wait
    listing: float = 300  # a server may open every file of a large mailbox to know its size
    body: float = 120  # for each 4 KiB at least
    quit: float = 600  # the server expunges before it answers (RFC 1939 §6)

    def of(self, verb: Verb) -> float:
        """How long the answer to a command may take."""
        if verb is GREETING:
            return self.greeting
        if verb in _LISTINGS:
            return self.listing
        if verb in _BODIES:
            return self.body
        return self.quit if verb is QUIT else self.reply


_LISTINGS = frozenset({STAT, LIST, UIDL})
_BODIES = frozenset({RETR, TOP})


class Client:
    """One session with a server.

    Its methods raise TransportError and RemoteProtocolError, after which it can only be closed, and Refused,
    after which it goes on.
    """

    def __init__(self, transport: Transport, deadlines: Deadlines, max_message_octets: int) -> None:
        self.transport = transport
        self.address = transport.address
        self.capabilities = Capabilities()
        self.greeting = Status(ok=False, code="", text=b"")
        self.may_pipeline = True  # where it is announced
        self._deadlines = deadlines
        self._connection = Connection(max_message_octets)
        self._unsent: deque[tuple[Verb, bytes]] = deque()

    # --- verbs ---------------------------------------------------------------------------------------

    def open(self, tls: TlsPolicy | None) -> None:
        """Connect, set implicit TLS up if options for it are given, read the greeting."""
        self.transport.connect(self._deadlines.connect)
        if tls is not None:
            self.transport.start_tls(tls, self._deadlines.tls)
        self.greeting = self.status()
        if not self.greeting.ok:
            raise refusal(self.address, "the server does not take the connection", GREETING, self.greeting)

    def capa(self) -> None:
        """Ask for capabilities (RFC 2449 §5)."""
        self.ask(CAPA)
        self.read_capa()

    def read_capa(self) -> None:
        """Read the answer to a CAPA that was asked. A server that does not know it has none."""
        octets = b""
        with contextlib.suppress(Refused):
            for chunk in self.lines():
                octets += chunk
                if len(octets) > MAX_CAPA_OCTETS:
                    raise self.nonsense(f"the answer to CAPA is longer than {MAX_CAPA_OCTETS} octets")
        self.capabilities = grammar.capabilities(octets)

    def stls(self, tls: TlsPolicy) -> None:
        """Go over to TLS (RFC 2595 §4), or raise. What was announced in clear is forgotten: ask again."""
        if self.capabilities.lines and "STLS" not in self.capabilities:
            raise Unsupported(
                f"{self.address}: the server does not announce STLS, and nobody signs in without TLS here; "
                'try security = "tls", which has a port of its own, usually 995',
                command=STLS.name,
            )
        self.ask(STLS)
        answer = self.status()
        if not answer.ok:
            raise refusal(self.address, "the server refuses STLS, and nobody signs in without TLS here", STLS, answer)
        with self.naming():
            self._connection.check_quiet()
        self.transport.start_tls(tls, self._deadlines.tls)
        self.capabilities = Capabilities()

    def quit(self) -> Status:
        """Say QUIT and read the answer, which may take long (RFC 1939 §6)."""
        self.ask(QUIT)
        return self.status()

    # --- asking and reading --------------------------------------------------------------------------

    @property
    def pipelines(self) -> bool:
        """Whether commands may leave before earlier ones are answered (RFC 2449 §6.6)."""
        return self.may_pipeline and "PIPELINING" in self.capabilities

    @property
    def in_flight(self) -> int:
        """How many commands were sent and are not yet answered in full."""
        return self._connection.in_flight

    def ask(self, verb: Verb, *arguments: str) -> None:
        """Queue a command; it leaves at the latest when its answer is to be read."""
        self.ask_line(verb, command(verb, *arguments))

    def ask_line(self, verb: Verb, line: bytes) -> None:
        """The same for a command that is encoded already, CRLF included."""
        self._unsent.append((verb, line))

    def drop_unsent(self) -> None:
        """Forget the commands that have not left, because an answer made them pointless."""
        self._unsent.clear()

    def send(self, commands: bytes, counts: Sequence[tuple[Verb, int]]) -> None:
        """Send encoded commands at once; `counts` tells their verbs, and how many of each there are in a row."""
        with self.naming():
            for verb, count in counts:
                self._connection.sent(verb, count)
        self._transmit(counts[0][0], commands)

    @property
    def redaction(self) -> Redaction:
        """What errors do not show of a server's words."""
        return self._connection.redaction

    def respond(self, verb: Verb, line: bytes) -> None:
        """Send a line that is no command: the response to a challenge of `verb`."""
        self._transmit(verb, line + b"\r\n")

    def event(self) -> Event:
        """The next event; waits for octets when there is none."""
        try:
            if self._unsent and (self.pipelines or not self._connection.in_flight):
                self._send_unsent()
            event = self._connection.next_event()
            return self._wait() if event is None else event
        except RemoteProtocolError as error:
            raise self._named(error) from error

    def status(self) -> Status:
        """The status line that answers the oldest command."""
        event = self.event()
        assert isinstance(event, Status), event
        return event

    def lines(self) -> Iterator[bytes]:
        """The lines that answer the oldest command, some whole lines at a time. Raises Refused."""
        verb = self._connection.waiting_for or self._unsent[0][0]
        last = False
        while not last:
            event = self.event()
            if isinstance(event, Status):
                raise refusal(self.address, f"the server refuses {verb.name}", verb, event)
            assert isinstance(event, Text), event
            yield event.octets
            last = event.last

    # --- errors --------------------------------------------------------------------------------------

    def nonsense(self, what: str) -> RemoteProtocolError:
        """The error for a server that does not keep to the protocol."""
        return self._named(RemoteProtocolError(what))

    @contextlib.contextmanager
    def naming(self) -> Iterator[None]:
        """Put the address before what the pure parts have to say."""
        try:
            yield
        except RemoteProtocolError as error:
            raise self._named(error) from error

    # --- inside --------------------------------------------------------------------------------------

    def _named(self, error: RemoteProtocolError) -> RemoteProtocolError:
        return type(error)(f"{self.address}: {error}; the session was closed, try again later")

    def _send_unsent(self) -> None:
        flight = [self._unsent.popleft() for _ in range(len(self._unsent) if self.pipelines else 1)]
        for verb, _ in flight:
            self._connection.sent(verb)
        self._transmit(flight[0][0], b"".join(line for _, line in flight))

    def _transmit(self, verb: Verb, octets: bytes) -> None:
        self.transport.send(octets, Deadline(self._deadlines.reply, f"{self.address}: {verb.name} could not be sent"))

    def _wait(self) -> Event:
        connection, transport = self._connection, self.transport
        verb = connection.waiting_for
        if verb is None:
            raise StateError(f"{self.address}: no reply is outstanding")
        buffer = connection.buffer
        deadline, mark = self._deadline(verb), transport.octets_in
        while True:
            octets = transport.receive(buffer.target(), deadline)
            if not octets:
                raise self._lost(verb)
            buffer.received(octets)
            event = connection.next_event()
            if event is not None:
                return event
            if transport.octets_in - mark >= PROGRESS_OCTETS and verb.answer in _LONG:
                deadline, mark = self._deadline(verb), transport.octets_in

    def _deadline(self, verb: Verb) -> Deadline:
        return Deadline(self._deadlines.of(verb), f"{self.address}: no {_answer_to(verb)}")

    def _lost(self, verb: Verb) -> ConnectionLost:
        return ConnectionLost(
            f"{self.address}: the server closed the connection, no {_answer_to(verb)}; try again later"
        )


_LONG = frozenset({Answer.LISTING, Answer.TEXT})


def _answer_to(verb: Verb) -> str:
    return "greeting came" if verb is GREETING else f"complete answer to {verb.name} came"
