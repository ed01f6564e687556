"""Messages on their way into a mailbox, and how many of them one APPEND takes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from syncd import clock
from syncd.destinations.imap.line_ends import lacks_crlf, with_crlf
from syncd.imap.append import Append, kept_date, sendable
from syncd.mail.body import Body, Spool
from syncd.mail.flags import SYSTEM
from syncd.mail.message import Message

GROUP_MESSAGES: Final = 100
GROUP_OCTETS: Final = 4 << 20
NONE: Final = frozenset[str]()


@dataclass(slots=True)
class Letter:
    """A message on its way. Where it was refused, `only` are the flags that may still go (I82, I147).

    `converted` is its body with CRLF at the end of each line, if it was refused without (I91, I153).
    """

    message: Message
    only: frozenset[str] | None = None
    converted: Body | None = None

    @property
    def body(self) -> Body:
        """Returns the body that is sent."""
        return self.converted or self.message.body

    def encoded(self, takes: frozenset[str] | None, left_out: Collection[str]) -> Append:
        """Returns what APPEND sends: no flag of `left_out`, and of the others those in `takes` (None: all)."""
        date = self.message.internal_date
        return Append(self.body, self.flags(takes, left_out), None if date is None else kept_date(date, clock.now()))

    def flags(self, takes: frozenset[str] | None, left_out: Collection[str]) -> tuple[bytes, ...]:
        """Returns the flags that are sent."""
        return self._flags(takes, left_out)[0]

    def dropped(self, takes: frozenset[str] | None, left_out: Collection[str]) -> list[str]:
        """Returns the system flags and keywords that stay behind."""
        return [flag for flag in self._flags(takes, left_out)[1] if flag in SYSTEM or not flag.startswith("\\")]

    def has_fewer_flags(self, takes: frozenset[str] | None, left_out: Collection[str]) -> bool:
        """Leave the keywords behind, or all flags; returns False where no flag was sent anyway."""
        before = self.flags(takes, left_out)
        for fewer in (SYSTEM, NONE)[self.only is not None :]:
            self.only = fewer
            if self.flags(takes, left_out) != before:
                return True
        return False

    def has_line_ends(self, spool: Spool) -> bool:
        """Have each line end with CRLF, and all flags sent again; returns False where it was no different before."""
        if self.converted is not None or not lacks_crlf(self.message.body):
            return False
        self.converted, self.only = with_crlf(self.message.body, spool), None
        return True

    def _flags(
        self, takes: frozenset[str] | None, left_out: Collection[str]
    ) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
        flags = tuple(flag for flag in self.message.flags if flag not in left_out)
        return sendable(flags, takes if self.only is None else self.only if takes is None else self.only & takes)


def groups(letters: Sequence[Letter], most: int) -> list[list[Letter]]:
    """Returns the letters in groups of at most `most` messages and GROUP_OCTETS; a larger message is alone."""
    found: list[list[Letter]] = []
    octets = 0
    for letter in letters:
        octets += letter.body.octets
        if not found or len(found[-1]) >= most or octets > GROUP_OCTETS:
            found.append([])
            octets = letter.body.octets
        found[-1].append(letter)
    return found
