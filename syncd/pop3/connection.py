"""The POP3 session without a socket: octets in, events out; which reply answers which command in flight.

Whoever has the socket receives into `buffer.target()`, counts with `buffer.received()`, and asks for events
until there are none. The order of commands is the order of replies (RFC 2449 §6.6), so one queue holds what
is in flight.

A multi-line reply is cut and un-stuffed where it lies. Its region begins with the CRLF of its status line,
so that a dot at the start of its first line, an empty text ("+OK" CRLF "." CRLF) and every other line look
the same: the end is CRLF.CRLF, and nothing else is (RFC 1939 §3): bare LFs and CRs are text. Most texts have
no line that begins with a dot: there the first CRLF-dot is the end, and one search and one copy are all the work.
"""

from __future__ import annotations

from collections import deque
from itertools import repeat

from syncd.auth.redaction import Redaction
from syncd.errors import RemoteProtocolError, StateError, printable
from syncd.net.buffer import ReceiveBuffer
from syncd.pop3 import grammar
from syncd.pop3.values import GREETING, Answer, Challenge, Event, OutOfStep, Status, Text, TooLong, Verb

MAX_LINE_OCTETS = 64 << 10  # RFC 2449 §4 says 512; real servers say more, none says this much
WHOLE_OCTETS = 2 << 20  # texts up to this size come in one piece
PART_OCTETS = 256 << 10  # pieces of longer ones, after the first
_CR = 0x0D
_END = b"\r\n.\r\n"


