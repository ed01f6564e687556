"""The SMTP session without a socket: octets in, replies out. It matches replies to commands in flight.

The owner of the socket receives into `buffer.target()`, counts with `buffer.received()`, and asks for answers until
there are none. Replies come in the order of the commands (RFC 2920 §3.1), so one queue has the commands in flight. The
replies for a message go to its Transaction, which knows how many replies LMTP still owes.

All replies look alike, so a surplus reply would be taken for the reply to the next command. Therefore octets that
answer nothing, or a 250 where only 354 is possible, end the session (S18). An empty line cannot be taken for a reply:
it is passed over (S31).
"""

from __future__ import annotations

import re
from collections import deque
from typing import Final, NamedTuple

from syncd.auth.redaction import Redaction
from syncd.errors import RemoteProtocolError, StateError
from syncd.net.buffer import ReceiveBuffer
from syncd.smtp import grammar
from syncd.smtp.transaction import Transaction
from syncd.smtp.values import CLOSING, FINAL, Reply, Verb

MAX_LINE_OCTETS = 64 << 10  # RFC 5321 §4.5.3.1.5 says 512; real servers say more, none says this much
MAX_REPLY_OCTETS = 64 << 10  # all lines together; real replies to EHLO are under 1 KiB
MAX_REPLY_LINES = 500  # S29
_BLANKS_OCTETS = 80  # S31: so many may turn out to be an empty line

_TELLING = frozenset({Verb.MAIL, Verb.RCPT})
_EMPTY_LINES: Final = re.compile(rb"(?:[ \t]*\r?\n)+")


class Answer(NamedTuple):
    """A reply and the command it answers. AUTH also gives an answer for each challenge (`reply.go_on`)."""

    verb: Verb
    reply: Reply
    transaction: Transaction | None


class OutOfStep(RemoteProtocolError):
    """The server sent something that answers no command."""


class Connection:
    """One session. Raises RemoteProtocolError (also OutOfStep), after which the session can only be closed."""

    __slots__ = (
        "_behind",
        "_in_flight",
        "_lines",
        "_octets",
        "_usual",
        "buffer",
        "closing",
        "empty_lines",
        "redaction",
    )

    def __init__(self) -> None:
        self.buffer = ReceiveBuffer(MAX_LINE_OCTETS)
        self.redaction = Redaction()  # for errors that quote the server
        self.closing: Reply | None = None  # 421 came: the server says no more
        self.empty_lines = False  # S31: some were passed over
        self._behind: list[Transaction] = []  # messages that were sent behind the command that 421 answered
        self._in_flight: deque[tuple[Verb, Transaction | None]] = deque([(Verb.GREETING, None)])
        self._lines: list[grammar.Line] = []  # the lines of a reply that has not ended
        self._octets = 0
        self._usual: dict[Verb, Reply] = {}  # this server's positive replies to MAIL and to RCPT

    @property
    def waiting_for(self) -> Verb | None:
        """Returns the oldest command that is not yet answered in full."""
        return self._in_flight[0][0] if self._in_flight else None

    @property
    def in_flight(self) -> int:
        """Returns how many commands are not yet answered in full."""
        return len(self._in_flight)

    @property
    def has_behind(self) -> bool:
        """Returns whether messages were on their way behind the command that 421 answered."""
        return bool(self._behind)

    def closed(self) -> None:
        """Note that the stream ended after 421. If nothing else came, the server has not read the messages behind."""
        if self.closing is not None and not self.has_octets:
            for transaction in self._behind:
                transaction.close(self.closing)
        self._behind = []

    @property
    def has_line(self) -> bool:
        """Returns whether a whole line is here that was not read, besides empty lines."""
        return self.has_octets and self.buffer.find(b"\n") >= 0

    @property
    def has_octets(self) -> bool:
        """Returns whether octets are here that were not read. S31: passes over empty lines."""
        buffer = self.buffer
        if buffer.start < buffer.end and buffer.octets[buffer.start] in b" \t\r\n":
            found = _EMPTY_LINES.match(buffer.octets, buffer.start, buffer.end)
            if found is not None:
                self.empty_lines = True
                buffer.drop(found.end())
        return len(buffer) > 0

    def sent(self, verb: Verb, transaction: Transaction | None = None) -> None:
        """Note a command as sent. Octets that came before, and answer nothing, mean a server out of step."""
        if self.closing:
            raise StateError("the server has closed the session")
        if not self._in_flight and self.has_octets:
            raise self._desync()
        self._in_flight.append((verb, transaction))

    def check_quiet(self) -> None:
        """Before TLS begins: raise if octets came with or after the reply to STARTTLS (CVE-2011-0411)."""
        if self._in_flight:
            raise StateError("TLS cannot begin while replies are outstanding")
        if self.has_octets:
            raise RemoteProtocolError(
                f"the server sent octets in clear after its reply to STARTTLS: “{self._quote(200)}”; "
                "somebody may be tampering with the connection"
            )

    def check_unanswered(self) -> None:
        """Raise if octets came for the last command, which has not left in full, while all others are answered."""
        if len(self._in_flight) == 1 and self.has_octets:
            raise self._desync()

    def next_answer(self) -> Answer | None:
        """Returns the next reply, or None when more octets are needed."""
        buffer = self.buffer
        while self._in_flight and self.has_octets and (at := buffer.find(b"\n")) >= 0:
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
        """Raise for a wrong first octet or an endless line, rather than wait for the end of the line."""
        buffer = self.buffer
        if not self._in_flight or not len(buffer):
            return
        if buffer.octets[buffer.start] not in (b"2345 \t\r" if len(buffer) < _BLANKS_OCTETS else b"2345"):
            raise self._desync()
        if len(buffer) > MAX_LINE_OCTETS:
            raise RemoteProtocolError(f"a line of more than {MAX_LINE_OCTETS} octets: “{self._quote(80)}”")

    def _end_reply(self) -> Answer:
        lines, self._lines, self._octets = self._lines, [], 0
        reply = grammar.reply(lines, self.redaction.quote)
        verb, transaction = self._in_flight[0]
        if reply.code >= 400 or verb in FINAL:  # other replies are never shown
            reply = reply._replace(text=tuple(map(self.redaction.blank, reply.text)))
        self._check_class(verb, reply)
        if reply.ok and verb in _TELLING:
            self._check_words(verb, reply)
        if transaction is not None:
            transaction.note(verb, reply)
        if reply.code == CLOSING:  # S04: it is the last reply
            self.closing = reply
            self._behind = [behind for _, behind in self._in_flight if behind is not None and behind is not transaction]
            self._in_flight.clear()
        elif self._is_answered(verb, reply, transaction):
            self._in_flight.popleft()
        return Answer(verb, reply, transaction)

    def _check_class(self, verb: Verb, reply: Reply) -> None:
        """Raise for a positive reply of the wrong kind. A refusal is possible anywhere (RFC 5321 §4.2.1)."""
        wrong = (reply.ok and verb is Verb.DATA) or (reply.go_on and verb not in {Verb.DATA, Verb.AUTH})
        if wrong:
            raise self._out_of_step(f"unexpected “{self.redaction.quote(str(reply).encode())}”")

    def _check_words(self, verb: Verb, reply: Reply) -> None:
        """S18: raise if MAIL has the reply to RCPT, or RCPT that to MAIL: there was a reply too many or too few."""
        if reply != self._usual.setdefault(verb, reply) and reply in self._usual.values():
            raise self._out_of_step(f"unexpected “{reply}”")

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
        """Returns the beginning of what was not read, to be shown."""
        return self.redaction.quote(self.buffer.peek(octets))
