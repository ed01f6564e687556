"""Values of SMTP and LMTP: commands, replies, announced capabilities, the envelope of a message."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from syncd.errors import printable


class Verb(Enum):
    """A command, or octets that are not a command but have a reply."""

    GREETING = "greeting"  # the reply that a new connection waits for
    EHLO = "EHLO"
    LHLO = "LHLO"  # RFC 2033 §4.1
    HELO = "HELO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    DOT = "the final dot"
    BDAT = "BDAT"  # a chunk with others behind it (RFC 3030 §2)
    LAST = "BDAT LAST"
    RSET = "RSET"
    QUIT = "QUIT"


FINAL = frozenset({Verb.DOT, Verb.LAST})  # these end a message; LMTP sends a reply for each accepted recipient
CLOSING = 421  # may answer anything: the server is about to close the connection (RFC 5321 §3.8)


class Reply(NamedTuple):
    """A whole reply. `enhanced` is the status code of RFC 3463 such as "5.7.1", or empty; `text` is without it.

    `early`, in the outcome of a message: 421 answered a command before its end, so the message was not sent.
    """

    code: int
    enhanced: str = ""
    text: tuple[bytes, ...] = ()  # an entry for each line
    early: bool = False

    @property
    def ok(self) -> bool:
        """Returns True for 2yz: done. The first digit decides, also for unknown codes (RFC 5321 §4.2.1)."""
        return 200 <= self.code < 300

    @property
    def go_on(self) -> bool:
        """Returns True for 3yz: the server expects more."""
        return 300 <= self.code < 400

    @property
    def transient(self) -> bool:
        """Returns True for 4yz: not now."""
        return 400 <= self.code < 500

    def __str__(self) -> str:
        """Returns the reply as one printable line."""
        words = printable(b" ".join(self.text))
        return " ".join(filter(None, (str(self.code), self.enhanced, words)))


NO_REPLY = Reply(0)  # in place of a lost reply, beside replies that came


@dataclass(frozen=True, slots=True)
class Envelope:
    """MAIL FROM and RCPT TO of one message (RFC 5321 §2.3.1). `sender` "" is the null reverse-path.

    `size`: octets of the message, 0 if unknown (RFC 1870). `eight_bit`: the message has octets over 127. `smtputf8`: an
    address or the header is UTF-8 (RFC 6531). `envid`: an id that delivery reports repeat (RFC 3461 §4.4).
    """

    sender: str
    recipients: tuple[str, ...]
    size: int = 0
    eight_bit: bool = False
    smtputf8: bool = False
    envid: str = ""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The capabilities in the reply to EHLO (RFC 5321 §4.1.1.1), a line for each; empty after HELO."""

    lines: tuple[str, ...] = ()
    _arguments: dict[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)  # looked up for each message

    def __post_init__(self) -> None:
        rows = [line.upper().split() for line in reversed(self.lines)]  # if a keyword stands twice, the first counts
        object.__setattr__(self, "_arguments", {row[0]: tuple(row[1:]) for row in rows})

    def arguments(self, keyword: str) -> tuple[str, ...] | None:
        """Returns the words after a keyword, in capitals; None when it was not announced."""
        return self._arguments.get(keyword)

    def __contains__(self, keyword: str) -> bool:
        return keyword in self._arguments

    @property
    def size(self) -> int:
        """Returns the largest size of a message in octets; 0 if no limit is announced (RFC 1870 §4)."""
        words = self.arguments("SIZE") or ("0",)
        return int(words[0]) if words[0].isdecimal() and len(words[0]) <= 18 else 0

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """Returns the SASL mechanisms (RFC 4954 §3); S20: also of servers that write "AUTH=PLAIN"."""
        found: list[str] = []
        for line in self.lines:
            keyword, *names = line.upper().replace("AUTH=", "AUTH ", 1).split()
            found += names if keyword == "AUTH" else []
        return tuple(dict.fromkeys(found))
