"""Values of POP3: commands and the form of their answers, status replies, capabilities, three errors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from syncd.errors import RemoteProtocolError, printable


class Answer(Enum):
    """The form of the positive reply to a command (RFC 1939 §3). A negative one is always one line."""

    LINE = "line"
    CHALLENGES = "challenges"  # any number of "+ " lines before the status (RFC 5034 §4)
    LISTING = "listing"  # lines up to a dot alone, handed out as they come
    TEXT = "text"  # the same, handed out whole while it is of moderate size


class Verb(NamedTuple):
    """A command: its keyword and the form of its answer."""

    name: str
    answer: Answer


GREETING = Verb("greeting", Answer.LINE)  # the answer that a new connection waits for
CAPA = Verb("CAPA", Answer.LISTING)
STLS = Verb("STLS", Answer.LINE)
USER = Verb("USER", Answer.LINE)
PASS = Verb("PASS", Answer.LINE)
APOP = Verb("APOP", Answer.LINE)
AUTH = Verb("AUTH", Answer.CHALLENGES)
STAT = Verb("STAT", Answer.LINE)
LIST = Verb("LIST", Answer.LISTING)
LIST_ONE = Verb("LIST", Answer.LINE)  # for one message, whose number the answer repeats
UIDL = Verb("UIDL", Answer.LISTING)
UIDL_ONE = Verb("UIDL", Answer.LINE)  # for one message, whose number and unique-id the answer repeats
RETR = Verb("RETR", Answer.TEXT)
TOP = Verb("TOP", Answer.TEXT)
DELE = Verb("DELE", Answer.LINE)
QUIT = Verb("QUIT", Answer.LINE)


class Check(Enum):
    """A command between RETRs whose answer shows that client and server are in step, the strongest first."""

    LIST = "LIST n"  # the answer repeats the number
    UIDL = "UIDL n"  # the answer repeats number and unique-id
    STAT = "STAT"  # the answer is the only one that is outstanding, so nothing else may leave together with RETR


class Status(NamedTuple):
    """A status line. `code` is the response code in capitals, such as "IN-USE", or empty (RFC 2449 §8)."""

    ok: bool
    code: str
    text: bytes  # without the code


class Challenge(NamedTuple):
    """The server asks for a (further) response; decoded."""

    octets: bytes


class Text(NamedTuple):
    """Octets of a multi-line reply, un-stuffed, without the terminator. `last`: the reply ends here."""

    octets: bytes
    last: bool


Event = Status | Challenge | Text


class OutOfStep(RemoteProtocolError):
    """The server sent something that answers no command: the text before it may have ended too early."""


class NoGreeting(RemoteProtocolError):
    """The first octets are no greeting; `octets` has its beginning. `why` tells what is wrong if it nearly is one."""

    def __init__(self, octets: bytes, why: str = "") -> None:
        super().__init__(why or f"expected +OK or -ERR, got “{printable(octets)}”")
        self.octets = octets
        self.why = why


class TooLong(RemoteProtocolError):
    """A message has more octets than the limit `message_octets`."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The lines of the answer to CAPA (RFC 2449 §5); empty when the server does not know CAPA."""

    lines: tuple[str, ...] = ()

    def arguments(self, tag: str) -> tuple[str, ...] | None:
        """Returns the words after a capability's tag, in capitals; None when it was not announced."""
        for line in self.lines:
            words = line.upper().split()
            if words[:1] == [tag]:
                return tuple(words[1:])
        return None

    def __contains__(self, tag: str) -> bool:
        return self.arguments(tag) is not None

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """Returns the SASL mechanisms (RFC 5034 §3), in capitals."""
        return self.arguments("SASL") or ()
