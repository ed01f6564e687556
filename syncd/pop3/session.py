"""A POP3 connection with its socket: commands out, events in, a deadline for each wait, names for errors.

Commands given to `ask` leave in one flight where PIPELINING is announced, and one at a time otherwise. Either way the
answers are read in order with `status`, `lines` and `event`, so callers are written once.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from syncd.auth.patience import says_later
from syncd.auth.redaction import Redaction
from syncd.errors import ConnectionLost, RemoteProtocolError, StateError, TimedOut
from syncd.net import greetings
from syncd.net.deadline import Deadline
from syncd.net.greetings import QUIET_S
from syncd.net.tls import TlsPolicy
from syncd.net.transport import Transport
from syncd.pop3.connection import Connection
from syncd.pop3.encoder import command
from syncd.pop3.refusals import refusal
from syncd.pop3.values import (
    GREETING,
    LIST,
    QUIT,
    RETR,
    STAT,
    TOP,
    UIDL,
    Answer,
    Capabilities,
    Event,
    NoGreeting,
    Status,
    Text,
    Verb,
)

PROTOCOL = "POP3"
PROGRESS_OCTETS = 4 << 10  # after this much of a multi-line answer its deadline starts again: 34 octets/s

_LISTINGS = frozenset({STAT, LIST, UIDL})
_BODIES = frozenset({RETR, TOP})
_LONG = frozenset({Answer.LISTING, Answer.TEXT})


@dataclass(frozen=True, slots=True)
class Deadlines:
    """The longest time in seconds for each kind of wait. Octets that drip in do not prolong a wait."""

    connect: float = 30  # name look-up and all addresses
    tls: float = 30
    greeting: float = 40  # a server may look up our name first, which takes up to 30 s
    quiet: float = QUIET_S  # … but when it has said nothing for so long, the port is asked what it is
    reply: float = 120  # some servers make a wrong password wait
    listing: float = 300  # a server may open every file of a large mailbox to know its size
    body: float = 120  # for each PROGRESS_OCTETS
    quit: float = 600  # the server expunges before it answers (RFC 1939 §6)

    def of(self, verb: Verb) -> float:
        """Returns how many seconds the answer to `verb` may take."""
        if verb is GREETING:
            return self.greeting
        if verb in _LISTINGS:
            return self.listing
        if verb in _BODIES:
            return self.body
        return self.quit if verb is QUIT else self.reply


class Session:
    """One session with a server.

    Its methods raise TransportError and RemoteProtocolError, after which the session can only be closed, and Refused,
    after which the session goes on. `capabilities` and `greeting` are what the server said last.
    """

    def __init__(
        self, transport: Transport, deadlines: Deadlines, max_message_octets: int, *, may_pipeline: bool = True
    ) -> None:
        """With `may_pipeline=False` commands leave one at a time, even if the server announces PIPELINING."""
        self.transport = transport
        self.address = transport.address
        self.deadlines = deadlines
        self.capabilities = Capabilities()
        self.greeting = Status(ok=False, code="", text=b"")
        self.may_pipeline = may_pipeline
        self._connection = Connection(max_message_octets)
        self._unsent: deque[tuple[Verb, bytes]] = deque()

    @property
    def pipelines(self) -> bool:
        """Returns True if commands may leave before earlier commands are answered (RFC 2449 §6.6)."""
        return self.may_pipeline and "PIPELINING" in self.capabilities

    @property
    def in_flight(self) -> int:
        """Returns how many commands were sent and are not yet answered in full."""
        return self._connection.in_flight

    @property
    def redaction(self) -> Redaction:
        """Returns what is blanked in the server's words before an error shows them."""
        return self._connection.redaction

    @property
    def passed(self) -> int:
        """Returns how many lines were passed over where a reply was due (P50)."""
        return self._connection.passed

    # --- beginning -----------------------------------------------------------------------------------

    def open(self, tls: TlsPolicy | None) -> None:
        """Connect, begin TLS at once if `tls` is given, read the greeting.

        Raises WrongService for another kind of server, or one that begins otherwise than the configuration says.
        """
        self.transport.connect(self.deadlines.connect)
        if tls is not None:
            greetings.begin_tls(self.transport, PROTOCOL, tls, self.deadlines.tls)
        try:
            self.greeting = self._greet(tls)
        except NoGreeting as error:
            busy = says_later(error.octets)
            raise greetings.not_a_greeting(self.address, PROTOCOL, error.octets, error.why, busy=busy) from error
        except RemoteProtocolError as error:
            raise self._named(error) from error

    def _greet(self, tls: TlsPolicy | None) -> Status:
        """Read the greeting; ask the port what it is while it says nothing."""
        if self.deadlines.quiet < self.deadlines.greeting:
            try:
                return self._greeting(self.deadlines.quiet)
            except TimedOut:
                self._connection.check_greeting()
                octets = b"" if self._connection.buffer.peek(1) else greetings.ask_port(self.transport, tls)
                if greetings.recognise(octets) not in {"", PROTOCOL}:
                    raise NoGreeting(octets) from None
        return self._greeting(self.deadlines.greeting)

    def _greeting(self, seconds: float) -> Status:
        event = self._connection.next_event() or self._wait(Deadline(seconds, f"{self.address}: no greeting came"))
        assert isinstance(event, Status), event
        return event

    # --- asking --------------------------------------------------------------------------------------

    def ask(self, verb: Verb, *arguments: str) -> None:
        """Queue a command; it leaves when its answer is to be read, or earlier. Raises LocalProtocolError."""
        self.ask_line(verb, command(verb, *arguments))

    def ask_line(self, verb: Verb, line: bytes) -> None:
        """Queue a command that is encoded already, CRLF included."""
        self._unsent.append((verb, line))

    def drop_unsent(self) -> None:
        """Forget the commands that have not left, because an answer made them pointless."""
        self._unsent.clear()

    def send(self, commands: bytes, counts: Sequence[tuple[Verb, int]]) -> None:
        """Send encoded commands at once. `counts` has each verb with the number of such commands in a row."""
        with self.naming():
            for verb, count in counts:
                self._connection.sent(verb, count)
        self._transmit(counts[0][0], commands)

    def respond(self, verb: Verb, line: bytes) -> None:
        """Send a line that is no command: the response to a challenge of `verb`, without CRLF."""
        self._transmit(verb, line + b"\r\n")

    # --- reading -------------------------------------------------------------------------------------

    def event(self) -> Event:
        """Returns the next event; waits for octets when there is none."""
        try:
            if self._unsent and (self.pipelines or not self._connection.in_flight):
                self._send_unsent()
            event = self._connection.next_event()
            return self._wait() if event is None else event
        except RemoteProtocolError as error:
            raise self._named(error) from error

    def status(self) -> Status:
        """Returns the status line that answers the oldest command."""
        event = self.event()
        assert isinstance(event, Status), event
        return event

    def status_behind(self) -> tuple[Status, int]:
        """Returns the next status line, with the number of lines before it that were none and are passed over (P52)."""
        connection, before = self._connection, self._connection.passed
        connection.passes_over = True
        try:
            return self.status(), connection.passed - before
        finally:
            connection.passes_over = False

    def lines(self) -> Iterator[bytes]:
        """Yields the lines that answer the oldest command, some whole lines at a time. Raises Refused."""
        verb = self._connection.waiting_for or self._unsent[0][0]
        last = False
        while not last:
            event = self.event()
            if isinstance(event, Status):
                raise refusal(self.address, f"the server refuses {verb.name}", verb, event)
            assert isinstance(event, Text), event
            yield event.octets
            last = event.last

    def check_quiet(self) -> None:
        """Before TLS begins: raise RemoteProtocolError if octets came that answer nothing (CVE-2011-0411)."""
        with self.naming():
            self._connection.check_quiet()

    # --- errors --------------------------------------------------------------------------------------

    def nonsense(self, what: str) -> RemoteProtocolError:
        """Returns the error for a server that does not keep to the protocol."""
        return self._named(RemoteProtocolError(what))

    @contextlib.contextmanager
    def naming(self) -> Iterator[None]:
        """Put the server's address before the errors that the pure parts raise."""
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
        self.transport.send(octets, Deadline(self.deadlines.reply, f"{self.address}: {verb.name} could not be sent"))

    def _wait(self, deadline: Deadline | None = None) -> Event:
        """Wait for an event, as long as the oldest command may take, or until `deadline`."""
        connection, transport = self._connection, self.transport
        verb = connection.waiting_for
        if verb is None:
            raise StateError(f"{self.address}: no reply is outstanding")
        buffer = connection.buffer
        deadline, mark = deadline or self._deadline(verb), transport.octets_in
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
        return Deadline(self.deadlines.of(verb), f"{self.address}: no {_answer_to(verb)}")

    def _lost(self, verb: Verb) -> ConnectionLost:
        return ConnectionLost(
            f"{self.address}: the server closed the connection, no {_answer_to(verb)}; try again later"
        )


def _answer_to(verb: Verb) -> str:
    return "greeting came" if verb is GREETING else f"complete answer to {verb.name} came"
