"""An IMAP session: commands out, events to whom they belong.

Commands given to `ask` leave in one flight when an answer is waited for. Untagged data is offered to the commands in
flight, the oldest first (each knows what it takes), then to the state of the session: capabilities, the selected
mailbox. A command with a literal that must be asked for ends its flight (I22).
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator

from syncd.auth.redaction import Redaction
from syncd.errors import Refused, RemoteProtocolError, StateError, printable
from syncd.imap import encoder, grammar
from syncd.imap.encoder import Parts
from syncd.imap.events import (
    Continuation,
    Event,
    Literal,
    Rows,
    Tagged,
    Text,
)
from syncd.imap.quirks import Quirks, is_throttled
from syncd.imap.refusals import refusal
from syncd.imap.state import note
from syncd.imap.values import (
    Capabilities,
    FetchRow,
    Kind,
    Selected,
    Status,
    Verb,
)
from syncd.imap.wire import Deadlines, Wire
from syncd.net.tls import TlsPolicy
from syncd.net.transport import Transport

SEND_OCTETS = 256 << 10  # written in one piece, while a long command is sent


Take = Callable[[Event], bool]  # takes an event that belongs to a command; returns False for another's


class Command:
    """A command that was asked. `status` is its end, None before it has come.

    `take` gets what belongs to the command, and `ended` is called at its end, before anything that comes behind it.
    """

    __slots__ = ("ended", "parts", "status", "tag", "take", "verb")

    def __init__(self, verb: Verb, parts: Parts, take: Take | None) -> None:
        self.verb = verb
        self.parts = parts
        self.take = take
        self.ended: Callable[[Status], None] | None = None
        self.tag = ""
        self.status: Status | None = None


class Session:
    """A session with a server.

    Its methods raise TransportError, RemoteProtocolError, Cancelled and what `refusals.goodbye` gives, after which the
    session can only be closed, and Refused, after which it goes on.

    `capabilities`, `enabled`, `greeting` and `selected` are what the server said last.
    """

    def __init__(
        self,
        transport: Transport,
        deadlines: Deadlines,
        max_message_octets: int,
        quirks: Quirks | None = None,
        *,
        may_pipeline: bool = True,
    ) -> None:
        """With `may_pipeline=False` commands leave one at a time."""
        self.transport = transport
        self.address = transport.address
        self.deadlines = deadlines
        self.quirks = quirks or Quirks()
        self.capabilities = Capabilities()
        self.enabled: frozenset[str] = frozenset()
        self.greeting = Status(Kind.BYE)
        self.selected: Selected | None = None
        self.not_opened: Refused | None = None  # why no mailbox is open, after a SELECT or EXAMINE was refused
        self.throttled = 0  # I09: answers in which the server says that it slows us down
        self.may_pipeline = may_pipeline
        self._wire = Wire(transport, deadlines, max_message_octets)
        self._unsent: deque[Command] = deque()
        self._commands: dict[str, Command] = {}  # in flight, the oldest first
        self._continuation: Continuation | None = None

    @property
    def in_flight(self) -> int:
        """Returns how many commands were sent and are not yet answered in full."""
        return len(self._commands)

    @property
    def over(self) -> bool:
        """Returns whether the server has ended the session."""
        return self._wire.connection.closing is not None

    def is_oldest(self, command: Command) -> bool:
        """Returns whether all commands before this one have ended."""
        return next(iter(self._commands.values()), None) is command

    @property
    def redaction(self) -> Redaction:
        """Returns what is blanked in the server's words before an error shows them."""
        return self._wire.connection.redaction

    @property
    def bad(self) -> int:
        """Returns how many commands the server called bad (I105)."""
        return self._wire.connection.counts.bad

    @property
    def utf8(self) -> bool:
        """Returns whether names of mailboxes are UTF-8 (RFC 6855 §3, RFC 9051 §5.1; I33)."""
        return "UTF8=ACCEPT" in self.enabled or "IMAP4REV2" in self.enabled

    def losing(self) -> FetchRow | None:
        """Returns what is known of the message whose response has begun and not ended (I132)."""
        return self._wire.connection.unfinished()

    # --- beginning -----------------------------------------------------------------------------------

    def open(self, tls: TlsPolicy | None) -> None:
        """Connect, begin TLS at once if `tls` is given, read the greeting, whatever it says. Raises WrongService."""
        self.greeting = self._wire.open(tls)
        self._told(self.greeting)

    def start_tls(self, tls: TlsPolicy) -> None:
        """Begin TLS on the connection; what was announced in clear is forgotten (RFC 3501 §6.2.1)."""
        self._wire.start_tls(tls)
        self.capabilities = Capabilities()

    # --- asking --------------------------------------------------------------------------------------

    def ask(self, verb: Verb, *arguments: bytes, take: Take | None = None) -> Command:
        """Queue a command; it leaves when an answer is waited for. Raises LocalProtocolError.

        `arguments` are as `encoder.command` has them.
        """
        parts = encoder.command(verb, *arguments, literal_octets=self.capabilities.literal_octets, utf8=self.utf8)
        return self.ask_parts(verb, parts, take)

    def ask_parts(self, verb: Verb, parts: Parts, take: Take | None = None) -> Command:
        """Queue a command that is encoded already."""
        command = Command(verb, parts, take)
        self._unsent.append(command)
        return command

    def respond(self, line: bytes) -> None:
        """Send a line that is no command: the response to a challenge, without CRLF."""
        self._wire.transmit(line + b"\r\n")

    def send_flow(self, verb: Verb, flow: Iterator[bytes | None]) -> Command:
        """Send a command of any length at once; the answer is not waited for.

        Where `flow` has None, the server is first waited for to ask for what follows. A server that refuses the command
        instead gets no more of it: then the command has ended. What the command carries is read as it is sent.
        """
        self.flush()
        while not self.may_pipeline and (self._commands or self._unsent):
            self.step()
        command = Command(verb, [], None)
        self._sent(command)
        waiting, octets = [command.tag.encode(), b" "], 0
        for piece in flow:
            if piece is None:
                self._wire.transmit(b"".join(waiting))
                waiting, octets = [], 0
                if self.challenge(command) is None:
                    return command
                continue
            waiting.append(piece)
            octets += len(piece)
            if octets >= SEND_OCTETS:
                self._wire.transmit(b"".join(waiting))
                waiting, octets = [], 0
        self._wire.transmit(b"".join(waiting))
        return command

    def flush(self) -> None:
        """Send what is queued, in one piece up to each literal that must be asked for."""
        while self._unsent and (self.may_pipeline or not self._commands):
            flight: list[bytes] = []
            waiting: Command | None = None
            while self._unsent and waiting is None and (self.may_pipeline or not flight):
                command = self._unsent.popleft()
                self._sent(command)
                flight += [command.tag.encode(), b" ", command.parts[0]]
                waiting = command if len(command.parts) > 1 else None
            self._wire.transmit(b"".join(flight))
            if waiting is not None:
                self._send_literals(waiting)

    def _sent(self, command: Command) -> None:
        """Give a command its tag, just before it is sent."""
        command.tag = self._wire.sent(command.verb)
        self._commands[command.tag] = command

    def _send_literals(self, command: Command) -> None:
        """Send the parts of a command, each when it is asked for. A server that refuses the command gets no more."""
        for part in command.parts[1:]:
            if self.challenge(command) is None:
                return
            self._wire.transmit(part)

    # --- answers -------------------------------------------------------------------------------------

    def finish(self, command: Command) -> Status:
        """Returns the end of a command; waits for it. What comes meanwhile goes to whom it belongs."""
        self.flush()
        while command.status is None:
            self.step()
        return command.status

    def challenge(self, command: Command) -> Continuation | None:
        """Returns the next continuation request; None when the command has ended instead."""
        self.flush()
        self.transport.acknowledge()  # Courier sends the answer to the command before, and then this
        while command.status is None:
            if self._continuation is not None:
                found, self._continuation = self._continuation, None
                return found
            self.step()
        return None

    def step(self) -> None:
        """Wait for one event, and give it to whom it belongs."""
        if not self._commands:
            self.flush()
        if not self._commands:
            raise StateError(f"{self.address}: no reply is outstanding")
        self._give(self._wire.next_event())

    def naming(self) -> contextlib.AbstractContextManager[None]:
        """Put the server's address before the errors that the pure parts raise."""
        return self._wire.naming()

    def nonsense(self, what: str) -> RemoteProtocolError:
        """Returns the error for a server that does not keep to the protocol."""
        return self._wire.named(RemoteProtocolError(what))

    def refused(self, command: Command, what: str, hint: str = "") -> Refused:
        """Returns the error for a command that ended with NO or BAD."""
        assert command.status is not None, command.verb
        return refusal(self.address, what, command.verb, command.status, hint)

    # --- inside --------------------------------------------------------------------------------------

    def _give(self, event: Event) -> None:
        if isinstance(event, Tagged):
            self._end(event)
        elif isinstance(event, Continuation):
            self._continuation = event
            self._wire.progressed()
        else:
            for command in self._commands.values():
                if command.take is not None and command.take(event):
                    self._wire.progressed()
                    return
            self._news(event)

    def _end(self, event: Tagged) -> None:
        command = self._commands.pop(event.tag)
        self._told(event.status)
        self._wire.progressed()
        command.status = event.status
        if command.ended is not None:
            command.ended(event.status)
        self.throttled += is_throttled(event.status.text)
        if event.status.kind is Kind.BAD:
            self.quirks.note("I105", self.address)

    def _news(self, event: Event) -> None:
        """Keep what belongs to no command."""
        if isinstance(event, Capabilities):
            self.capabilities = event
        elif isinstance(event, Status):
            self._told(event)
        if isinstance(event, Literal) or (isinstance(event, FetchRow) and event.texts):
            self.quirks.note("I130", self.address)
        if self.selected is not None and not isinstance(event, Text | Literal | Rows):
            note(self.selected, event)
        if self._wire.connection.counts.unread:
            self.quirks.note("I30", self.address)

    def _told(self, status: Status) -> None:
        """A status may bring the list of capabilities, or a text that a person must see (RFC 3501 §7.1)."""
        if status.ok and status.code.name == "CAPABILITY":
            self.capabilities = grammar.capabilities(status.code.arguments)
        if status.code.name == "ALERT":
            self.quirks.hear(printable(status.text), self.address)
