"""The IMAP session without a socket: octets in, events out. It matches the ends of commands to their tags.

The owner of the socket receives into `buffer.target()`, counts with `buffer.received()`, and asks for events until
there are none. Untagged data may come at any time (I01), so nothing is an error only because it was not asked for.

A literal of a header or body comes whole, in its FetchRow, while it has at most WHOLE_OCTETS. A longer one comes as
Literal and Text, and its FetchRow ends it: only then is it known which message it was (I133), and that it was whole.
Memory stays flat: one buffer, and what one event holds.

Lines of numbers (SEARCH, ESEARCH, VANISHED) may have any length (I27): they are handed out in parts. Every other line
has at most MAX_LINE_OCTETS.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from syncd.auth.redaction import Redaction
from syncd.errors import RemoteProtocolError, StateError, printable
from syncd.imap import fetch, grammar
from syncd.imap.events import (
    Counts,
    Data,
    Event,
    Literal,
    NoGreeting,
    OutOfStep,
    Rows,
    Tagged,
    Text,
    TooLong,
)
from syncd.imap.numbers import LONG_OCTETS, Numbers
from syncd.imap.tokens import Atom, Streamed, Tokens
from syncd.imap.values import (
    FetchRow,
    Kind,
    Status,
    Verb,
)
from syncd.net.buffer import ReceiveBuffer

GREETING_OCTETS: Final = 64  # enough of a line without end to tell what kind of server it is
MAX_LINE_OCTETS: Final = 64 << 10  # RFC 7162 §4 wants 8 KiB; real servers say more, none says this much
MAX_LITERAL_OCTETS: Final = 64 << 10  # of one that is no header or body, such as a mailbox's name
MAX_UNREAD_LINES: Final = 20  # I30: no responses; more of them mean that client and server are out of step
WHOLE_OCTETS: Final = 256 << 10  # literals up to this size come in one piece; each connection has a buffer of this size
PART_OCTETS: Final = 64 << 10  # pieces of longer literals, at least, but for the last
_LF: Final = 0x0A
_ROW_OCTETS: Final = 4 << 10  # a longer line, before or behind a literal, is read by tokens


class _Step(Enum):
    GO_ON = 1  # octets were read, and there is no event yet


class Connection:
    """The protocol state of a session.

    It raises RemoteProtocolError (NoGreeting, OutOfStep, TooLong); after that it can only be closed. `closing` is the
    server's BYE. `counts` tells what was passed over.
    """

    __slots__ = (
        "_in_flight",
        "_left",
        "_limit",
        "_need",
        "_numbers",
        "_serial",
        "_tokens",
        "buffer",
        "closing",
        "counts",
        "redaction",
    )

    def __init__(self, max_text_octets: int) -> None:
        self.buffer = ReceiveBuffer(WHOLE_OCTETS + 2 * _ROW_OCTETS)
        self.redaction = Redaction()  # for errors that quote the server
        self.counts = Counts()
        self.closing: Status | None = None
        self._limit = max_text_octets
        self._in_flight: dict[str, Verb] = {"": Verb.GREETING}
        self._serial = 0
        self._need = 1  # octets that have to be in the buffer before there can be an event
        self._tokens: Tokens | None = None  # a response that is read by tokens
        self._left = 0  # octets of a long literal that are still to come
        self._numbers = Numbers()  # a line of them that is handed out in parts

    @property
    def in_flight(self) -> int:
        """Returns how many commands are not yet answered in full."""
        return len(self._in_flight)

    @property
    def waiting_for(self) -> Verb | None:
        """Returns the oldest command that is not yet answered in full."""
        return next(iter(self._in_flight.values()), None)

    @property
    def in_response(self) -> bool:
        """Returns whether a response has begun and not ended."""
        return bool(len(self.buffer) or self._tokens is not None or self._left or self._numbers.beginning)

    def sent(self, verb: Verb) -> str:
        """Note a command that is about to be sent. Returns its tag."""
        if self.closing is not None:
            raise StateError("the server has closed the session")
        self._serial += 1
        tag = f"a{self._serial}"
        self._in_flight[tag] = verb
        return tag

    def check_quiet(self) -> None:
        """Before TLS begins: raise if octets came with or after the reply to STARTTLS (CVE-2011-0411)."""
        if self._in_flight:
            raise StateError("TLS cannot begin while replies are outstanding")
        if self.in_response:
            raise RemoteProtocolError(
                f"the server sent octets in clear after its reply to STARTTLS: “{self._quote(200)}”; "
                "somebody may be tampering with the connection"
            )

    def check_greeting(self) -> None:
        """Raise NoGreeting if the octets that came so far do not begin a greeting. For a server that stops there."""
        start = self.buffer.peek(GREETING_OCTETS).lstrip(b" ")
        if start and not start.startswith(b"*"):
            raise NoGreeting(start)

    def unfinished(self) -> FetchRow | None:
        """Returns what a FETCH response has said that has begun and not ended; None if no response of its kind has."""
        tokens = self._tokens
        if tokens is None:
            begin = fetch.begin(self.buffer.octets, self.buffer.start, self.buffer.end)
            return begin.row() if begin is not None and begin.part else None
        items = tokens.values[2] if len(tokens.values) > 2 else None
        if not _is_fetch(tokens) or not isinstance(items, list):
            return None
        return fetch.row([*tokens.values[:2], items[: len(items) - len(items) % 2]])

    # --- events --------------------------------------------------------------------------------------

    def next_event(self) -> Event | None:
        """Returns the next event, or None when more octets are needed."""
        while len(self.buffer) >= self._need:
            if self._left:
                return self._text()
            if self._tokens is None and not self._numbers.beginning and "" not in self._in_flight:
                fetched = self._fast()
                if fetched is not None:
                    return fetched
                if len(self.buffer) < self._need:
                    return None
            event = self._next()
            if not isinstance(event, _Step):
                return event
        return None

    def _fast(self) -> FetchRow | Rows | None:
        """Returns a FETCH response that has one of the usual forms and is here as a whole, or many of a listing.

        Sets `_need` where its literal, or what is behind it, has not come.
        """
        buffer = self.buffer
        begin = fetch.begin(buffer.octets, buffer.start, buffer.end)
        if begin is None:
            return None
        part, octets, start = begin.part, begin.octets, begin.end
        if not part:
            self._need = 1
            more, start = fetch.sizes(buffer.octets, start, buffer.end)
            buffer.drop(start)
            return Rows([begin.row(), *more]) if more else begin.row()
        if octets > min(WHOLE_OCTETS, self._limit) or start - buffer.start > _ROW_OCTETS:
            return None
        end = start + octets
        at = buffer.octets.find(b"\r\n", end, buffer.end)
        if at < 0 or at - end > _ROW_OCTETS:
            if at < 0 and buffer.end - end <= _ROW_OCTETS:
                self._need = max(end + len(b"\r\n"), buffer.end + 1) - buffer.start
            return None
        self._need = 1
        found = fetch.end(buffer.octets, end, buffer.end, begin)
        if found is None:
            return None
        buffer.drop(start)
        row = found.row(part, buffer.take(end))
        buffer.drop(found.end)
        return row

    def _next(self) -> Event | _Step | None:
        tokens, buffer = self._tokens, self.buffer
        if tokens is not None and tokens.literal is not None:
            return self._literal(tokens, tokens.literal)
        at = buffer.find(b"\r\n")
        if at < 0 and self.waiting_for is Verb.AUTHENTICATE and (end := self._end_of_authenticate()) is not None:
            return end
        if at < 0:
            self._need = len(buffer) + 1
            return self._unended()
        if at - buffer.start > MAX_LINE_OCTETS:
            raise self._endless()
        line = buffer.take(at)
        buffer.drop(at + 2)
        self._need = 1
        if tokens is not None:
            return self._tokens_of(tokens, line)
        return self._line(self._numbers.rest(line))

    def _end_of_authenticate(self) -> Tagged | None:
        """I168: returns the end of AUTHENTICATE where LF alone ends it, and nothing is behind it."""
        end = grammar.tagged(self.buffer.peek(len(self.buffer)).removesuffix(b"\n"))
        if self.buffer.octets[self.buffer.end - 1] != _LF or end is None or end[0] not in self._in_flight:
            return None
        self.buffer.drop(self.buffer.end)
        self._need = 1
        return self._tagged(*end)

    # --- lines ---------------------------------------------------------------------------------------

    def _line(self, line: bytes) -> Event | _Step | None:
        if "" in self._in_flight:
            return self._greeting(line)
        if line.startswith(b"*"):
            return self._untagged(line[1:].lstrip(b" \t"))
        request = grammar.continuation(line)
        if request is not None:
            return request
        end = grammar.tagged(line)
        if end is None or end[0] not in self._in_flight:
            return self._pass_over(line)
        return self._tagged(*end)

    def _tagged(self, tag: str, status: Status) -> Tagged:
        self.counts.bad += status.kind is Kind.BAD
        return Tagged(tag, self._in_flight.pop(tag), self._blanked(status))

    def _greeting(self, line: bytes) -> Status:
        status = grammar.status(line[1:].lstrip(b" \t")) if line.startswith(b"*") else None
        if status is None or status.kind in {Kind.NO, Kind.BAD}:
            raise NoGreeting(line)
        if b"\n" in line:
            raise _ends_with_lf(line)
        del self._in_flight[""]
        self._note(status)
        return status

    def _untagged(self, text: bytes) -> Event | _Step | None:
        status = grammar.status(text)
        if status is not None:
            self._note(status)
            return self._blanked(status)
        self._tokens = tokens = Tokens()
        return self._tokens_of(tokens, text)

    def _tokens_of(self, tokens: Tokens, line: bytes) -> Event | _Step | None:
        """Read a line by tokens. Returns the response if it ends with the line."""
        tokens.line(line)
        if tokens.literal is not None:
            self._check_literal(tokens, tokens.literal)
            return _Step.GO_ON
        if tokens.open:
            return _Step.GO_ON
        self._tokens = None
        return fetch.row(tokens.values) if _is_fetch(tokens) else self._data(tokens)

    def _data(self, tokens: Tokens) -> Data | _Step:
        if not tokens.values:
            return self._pass_over(b"*")
        return grammar.data(tokens.values)

    def _note(self, status: Status) -> None:
        if status.kind is Kind.BYE:
            self.closing = self._blanked(status)

    def _blanked(self, status: Status) -> Status:
        """Returns the status without secrets: a refusal may repeat what we sent."""
        return status if status.ok else status._replace(text=self.redaction.blank(status.text))

    def _pass_over(self, line: bytes) -> _Step:
        """I30: pass over a line that is no response, but not too many of them."""
        self.counts.unread += 1
        if self.counts.unread > MAX_UNREAD_LINES:
            raise OutOfStep(
                f"more than {MAX_UNREAD_LINES} lines that answer nothing, the last is “{self.redaction.quote(line)}”; "
                "client and server are out of step"
            )
        return _Step.GO_ON

    # --- lines that have not ended -------------------------------------------------------------------

    def _unended(self) -> Event | None:
        buffer = self.buffer
        if "" in self._in_flight:
            self._check_greeting()
        elif self._tokens is None and len(buffer) > LONG_OCTETS:
            line = self._numbers.part(buffer)
            if line is not None:
                self._need = 1
                return self._some_numbers(line)
        if len(buffer) > MAX_LINE_OCTETS:
            raise self._endless()
        return None

    def _endless(self) -> RemoteProtocolError:
        return RemoteProtocolError(f"a line of more than {MAX_LINE_OCTETS} octets: “{self._quote(80)}”")

    def _check_greeting(self) -> None:
        """Raise for a beginning that is no greeting, rather than wait for the end of its line."""
        start = self.buffer.peek(MAX_LINE_OCTETS)
        if b"\n" in start and start.startswith(b"*"):
            raise _ends_with_lf(start)
        if not start.startswith(b"*") and (b"\n" in start or len(start) >= GREETING_OCTETS or start[0] < ord(" ")):
            raise NoGreeting(start)

    @staticmethod
    def _some_numbers(line: bytes) -> Data:
        tokens = Tokens()
        tokens.line(line[1:])
        return grammar.data(tokens.values)

    # --- literals ------------------------------------------------------------------------------------

    def _check_literal(self, tokens: Tokens, octets: int) -> None:
        """Raise for a literal that is too long, before it comes (I79)."""
        if _is_fetch(tokens) and octets > self._limit:
            raise TooLong(
                f"the server sends {octets} octets in one message, more than the limit of {self._limit}; "
                "raise message_octets to take it"
            )
        if not _is_fetch(tokens) and octets > MAX_LITERAL_OCTETS:
            raise RemoteProtocolError(f"a literal of {octets} octets, more than {MAX_LITERAL_OCTETS}")

    def _literal(self, tokens: Tokens, octets: int) -> Event | _Step | None:
        part = _part(tokens)
        if octets > (WHOLE_OCTETS if part else MAX_LITERAL_OCTETS):
            self._left = octets
            self._need = 1
            return Literal(fetch.row([*tokens.values[:2], tokens.items[:-1]]), part, octets)
        if len(self.buffer) < octets:
            self._need = octets
            return None
        self._need = 1
        tokens.add(self.buffer.take(self.buffer.start + octets))
        return _Step.GO_ON

    def _text(self) -> Text | None:
        buffer = self.buffer
        octets = min(len(buffer), self._left)
        if octets < min(self._left, PART_OCTETS):
            self._need = min(self._left, PART_OCTETS)
            return None
        self._left -= octets
        self._need = 1
        if not self._left:
            assert self._tokens is not None, "a literal belongs to a response"
            self._tokens.add(Streamed())
        return Text(buffer.take(buffer.start + octets), last=not self._left)

    def _quote(self, octets: int) -> str:
        """Returns the beginning of what was not read, to be shown."""
        return self.redaction.quote(self.buffer.peek(octets))


def _ends_with_lf(greeting: bytes) -> NoGreeting:
    why = f"the server ends lines with LF alone (RFC 3501 §2.2 wants CRLF) in “{printable(greeting)}”"
    return NoGreeting(greeting, f"{why}; it cannot be read safely")


def _is_fetch(tokens: Tokens) -> bool:
    name = tokens.values[1] if len(tokens.values) > 1 else None
    return isinstance(name, Atom) and name.upper() == b"FETCH"


def _part(tokens: Tokens) -> int:
    """Returns HEADER or BODY if the literal that comes is one of them, else 0."""
    items = tokens.items
    return fetch.part_of(items[-1]) if _is_fetch(tokens) and tokens.depth == 1 and len(items) % 2 else 0
