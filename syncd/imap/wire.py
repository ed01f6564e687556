"""The socket of an IMAP connection: octets out, events in, a deadline for each wait, names for errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from syncd.auth.patience import says_later
from syncd.errors import ConnectionLost, RemoteProtocolError, TimedOut
from syncd.imap.connection import Connection
from syncd.imap.events import Event, NoGreeting
from syncd.imap.refusals import goodbye
from syncd.imap.values import Status, Verb
from syncd.net import greetings
from syncd.net.deadline import Deadline
from syncd.net.tls import TlsPolicy
from syncd.net.transport import Transport

PROTOCOL = "IMAP"
PROGRESS_OCTETS = 4 << 10  # after this much of an answer its deadline starts again: 34 octets/s
LAST_WORDS_S = 1.0  # a server that hangs up while we send has mostly said why just before


@dataclass(frozen=True, slots=True)
class Deadlines:
    """The longest time in seconds for each kind of wait. Octets that drip in do not prolong a wait."""

    connect: float = 30  # name look-up and all addresses
    tls: float = 30
    greeting: float = 40  # a server may look up our name first, which takes up to 30 s
    quiet: float = greetings.QUIET_S  # … but when it has said nothing for so long, the port is asked what it is
    reply: float = 120  # I108: some servers make a wrong password wait
    listing: float = 300  # a server may open every mailbox or message to answer (I78)
    body: float = 120  # for each PROGRESS_OCTETS
    logout: float = 10  # nothing depends on it

    def of(self, verb: Verb) -> float:
        """Returns how many seconds the answer to `verb` may take."""
        return self.listing if verb in _LONG else self.logout if verb is Verb.LOGOUT else self.reply


_LONG = frozenset(
    {
        Verb.LIST,
        Verb.LSUB,
        Verb.STATUS,
        Verb.SELECT,
        Verb.EXAMINE,
        Verb.UID_FETCH,
        Verb.UID_SEARCH,
        Verb.UID_STORE,
        Verb.UID_EXPUNGE,
        Verb.EXPUNGE,
        Verb.UID_MOVE,
        Verb.CLOSE,
        Verb.CREATE,
        Verb.APPEND,
    }
)


class Wire:
    """A connection with its socket. Its methods raise TransportError, RemoteProtocolError, Cancelled.

    A server that ends the session by BYE gives what `refusals.goodbye` makes of it, once nothing more comes.
    """

    def __init__(self, transport: Transport, deadlines: Deadlines, max_message_octets: int) -> None:
        self.transport = transport
        self.address = transport.address
        self.deadlines = deadlines
        self.connection = Connection(max_message_octets)
        self._deadline: Deadline | None = None  # of the wait for the oldest command
        self._mark = 0  # octets that had come when it began

    # --- beginning -----------------------------------------------------------------------------------

    def open(self, tls: TlsPolicy | None) -> Status:
        """Connect, begin TLS at once if `tls` is given, and return the greeting, whatever it says.

        Raises WrongService for another kind of server, or one that begins otherwise than the configuration says.
        """
        self.transport.connect(self.deadlines.connect)
        if tls is not None:
            greetings.begin_tls(self.transport, PROTOCOL, tls, self.deadlines.tls)
        try:
            return self._greet(tls)
        except NoGreeting as error:
            busy = says_later(error.octets)
            raise greetings.not_a_greeting(self.address, PROTOCOL, error.octets, error.why, busy=busy) from error
        except RemoteProtocolError as error:
            raise self.named(error) from error

    def _greet(self, tls: TlsPolicy | None) -> Status:
        """Read the greeting; ask the port what it is while it says nothing."""
        if self.deadlines.quiet < self.deadlines.greeting:
            try:
                return self._greeting(self.deadlines.quiet)
            except TimedOut:
                self.connection.check_greeting()
                octets = b"" if self.connection.in_response else greetings.ask_port(self.transport, tls)
                if greetings.recognise(octets) not in {"", PROTOCOL}:
                    raise NoGreeting(octets) from None
        return self._greeting(self.deadlines.greeting)

    def _greeting(self, seconds: float) -> Status:
        deadline = Deadline(seconds, f"{self.address}: no greeting came")
        while (event := self.connection.next_event()) is None:
            self._receive(deadline, "greeting came")
        assert isinstance(event, Status), event
        return event

    def start_tls(self, tls: TlsPolicy) -> None:
        """Begin TLS on the connection, if nothing has come behind the answer to STARTTLS (CVE-2011-0411)."""
        with self.naming():
            self.connection.check_quiet()
        self.transport.start_tls(tls, self.deadlines.tls)

    # --- octets --------------------------------------------------------------------------------------

    def sent(self, verb: Verb) -> str:
        """Note a command that is about to be sent. Returns its tag. Raises the goodbye of a server that has said it."""
        if self.connection.closing is not None:
            raise goodbye(self.address, self.connection.closing)
        return self.connection.sent(verb)

    def transmit(self, octets: bytes) -> None:
        """Send octets."""
        self.progressed()
        deadline = Deadline(self.deadlines.reply, f"{self.address}: commands could not be sent")
        try:
            self.transport.send(octets, deadline)
        except ConnectionLost:
            self._last_words()
            raise

    def next_event(self) -> Event:
        """Returns the next event; waits for it, as long as the oldest command may take."""
        try:
            event = self.connection.next_event()
            while event is None:
                event = self._wait()
        except RemoteProtocolError as error:
            raise self.named(error) from error
        return event

    def progressed(self) -> None:
        """Note that an event has answered something, so that the next wait has all its time."""
        self._deadline = None

    # --- errors --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def naming(self) -> Iterator[None]:
        """Put the server's address before the errors that the pure parts raise."""
        try:
            yield
        except RemoteProtocolError as error:
            raise self.named(error) from error

    def named(self, error: RemoteProtocolError) -> RemoteProtocolError:
        """Returns the error with the server's address before it."""
        return type(error)(f"{self.address}: {error}; the session was closed, try again later")

    # --- inside --------------------------------------------------------------------------------------

    def _last_words(self) -> None:
        """After a loss while sending: read what the server had said before. Raises its goodbye, or nothing."""
        deadline = Deadline(LAST_WORDS_S, f"{self.address}: nothing came")
        with contextlib.suppress(ConnectionLost, TimedOut, RemoteProtocolError):
            while self.connection.closing is None:
                if self.connection.next_event() is None:
                    self._receive(deadline, "goodbye came")
        if self.connection.closing is not None:
            raise goodbye(self.address, self.connection.closing)

    def _wait(self) -> Event | None:
        """Receive once."""
        verb = self.connection.waiting_for
        assert verb is not None, "a command is in flight"
        octets_in = self.transport.octets_in
        if self._deadline is None or octets_in - self._mark >= PROGRESS_OCTETS:
            seconds = self.deadlines.body if self.connection.in_response else self.deadlines.of(verb)
            self._deadline = Deadline(seconds, f"{self.address}: no complete answer to {verb.value} came")
            self._mark = octets_in
        closing = self.connection.closing
        deadline = self._deadline if closing is None else Deadline(LAST_WORDS_S, f"{self.address}: nothing came")
        try:
            self._receive(deadline, f"complete answer to {verb.value} came")
        except TimedOut:
            if closing is not None:  # a server that says goodbye and does not hang up
                raise goodbye(self.address, closing) from None
            raise
        return self.connection.next_event()

    def _receive(self, deadline: Deadline, due: str) -> None:
        buffer, closing = self.connection.buffer, self.connection.closing
        try:
            octets = self.transport.receive(buffer.target(), deadline)
        except ConnectionLost:
            if closing is not None:
                raise goodbye(self.address, closing) from None
            raise
        if not octets and closing is not None:
            raise goodbye(self.address, closing)
        if not octets:
            raise ConnectionLost(f"{self.address}: the server closed the connection, no {due}; try again later")
        buffer.received(octets)
