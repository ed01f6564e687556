"""Messages on their way into a mailbox, and how many of them one APPEND takes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from syncd import clock
from syncd.imap.append import Append, kept_date, sendable
from syncd.mail.body import Body
from syncd.mail.message import Message

GROUP_MESSAGES: Final = 100
GROUP_OCTETS: Final = 4 << 20


@dataclass(slots=True)
class Letter:
    """A message on its way. With `bare=True` its keywords were refused and stay behind (I147).

    `converted` is its body with CRLF in place of each LF that stood alone, if that was refused.
    """

    message: Message
    bare: bool = False
    converted: Body | None = None

    @property
    def body(self) -> Body:
        """Returns the body that is sent."""
        return self.converted or self.message.body

    @property
    def has_keywords(self) -> bool:
        """Returns whether keywords would be sent with it."""
        return not self.bare and len(sendable(self.message.flags, None)[0]) > len(sendable(self.message.flags, ())[0])

    def encoded(self, keywords: Collection[str] | None, left_out: Collection[str]) -> Append:
        """Returns what APPEND sends: no flag of `left_out`, and of the keywords those in `keywords` (None: all)."""
        going, _ = self._flags(keywords, left_out)
        date = self.message.internal_date
        return Append(self.body, going, None if date is None else kept_date(date, clock.now()))

    def dropped(self, keywords: Collection[str] | None, left_out: Collection[str]) -> list[str]:
        """Returns the keywords that stay behind."""
        _, dropped = self._flags(keywords, left_out)
        return [flag for flag in dropped if not flag.startswith("\\")]

    def _flags(
        self, keywords: Collection[str] | None, left_out: Collection[str]
    ) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
        flags = tuple(flag for flag in self.message.flags if flag not in left_out)
        return sendable(flags, () if self.bare else keywords)


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
