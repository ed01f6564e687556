"""The POP3 session without a socket: octets in, events out. It matches replies to commands in flight.

The owner of the socket receives into `buffer.target()`, counts with `buffer.received()`, and asks for events
until there are none. Replies come in the order of the commands (RFC 2449 §6.6), so one queue has the commands
in flight.

A multi-line reply is cut and un-stuffed inside the buffer. Its region begins with the CRLF of its status line, so
that a dot at the start of its first line, an empty text ("+OK" CRLF "." CRLF) and every other line look the same.
Only CRLF.CRLF ends a text (RFC 1939 §3); bare LFs and CRs are text. Most texts have no line that begins with a dot.
Then the first CRLF-dot is the end, and one search and one copy are all the work.
"""

from __future__ import annotations

from collections import deque
from itertools import repeat

from syncd.auth.redaction import Redaction
from syncd.errors import RemoteProtocolError, StateError, printable
from syncd.net.buffer import ReceiveBuffer
from syncd.pop3 import grammar
from syncd.pop3.values import GREETING, Answer, Challenge, Event, NoGreeting, OutOfStep, Status, Text, TooLong, Verb

GREETING_OCTETS = 64  # enough of a line without end to tell what kind of server it is
MAX_EMPTY_LINES = 1000  # in a row
MAX_LINE_OCTETS = 64 << 10  # RFC 2449 §4 says 512; real servers say more, none says this much
WHOLE_OCTETS = 256 << 10  # texts up to this size come in one piece; each connection has a buffer of this size
PART_OCTETS = 64 << 10  # pieces of longer texts, after the first
_CR = 0x0D
_END = b"\r\n.\r\n"
_BLANKS = b" \t\r\n"
_WORDS = (b"+OK", b"-ERR")
_SIGNS = b"+-"  # the first octets of a status or challenge


class Connection:
    """One session. Raises RemoteProtocolError (NoGreeting, OutOfStep, TooLong), after which it can only be closed.

    `passed` counts the lines that were passed over where a status was due: empty ones (P50), and while `passes_over` is
    set, all that begin no status (P52).
    """

    __slots__ = (
        "_first",
        "_in_flight",
        "_in_text",
        "_stuffed",
        "_text_limit",
        "_text_octets",
        "buffer",
        "passed",
        "passes_over",
        "redaction",
    )

    def __init__(self, max_text_octets: int) -> None:
        self.buffer = ReceiveBuffer(WHOLE_OCTETS)
        self.redaction = Redaction()  # for errors that quote the server
        self._in_flight: deque[Verb] = deque([GREETING])
        self._text_limit = max_text_octets
        self._in_text = False  # inside a multi-line reply …
        self._first = True  # … whose region begins with the status line's CRLF, not in the text
        self._stuffed = False  # a line that begins with a dot was seen in the region
        self._text_octets = 0  # handed out of this reply so far
        self.passed = 0
        self.passes_over = False

    @property
    def waiting_for(self) -> Verb | None:
        """Returns the oldest command that is not yet answered in full."""
        return self._in_flight[0] if self._in_flight else None

    @property
    def in_flight(self) -> int:
        """Returns how many commands are not yet answered in full."""
        return len(self._in_flight)

    def sent(self, verb: Verb, count: int = 1) -> None:
        """Note `count` commands as sent. Octets that came before, and answer nothing, mean a server out of step."""
        if not self._in_flight and len(self.buffer) and not self.passes_over:
            if self.buffer.peek(MAX_EMPTY_LINES).strip(_BLANKS):
                raise self._desync()
            self.buffer.drop(self.buffer.end)
        self._in_flight.extend(repeat(verb, count))

    def check_quiet(self) -> None:
        """Before TLS begins: raise if octets came with or after the reply to STLS (CVE-2011-0411)."""
        if self._in_flight:
            raise StateError("TLS cannot begin while replies are outstanding")
        if len(self.buffer):
            raise RemoteProtocolError(
                f"the server sent octets in clear after its reply to STLS: “{self._quote(200)}”; "
                "somebody may be tampering with the connection"
            )

    def check_greeting(self) -> None:
        """Raise NoGreeting if the octets that came so far do not begin a greeting. For a server that stops there."""
        start = self.buffer.peek(MAX_LINE_OCTETS).lstrip(_BLANKS)
        if start and not any(
            word.startswith(start[:4].upper()) or start[:4].upper().startswith(word) for word in _WORDS
        ):
            raise NoGreeting(start)

    def next_event(self) -> Event | None:
        """Returns the next event, or None when more octets are needed."""
        if not self._in_text:
            event = self._next_status()
            if not self._in_text:
                return event
        return self._next_text()

    def _next_status(self) -> Event | None:
        """Returns a status line or challenge. The +OK before a text gives no event: the text begins."""
        buffer = self.buffer
        at = self._find_line()
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

    def _find_line(self) -> int:
        """Returns the end of the next line that is to be read as a status, or -1. Drops lines that are passed over."""
        buffer, empty = self.buffer, 0
        while (at := buffer.find(b"\r\n")) >= 0:
            if buffer.octets[buffer.start] in _SIGNS:  # nearly always
                break
            line = buffer.octets[buffer.start : at].strip(_BLANKS)
            if line and (line[0] in _SIGNS or not self.passes_over):
                break
            buffer.drop(at + 2)
            self.passed += 1
            empty += not line
            if empty > MAX_EMPTY_LINES:
                raise RemoteProtocolError(f"more than {MAX_EMPTY_LINES} empty lines in place of a reply")
        return at

    def _begin_text(self, line_end: int) -> None:
        self.buffer.drop(line_end)
        self._in_text = self._first = True
        self._stuffed = False
        self._text_octets = 0

    def _read_line(self, verb: Verb, line: bytes) -> Status | Challenge:
        if verb is GREETING:
            _check_greeting(line)
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
        """Raise for a wrong first octet or an endless line, rather than wait for the end of the line."""
        buffer = self.buffer
        start = buffer.peek(MAX_LINE_OCTETS).lstrip(_BLANKS)
        if start and self._in_flight and self._in_flight[0] is GREETING:
            if b"\n" in start or len(start) >= GREETING_OCTETS or not start[:1].isascii() or start[0] < ord(" "):
                _check_greeting(start)
        elif start and not self.passes_over and (not self._in_flight or start[0] not in _SIGNS):
            raise self._desync()
        if len(buffer) > MAX_LINE_OCTETS:
            raise RemoteProtocolError(f"a line of more than {MAX_LINE_OCTETS} octets: “{self._quote(80)}”")

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
        """Returns the index of the CRLF.CRLF that ends the text, or -1."""
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
        """Returns the region up to `end`, without the status line's CRLF and without the first dot of each line."""
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
        """Returns the lines that are complete. The last CRLF is returned and kept: a dot line may follow it."""
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
        """Returns a piece of a long text, up to its last CRLF (a dot line may follow), or all of an endless line."""
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
        """Returns the beginning of what was not read, to be shown."""
        return self.redaction.quote(self.buffer.peek(octets))


def _check_greeting(line: bytes) -> None:
    """Raise NoGreeting for a line, or its beginning, that is no greeting, or that ends with LF alone (P23)."""
    word = line.split(None, 1)[0].upper()
    if word not in {b"+OK", b"-ERR"}:
        raise NoGreeting(line)
    if b"\n" in line:
        why = f"the server ends lines with LF alone (RFC 1939 §3 wants CRLF) in “{printable(line)}”"
        raise NoGreeting(line, f"{why}; it cannot be read safely")