class Connection:
    """One session. Raises RemoteProtocolError: OutOfStep, TooLong or another; the session is then only closed."""

    __slots__ = ("_first", "_in_flight", "_in_text", "_stuffed", "_text_limit", "_text_octets", "buffer", "redaction")

    def __init__(self, max_text_octets: int) -> None:
        self.buffer = ReceiveBuffer(WHOLE_OCTETS)
        self.redaction = Redaction()  # of what the server repeats
        self._in_flight: deque[Verb] = deque([GREETING])
        self._text_limit = max_text_octets
        self._in_text = False  # inside a multi-line reply …
        self._first = True  # … whose region begins with the status line's CRLF, not in the text
        self._stuffed = False  # a line that begins with a dot was seen in the region
        self._text_octets = 0  # handed out of this reply so far

    @property
    def waiting_for(self) -> Verb | None:
        """The oldest command that is not yet answered in full."""
        return self._in_flight[0] if self._in_flight else None

    @property
    def in_flight(self) -> int:
        """How many commands are not yet answered in full."""
        return len(self._in_flight)

    def sent(self, verb: Verb, count: int = 1) -> None:
        """Note that `count` such commands are on their way. Octets that answer nothing mean a server out of step."""
        if not self._in_flight and len(self.buffer):
            raise self._desync()
        self._in_flight.extend(repeat(verb, count))

    def check_quiet(self) -> None:
        """Before TLS begins: nothing may have come with or after the reply to STLS (CVE-2011-0411)."""
        if self._in_flight:
            raise StateError("TLS cannot begin while replies are outstanding")
        if len(self.buffer):
            raise RemoteProtocolError(
                f"octets in clear came between the reply to STLS and TLS: “{self._quote(200)}”; "
                "somebody may be tampering with the connection"
            )

    def next_event(self) -> Event | None:
        """The next event, or None when more octets are needed."""
        if not self._in_text:
            event = self._next_status()
            if not self._in_text:
                return event
        return self._next_text()

    def _next_status(self) -> Event | None:
        """A status line or challenge. A good status before a text says nothing of use: the text begins."""
        buffer = self.buffer
        at = buffer.find(b"\r\n")
        if at < 0:
            self._check_beginning()
            return None
        if not self._in_flight:
            raise self._desync()
        verb = self._in_flight[0]
        many = verb.answer is Answer.TEXT or verb.answer is Answer.LISTING
        start, octets = buffer.start, buffer.octets
        if many and octets[start : start + 3] == b"+OK" and octets[start + 3] in b" \r":
            self._begin_text(at)
            return None
        event = self._read_line(verb, buffer.take(at))
        if many and isinstance(event, Status) and event.ok:
            self._begin_text(at)
            return None
        buffer.drop(at + 2)
        if isinstance(event, Status):
            self._in_flight.popleft()
        return event

    def _begin_text(self, line_end: int) -> None:
        self.buffer.drop(line_end)
        self._in_text = self._first = True
        self._stuffed = False
        self._text_octets = 0

    def _read_line(self, verb: Verb, line: bytes) -> Status | Challenge:
        if verb is GREETING and b"\n" in line:
            raise _bare_lf(line)
        quote = self.redaction.quote
        if verb.answer is Answer.CHALLENGES and (challenge := grammar.challenge(line, quote)) is not None:
            return challenge
        if line.startswith(b"-"):  # what follows +OK may be numbers
            line = line[:4] + self.redaction.blank(line[4:])
        try:
            return grammar.status(line, quote)
        except RemoteProtocolError as error:
            raise OutOfStep(f"in reply to {verb.name}: {error}; client and server are out of step") from error

    def _check_beginning(self) -> None:
        """Find nonsense as soon as it can be told, rather than wait for the end of its line."""
        buffer = self.buffer
        if not len(buffer):
            return
        if not self._in_flight or buffer.octets[buffer.start] not in b"+-":
            raise self._desync()
        if len(buffer) > MAX_LINE_OCTETS:
            raise RemoteProtocolError(f"a line of more than {MAX_LINE_OCTETS} octets: “{self._quote(80)}”")
        if self._in_flight[0] is GREETING and b"\n" in (line := buffer.peek(MAX_LINE_OCTETS)):
            raise _bare_lf(line)

    def _next_text(self) -> Text | None:
        at = self._find_end()
        if at >= 0:
            text = self._cut(at + 2)
            self.buffer.drop(at + 5)
            self._in_text = False
            self._in_flight.popleft()
            return Text(text, last=True)
        if self._in_flight[0].answer is Answer.LISTING:
            return self._some_lines()
        return self._part()

    def _find_end(self) -> int:
        """Where the CRLF.CRLF is that ends the text, or -1."""
        buffer = self.buffer
        if not self._stuffed:
            at = buffer.find_dot_line()
            if at < 0 or buffer.end - at < len(_END):
                return -1
            if buffer.octets[at + 3 : at + 5] == b"\r\n":
                return at
            self._stuffed = True
            buffer.skip_to(at + 3)
        return buffer.find(_END)

    def _cut(self, end: int) -> bytes:
        """Hand out the region up to `end`: without the status line's CRLF, each line's first dot removed."""
        buffer = self.buffer
        if self._first:
            buffer.drop(buffer.start + 2)
        text = buffer.take(end)
        if self._stuffed:
            dot = self._first and text.startswith(b".")
            text = text.replace(b"\r\n.", b"\r\n")
            text = text[1:] if dot else text
            self._stuffed = False
        self._text_octets += len(text)
        if self._text_octets > self._text_limit and self._in_flight[0].answer is Answer.TEXT:
            raise TooLong(
                f"the server sent more than the limit of {self._text_limit} octets in one message; "
                "raise message_octets to take it"
            )
        return text

    def _some_lines(self) -> Text | None:
        """The whole lines there are. The last CRLF is handed out and kept: a dot line may follow it."""
        buffer = self.buffer
        at = buffer.octets.rfind(b"\r\n", buffer.start, buffer.end)
        if at > buffer.start:
            lines = self._cut(at + 2)
            buffer.drop(at)
            return Text(lines, last=False)
        if len(buffer) > MAX_LINE_OCTETS:
            raise RemoteProtocolError(f"a line of more than {MAX_LINE_OCTETS} octets: “{self._quote(80)}”")
        return None

    def _part(self) -> Text | None:
        """A piece of a long text: up to its last CRLF, which a dot line may follow; or all of an endless line."""
        buffer = self.buffer
        if len(buffer) <= (PART_OCTETS if self._text_octets else WHOLE_OCTETS):
            return None
        at = buffer.octets.rfind(b"\r\n", buffer.start, buffer.end)
        if at <= buffer.start:
            at = buffer.end - (buffer.octets[buffer.end - 1] == _CR)
        part = self._cut(at)
        self._first = False
        return Text(part, last=False)

    def _desync(self) -> OutOfStep:
        verb = self._in_flight[0].name if self._in_flight else "no command"
        return OutOfStep(f"in reply to {verb}: unexpected “{self._quote(200)}”; client and server are out of step")

    def _quote(self, octets: int) -> str:
        """The beginning of what was not read."""
        return self.redaction.quote(self.buffer.peek(octets))


def _bare_lf(line: bytes) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"the server ends lines with LF alone (RFC 1939 §3 wants CRLF) in “{printable(line)}”; it cannot be read safely"
    )
