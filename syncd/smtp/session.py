"""An SMTP connection with its socket: commands out, answers in, a deadline for each wait, names for errors.

After TransportError, RemoteProtocolError or Cancelled a session is over: every later call raises, so that a late reply
is never taken for the reply to another command.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from syncd.auth.patience import says_later
from syncd.errors import Cancelled, ConnectionLost, RemoteProtocolError, StateError, SyncdError, TimedOut
from syncd.net import greetings
from syncd.net.deadline import Deadline
from syncd.net.tls import TlsPolicy
from syncd.net.transport import Transport
from syncd.smtp.connection import Answer, Connection, OutOfStep
from syncd.smtp.quirks import Quirks
from syncd.smtp.transaction import Transaction
from syncd.smtp.values import FINAL, Capabilities, Reply, Verb

SEND_OCTETS = 256 << 10  # the octets that one deadline for sending covers: 1.5 KB a second at least
LAST_WORDS_S = 1.0  # a server that hangs up while we send has mostly said why just before

_FIRST_OCTETS = 200  # of the greeting are kept, to tell what kind of server it is

Command = tuple[Verb, bytes]  # encoded, CRLF included


@dataclass(frozen=True, slots=True)
class Deadlines:
    """The longest time in seconds for each kind of wait (RFC 5321 §4.5.3.2). Octets that drip in do not prolong it."""

    connect: float = 30  # name look-up and all addresses
    tls: float = 30
    greeting: float = 300  # S30: a tarpit is not an outage
    quiet: float = greetings.QUIET_S  # … but when it has said nothing for so long, the port is asked what it is
    reply: float = 300  # EHLO, AUTH, MAIL, RCPT, RSET
    data: float = 120  # 354
    block: float = 180  # to send SEND_OCTETS
    final: float = 600  # S10: the server may scan the content; giving up early makes duplicates (RFC 1047)
    quit: float = 10  # nothing depends on it

    def of(self, verb: Verb) -> float:
        """Returns how many seconds the reply to `verb` may take."""
        if verb in FINAL or verb is Verb.BDAT:
            return self.final
        kinds = {Verb.GREETING: self.greeting, Verb.DATA: self.data, Verb.QUIT: self.quit}
        return kinds.get(verb, self.reply)


class Session:
    """One session with a server. Its methods raise TransportError, RemoteProtocolError, Cancelled.

    `protocol` is "SMTP" or "LMTP".
    """

    def __init__(self, transport: Transport, deadlines: Deadlines, quirks: Quirks, protocol: str = "SMTP") -> None:
        self.transport = transport
        self.address = transport.address
        self.deadlines = deadlines
        self.quirks = quirks
        self.connection = Connection()
        self.capabilities = Capabilities()
        self.may_pipeline = True  # where it is announced
        self.mistrusted = False  # the server is out of step: its last reply may belong to another command
        self.protocol = protocol
        self._first = b""  # of the greeting
        self._together = 0  # commands in the last flight
        self._over = ""  # why the session is over; "" while it goes on

    @property
    def pipelines(self) -> bool:
        """Returns whether commands may leave before earlier ones are answered (RFC 2920; S08: only if announced)."""
        return self.may_pipeline and "PIPELINING" in self.capabilities and not self.quirks.breaks_pipelining

    # --- the beginning -------------------------------------------------------------------------------

    def open(self, tls: TlsPolicy | None) -> Reply:
        """Connect, begin TLS at once if `tls` is given, and return the greeting, whatever it says.

        Raises WrongService for another kind of server, or one that begins otherwise than the configuration says.
        """
        self.transport.connect(self.deadlines.connect)
        try:
            if tls is not None:
                greetings.begin_tls(self.transport, self.protocol, tls, self.deadlines.tls)
            reply = self._greet(tls).reply
        except SyncdError:
            self.end("the connection was lost")
            raise
        if greetings.is_other(self._first, self.protocol):
            raise self._no_greeting()
        return reply

    def _greet(self, tls: TlsPolicy | None) -> Answer:
        """Read the greeting; ask the port what it is while it says nothing."""
        seconds = self.deadlines.of(Verb.GREETING)
        try:
            if self.deadlines.quiet < seconds:
                with contextlib.suppress(TimedOut):
                    return self._wait(self.deadlines.quiet)
                octets = b"" if self._first else greetings.ask_port(self.transport, tls)
                if greetings.is_other(octets, self.protocol):
                    self._first = octets
                    raise OutOfStep("another service answers")
            return self._wait(seconds)
        except RemoteProtocolError as error:
            if not self._first:
                raise
            raise self._no_greeting(str(error)) from error

    def _no_greeting(self, why: str = "") -> RemoteProtocolError:
        octets = self._first
        why = why if greetings.recognise(octets) else ""
        return greetings.not_a_greeting(self.address, self.protocol, octets, why, busy=says_later(octets))

    # --- commands and answers ------------------------------------------------------------------------

    def ask(self, verb: Verb, line: bytes) -> Reply:
        """Send a command and return its reply. No other command may be in flight."""
        self.send([(verb, line)])
        return self.answer().reply

    def send(self, flight: Sequence[Command], transaction: Transaction | None = None) -> None:
        """Send commands in one write. The data of a chunk follows its command."""
        self.expect((verb for verb, _ in flight), transaction)
        self._together = len(flight)
        self.push(b"".join(line for _, line in flight))

    def expect(self, verbs: Iterable[Verb], transaction: Transaction | None = None) -> None:
        """Note commands that are about to be sent."""
        with self._watched():
            for verb in verbs:
                self.connection.sent(verb, transaction)

    def push(self, octets: bytes) -> None:
        """Send octets that are not a command, SEND_OCTETS within each deadline."""
        with self._watched():
            for start in range(0, len(octets), SEND_OCTETS):
                piece = octets if len(octets) <= SEND_OCTETS else octets[start : start + SEND_OCTETS]
                what = f"{self.address}: the server did not take what was sent"
                self.transport.send(piece, Deadline(self.deadlines.block, what))

    def read_answers(self, leave: int = 0) -> None:
        """Read answers until at most `leave` commands are unanswered; each is noted in its transaction."""
        while self.connection.in_flight > leave:
            self.answer()

    def catch_up(self) -> None:
        """Read the answers that are here, without waiting for more. To be called before the end of a message leaves.

        Raises if the session has ended, or if an answer came to a command that has not left.
        """
        connection = self.connection
        while connection.in_flight and (connection.has_line or self.transport.readable()):
            seconds = self.deadlines.of(self._awaited())
            if not connection.has_line:
                with self._watched():
                    self._receive(Deadline(seconds, f"{self.address}: nothing came"))
            if connection.has_octets:  # and not empty lines alone
                self.answer(seconds)
        with self.naming():
            self.connection.check_unanswered()

    def answer(self, seconds: float | None = None) -> Answer:
        """Returns the next reply; waits for it. A refused RSET ends the session (S28)."""
        with self._watched():
            answer = self._wait(self.deadlines.of(self._awaited()) if seconds is None else seconds)
            if answer.verb is Verb.RSET and not answer.reply.ok:
                self.quirks.note_forgets_after_rset(self.address)
                raise ConnectionLost(
                    f"{self.address}: the server refuses RSET: “{answer.reply}”; a new connection may work"
                )
            self._read_to_close()
        return answer

    def last_words(self) -> None:
        """After a loss while sending: read what the server had said before. Never raises."""
        with contextlib.suppress(SyncdError):
            while self.connection.in_flight:
                self._wait(LAST_WORDS_S)
        self._read_to_close()

    def end(self, why: str) -> None:
        """Make the session over: every later call raises."""
        self._over = self._over or why

    def lost(self, why: str) -> ConnectionLost:
        """Make the session over; return the error for a session that cannot go on while a new one can."""
        self.end(why)
        return ConnectionLost(f"{self.address}: {why}; a new connection may work")

    def gone(self) -> ConnectionLost:
        """Returns the error for a call on a session that is over, with the server's last words if there were any."""
        closing = self.connection.closing
        return self.lost(f"the server has closed the session: “{closing}”" if closing else self._over)

    @contextlib.contextmanager
    def naming(self) -> Iterator[None]:
        """Put the server's address before errors that the pure parts raise, and make the session over."""
        try:
            yield
        except RemoteProtocolError as error:
            self.end("the server did not keep to the protocol")
            self.mistrusted = True
            raise type(error)(f"{self.address}: {error}; the session was closed, try again later") from error

    # --- inside --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        if self._over or self.connection.closing:
            raise self.gone()
        try:
            with self.naming():
                yield
        except SyncdError as error:
            self._note(error)
            self.end("the connection was lost")
            raise

    def _read_to_close(self) -> None:
        """S04: 421 is the last reply if the stream ends after it; else messages behind it remain uncertain."""
        if not self.connection.has_behind:
            return
        buffer = self.connection.buffer
        deadline = Deadline(LAST_WORDS_S, f"{self.address}: the server did not close the connection")
        with contextlib.suppress(TimedOut, Cancelled):
            with contextlib.suppress(ConnectionLost):  # which ends the stream as well
                buffer.received(self.transport.receive(buffer.target(), deadline))
            self.connection.closed()

    def _note(self, error: SyncdError) -> None:
        """S07: note a server that swallowed a command of a flight. A slow reply to a message's end does not count."""
        swallowed = self._together > 1 and self.connection.waiting_for not in {None, *FINAL}
        if swallowed and isinstance(error, TimedOut | OutOfStep):
            self.quirks.note_broken_pipelining(self.address)

    def _awaited(self) -> Verb:
        verb = self.connection.waiting_for
        if verb is None:
            raise StateError(f"{self.address}: no reply is outstanding")
        return verb

    def _wait(self, seconds: float) -> Answer:
        verb = self._awaited()
        deadline = Deadline(seconds, f"{self.address}: no {_answer_to(verb)}")
        while (answer := self.connection.next_answer()) is None:
            self._receive(deadline)
        if self.connection.empty_lines:
            self.quirks.note_empty_lines(self.address)
        return answer

    def _receive(self, deadline: Deadline) -> None:
        """Receive what has come, or wait for it."""
        verb, buffer = self._awaited(), self.connection.buffer
        octets = self.transport.receive(buffer.target(), deadline)
        if not octets:
            message = f"{self.address}: the server closed the connection, no {_answer_to(verb)}; try again later"
            raise ConnectionLost(message)
        buffer.received(octets)
        if verb is Verb.GREETING:
            self._first = buffer.peek(_FIRST_OCTETS).lstrip()


def _answer_to(verb: Verb) -> str:
    return "greeting came" if verb is Verb.GREETING else f"reply to {verb.value} came"
