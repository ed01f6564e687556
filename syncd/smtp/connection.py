"""The SMTP session without a socket: octets in, replies out; which reply answers which command in flight.

Whoever has the socket receives into `buffer.target()`, counts with `buffer.received()`, and asks for answers until
there are none. The order of commands is the order of replies (RFC 2920 §3.1), so one queue holds what is in flight;
the replies that belong to a message go to its Transaction, which knows how many LMTP still owes.

All replies look alike: one too many would be taken for the next command's. So octets that answer nothing, a 250 where
only 354 can stand, and the like end the session instead of being passed over (S18).
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from syncd.auth.redaction import Redaction
from syncd.errors import RemoteProtocolError, StateError
from syncd.net.buffer import ReceiveBuffer
from syncd.smtp import grammar
from syncd.smtp.transaction import Transaction
from syncd.smtp.values import CLOSING, FINAL, Reply, Verb

MAX_LINE_OCTETS = 64 << 10  # RFC 5321 §4.5.3.1.5 says 512; real servers say more, none says this much
MAX_REPLY_OCTETS = 64 << 10  # all lines together; real replies to EHLO are under 1 KiB
MAX_REPLY_LINES = 500  # S29


class Answer(NamedTuple):
    """A reply and what it answers. AUTH gives one for each challenge too (`reply.go_on`)."""

    verb: Verb
    reply: Reply
    transaction: Transaction | None


class OutOfStep(RemoteProtocolError):
    """What came is no reply to anything."""


class Connection:
    """One session. Raises RemoteProtocolError: OutOfStep or another; the session is then only closed."""

    __slots__ = ("_behind", "_in_flight", "_lines", "_octets", "buffer", "closing", "redaction")

    def __init__(self) -> None:
        self.buffer = ReceiveBuffer(MAX_LINE_OCTETS)
        self.redaction = Redaction()  # of what the server repeats
        self.closing: Reply | None = None  # 421 came: the server says no more
        self._behind: list[Transaction] = []  # … to what was sent behind it
        self._in_flight: deque[tuple[Verb, Transaction | None]] = deque([(Verb.GREETING, None)])
        self._lines: list[grammar.Line] = []  # of a reply that has not ended
        self._octets = 0

    @property
    def waiting_for(self) -> Verb | None:
        """The oldest command that is not yet answered in full."""
        return self._in_flight[0][0] if self._in_flight else None

    @property
    def in_flight(self) -> int:
        """How many commands are not yet answered in full."""
        return len(self._in_flight)

    @property
    def has_behind(self) -> bool:
        """Whether messages were on their way behind the command that 421 answered."""
        return bool(self._behind)

    def closed(self) -> None:
        """The server has ended the stream after 421, and said nothing more: it has not looked at what was behind."""
        if self.closing is not None and not len(self.buffer):
            for transaction in self._behind:
                transaction.close(self.closing)
        self._behind = []

    @property
    def has_line(self) -> bool:
        """Whether a whole line is here that was not read."""
        return self.buffer.find(b"\n") >= 0

    def sent(self, verb: Verb, transaction: Transaction | None = None) -> None:
        """Note that a command is on its way. Octets that answer nothing mean a server out of step, or its 421."""
        if self.closing:
            raise StateError("the server has closed the session")
        if not self._in_flight and len(self.buffer):
            raise self._desync()
        self._in_flight.append((verb, transaction))

    def check_quiet(self) -> None:
        """Before TLS begins: nothing may have come with or after the reply to STARTTLS (CVE-2011-0411)."""
        if self._in_flight:
            raise StateError("TLS cannot begin while replies are outstanding")
        if len(self.buffer):
            raise RemoteProtocolError(
                f"octets in clear came between the reply to STARTTLS and TLS: “{self._quote(200)}”; "
                "somebody may be tampering with the connection"
            )

    def check_unanswered(self) -> None:
        """Where all but the last command are answered, and it has not left in full: nothing may have come for it."""
        if len(self._in_flight) == 1 and len(self.buffer):
            raise self._desync()

    def next_answer(self) -> Answer | None:
        """The next reply, or None when more octets are needed."""
        buffer = self.buffer
        while self._in_flight and (at := buffer.find(b"\n")) >= 0:
            line = self._read_line(buffer.take(at + 1))
            self._lines.append(line)
            self._octets += len(line.text)
            if not line.more:
                return self._end_reply()
            if len(self._lines) >= MAX_REPLY_LINES or self._octets > MAX_REPLY_OCTETS:
                raise RemoteProtocolError(
                    f"a reply to {self._what()} of more than {MAX_REPLY_LINES} lines or {MAX_REPLY_OCTETS} octets"
                )
        self._check_beginning()
        return None

    def _read_line(self, octets: bytes) -> grammar.Line:
        if not octets.endswith(b"\r\n"):
            raise RemoteProtocolError(
                f"the server ends lines with LF alone (RFC 5321 §2.3.8 wants CRLF) in “{self.redaction.quote(octets)}”"
            )
        try:
            return grammar.reply_line(octets[:-2], self.redaction.quote)
        except RemoteProtocolError as error:
            raise self._out_of_step(str(error)) from error

    def _check_beginning(self) -> None:
        """Find nonsense as soon as it can be told, rather than wait for the end of its line."""
        buffer = self.buffer
        if not self._in_flight or not len(buffer):
            return
        if buffer.octets[buffer.start] not in b"2345":
            raise self._desync()
        if len(buffer) > MAX_LINE_OCTETS:
            raise RemoteProtocolError(f"a line of more than {MAX_LINE_OCTETS} octets: “{self._quote(80)}”")

    def _end_reply(self) -> Answer:
        lines, self._lines, self._octets = self._lines, [], 0
        reply = grammar.reply(lines, self.redaction.quote)
        verb, transaction = self._in_flight[0]
        if reply.code >= 400 or verb in FINAL:  # others are not shown to anybody
            reply = reply._replace(text=tuple(map(self.redaction.blank, reply.text)))
        self._check_class(verb, reply)
        if transaction is not None:
            transaction.note(verb, reply)
        if reply.code == CLOSING:  # S04: nothing else is answered
            self.closing = reply
            self._behind = [behind for _, behind in self._in_flight if behind is not None and behind is not transaction]
            self._in_flight.clear()
        elif self._is_answered(verb, reply, transaction):
            self._in_flight.popleft()
        return Answer(verb, reply, transaction)

    def _check_class(self, verb: Verb, reply: Reply) -> None:
        """A yes of the wrong kind answers something else. A no is possible anywhere (RFC 5321 §4.2.1)."""
        wrong = (reply.ok and verb is Verb.DATA) or (reply.go_on and verb not in {Verb.DATA, Verb.AUTH})
        if wrong:
            raise self._out_of_step(f"unexpected “{self.redaction.quote(str(reply).encode())}”")

    def _is_answered(self, verb: Verb, reply: Reply, transaction: Transaction | None) -> bool:
        if verb is Verb.AUTH:
            return not reply.go_on
        return verb not in FINAL or transaction is None or transaction.complete

    def _what(self) -> str:
        return self._in_flight[0][0].value if self._in_flight else "no command"

    def _out_of_step(self, what: str) -> OutOfStep:
        return OutOfStep(f"in reply to {self._what()}: {what}; client and server are out of step")

    def _desync(self) -> OutOfStep:
        return self._out_of_step(f"unexpected “{self._quote(200)}”")

    def _quote(self, octets: int) -> str:
        """The beginning of what was not read."""
        return self.redaction.quote(self.buffer.peek(octets))
