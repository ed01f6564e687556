"""A connection with its socket: commands out, answers in, a deadline for each wait, and one end to all errors.

After TransportError, RemoteProtocolError or Cancelled a session is over: whatever is asked of it then raises, so that
nobody takes a late reply for another command's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from syncd.errors import Cancelled, ConnectionLost, RemoteProtocolError, StateError, SyncdError, TimedOut
from syncd.net.deadline import Deadline
from syncd.net.transport import Transport
from syncd.smtp.connection import Answer, Connection, OutOfStep
from syncd.smtp.quirks import Quirks
from syncd.smtp.transaction import Transaction
from syncd.smtp.values import FINAL, Capabilities, Reply, Verb

SEND_OCTETS = 256 << 10  # what one deadline for sending is for: 1.5 KB a second at least
LAST_WORDS_S = 1.0  # a server that hangs up while we send has mostly said why just before

Command = tuple[Verb, bytes]  # encoded, CRLF included


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that each kind of wait may take in all, however its octets are dripped (RFC 5321 §4.5.3.2)."""

    connect: float = 30  # name look-up and all addresses
    tls: float = 30
    greeting: float = 300  # S30: a tarpit is no outage
    reply: float = 300  # EHLO, AUTH, MAIL, RCPT, RSET
    data: float = 120  # 354
    block: float = 180  # for each SEND_OCTETS that leave
    final: float = 600  # S10: the content may be scanned; giving up early makes duplicates (RFC 1047). Chunks too
    quit: float = 10  # nothing depends on it

    def of(self, verb: Verb) -> float:
        """How long the reply to a command may take."""
        if verb in FINAL or verb is Verb.BDAT:
            return self.final
        kinds = {Verb.GREETING: self.greeting, Verb.DATA: self.data, Verb.QUIT: self.quit}
        return kinds.get(verb, self.reply)


class Session:
    """One session with a server. Its methods raise TransportError, RemoteProtocolError, Cancelled."""

    def __init__(self, transport: Transport, deadlines: Deadlines, quirks: Quirks) -> None:
        self.transport = transport
        self.address = transport.address
        self.deadlines = deadlines
        self.quirks = quirks
        self.connection = Connection()
        self.capabilities = Capabilities()
        self.may_pipeline = True  # where it is announced
        self._together = 0  # commands in the last flight
        self._over = ""  # why

    @property
    def pipelines(self) -> bool:
        """Whether commands may leave before earlier ones are answered (RFC 2920; S08: only where it is announced)."""
        return self.may_pipeline and "PIPELINING" in self.capabilities and not self.quirks.breaks_pipelining

    def ask(self, verb: Verb, line: bytes) -> Reply:
        """Send one command and wait for its reply. Nothing else may be in flight."""
        self.send([(verb, line)])
        return self.answer().reply

    def send(self, flight: Sequence[Command], transaction: Transaction | None = None) -> None:
        """Send commands in one write. A chunk's data stands behind its command."""
        self.expect((verb for verb, _ in flight), transaction)
        self._together = len(flight)
        self.push(b"".join(line for _, line in flight))

    def expect(self, verbs: Iterable[Verb], transaction: Transaction | None = None) -> None:
        """Note commands that are about to be sent."""
        with self._watched():
            for verb in verbs:
                self.connection.sent(verb, transaction)

    def push(self, octets: bytes) -> None:
        """Send octets that are no command, SEND_OCTETS within each deadline."""
        with self._watched():
            for start in range(0, len(octets), SEND_OCTETS):
                piece = octets if len(octets) <= SEND_OCTETS else octets[start : start + SEND_OCTETS]
                what = f"{self.address}: the server did not take what was sent"
                self.transport.send(piece, Deadline(self.deadlines.block, what))

    def settle(self, leave: int = 0) -> None:
        """Read answers until at most so many commands are unanswered; they are noted in their transactions."""
        while self.connection.in_flight > leave:
            self.answer()

    def catch_up(self) -> None:
        """Before the end of a message leaves: read the answers that are here, and wait for no others.

        Raises for a session that has ended, or an answer to what has not left.
        """
        while self.connection.in_flight and (self.connection.has_line or self.transport.readable()):
            self.answer()
        with self.naming():
            self.connection.check_unanswered()

    def answer(self) -> Answer:
        """The next reply; waits for it. A refused RSET ends the session (S28)."""
        with self._watched():
            answer = self.connection.next_answer() or self._wait(self.deadlines.of(self._awaited()))
            if answer.verb is Verb.RSET and not answer.reply.ok:
                self.quirks.note_forgets_after_rset(self.address)
                raise ConnectionLost(
                    f"{self.address}: the server refuses RSET: “{answer.reply}”; a new connection can go on"
                )
            self._hear_out()
        return answer

    def last_words(self) -> None:
        """After a loss while sending: read what the server had said before. Never raises."""
        with contextlib.suppress(SyncdError):
            while self.connection.in_flight:
                _ = self.connection.next_answer() or self._wait(LAST_WORDS_S)
        self._hear_out()

    def end(self, why: str) -> None:
        """Let nothing more be asked."""
        self._over = self._over or why

    def lost(self, why: str) -> ConnectionLost:
        """The error for a session that cannot go on, where another one can; it is over now."""
        self.end(why)
        return ConnectionLost(f"{self.address}: {why}; a new connection can go on")

    def gone(self) -> ConnectionLost:
        """The error for what is asked of a session that is over: the server's last words, if there were any."""
        closing = self.connection.closing
        return self.lost(f"the server has closed the session: “{closing}”" if closing else self._over)

    @contextlib.contextmanager
    def naming(self) -> Iterator[None]:
        """Put the address before what the pure parts have to say; the session is over then."""
        try:
            yield
        except RemoteProtocolError as error:
            self.end("the server did not keep to the protocol")
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

    def _hear_out(self) -> None:
        """S04: 421 is the last reply and the end of the stream follows, or what is behind it remains in doubt."""
        if not self.connection.has_behind:
            return
        buffer = self.connection.buffer
        deadline = Deadline(LAST_WORDS_S, f"{self.address}: the server did not close the connection")
        with contextlib.suppress(TimedOut, Cancelled):
            with contextlib.suppress(ConnectionLost):  # which is an end as well
                buffer.received(self.transport.receive(buffer.target(), deadline))
            self.connection.closed()

    def _note(self, error: SyncdError) -> None:
        """S07: a command of a flight of several was swallowed. The end of a message may just be slow."""
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
        buffer = self.connection.buffer
        deadline = Deadline(seconds, f"{self.address}: no {_answer_to(verb)}")
        while True:
            octets = self.transport.receive(buffer.target(), deadline)
            if not octets:
                message = f"{self.address}: the server closed the connection, no {_answer_to(verb)}; try again later"
                raise ConnectionLost(message)
            buffer.received(octets)
            answer = self.connection.next_answer()
            if answer is not None:
                return answer


def _answer_to(verb: Verb) -> str:
    return "greeting came" if verb is Verb.GREETING else f"reply to {verb.value} came"
