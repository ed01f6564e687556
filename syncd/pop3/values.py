"""The words of POP3: commands and what answers them, status replies, capabilities, two ways to go wrong."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from syncd.errors import RemoteProtocolError


class Answer(Enum):
    """The form of the positive reply to a command (RFC 1939 §3). A negative one is always one line."""

    LINE = "line"
    CHALLENGES = "challenges"  # any number of "+ " lines before the status (RFC 5034 §4)
    LISTING = "listing"  # lines up to a dot alone, handed out as they come
    TEXT = "text"  # the same, handed out whole while it is of moderate size


class Verb(NamedTuple):
    """A command's keyword and the form of its answer."""

    name: str
    answer: Answer


GREETING = Verb("greeting", Answer.LINE)  # what a new connection waits for
CAPA = Verb("CAPA", Answer.LISTING)
STLS = Verb("STLS", Answer.LINE)
USER = Verb("USER", Answer.LINE)
PASS = Verb("PASS", Answer.LINE)
APOP = Verb("APOP", Answer.LINE)
AUTH = Verb("AUTH", Answer.CHALLENGES)
STAT = Verb("STAT", Answer.LINE)
LIST = Verb("LIST", Answer.LISTING)
LIST_ONE = Verb("LIST", Answer.LINE)  # of one message, whose number the answer repeats
UIDL = Verb("UIDL", Answer.LISTING)
RETR = Verb("RETR", Answer.TEXT)
TOP = Verb("TOP", Answer.TEXT)
DELE = Verb("DELE", Answer.LINE)
QUIT = Verb("QUIT", Answer.LINE)


class Status(NamedTuple):
    """A status line. `code` is the response code in capitals, such as "IN-USE", or empty (RFC 2449 §8)."""

    ok: bool
    code: str
    text: bytes  # without the code


class Challenge(NamedTuple):
    """The server asks for a (further) response; decoded."""

    octets: bytes


class Text(NamedTuple):
    """Octets of a multi-line reply, un-stuffed, without the terminator. `last`: nothing of it follows."""

    octets: bytes
    last: bool


Event = Status | Challenge | Text


class OutOfStep(RemoteProtocolError):
    """What came is no reply to anything: the text before it may have ended too early."""


class TooLong(RemoteProtocolError):
    """A message has more octets than we take."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What CAPA said (RFC 2449 §5), as lines; empty when the server does not know CAPA."""

    lines: tuple[str, ...] = ()

    def arguments(self, tag: str) -> tuple[str, ...] | None:
        """The words after a capability's tag, in capitals; None when it was not announced."""
        for line in self.lines:
            words = line.upper().split()
            if words[:1] == [tag]:
                return tuple(words[1:])
        return None

    def __contains__(self, tag: str) -> bool:
        return self.arguments(tag) is not None

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """SASL mechanisms (RFC 5034 §3)."""
        return self.arguments("SASL") or ()
