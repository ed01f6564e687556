"""Refusals of RETR in a row: about the messages, or about the account (P55, pure).

A server whose limit is used up refuses every message alike. One that cannot give a few messages may do so with one
text as well. A message further on tells the two apart: if it comes, the messages before it are at fault. Where none is
left, and none was under way, a message that came before tells it, or else the smallest of the mailbox.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from syncd.mail.body import Body
from syncd.mail.listing import Wanted
from syncd.pop3.quirks import says_quota
from syncd.pop3.values import Status

ALIKE: Final = 5  # refusals in a row after which a message further on is asked for
AHEAD_MESSAGES: Final = 20  # so far on: a few neighbours may share a fault of the server's disk
PROBE_OCTETS: Final = 1 << 20  # the largest message that is fetched only to see whether it comes
PAUSE: Final = timedelta(hours=1)
QUOTA_PAUSE: Final = timedelta(hours=6)  # quotas count a day, mostly a sliding one

# RFC 3206 §4, RFC 2449 §8.1.1: these are never about one message
_ACCOUNT_CODES: Final = frozenset({"SYS/TEMP", "SYS/PERM", "LOGIN-DELAY", "IN-USE", "AUTH"})
_NUMBERED: Final = re.compile(rb"\S*\d\S*")


class Kind(NamedTuple):
    """The words of a refusal without numbers and without the message's unique-id."""

    code: str
    text: bytes


def kind(one: Wanted, answer: Status) -> Kind:
    """Returns what a refusal has in common with refusals of other messages."""
    text = answer.text.replace(one.uid, b"#") if one.uid else answer.text
    return Kind(answer.code, _NUMBERED.sub(b"#", text).strip().lower())


def pause(answer: Status) -> timedelta:
    """Returns how long an account is suspended after such a refusal."""
    return QUOTA_PAUSE if says_quota(answer.text) else PAUSE


class Refusals:
    """Counts the refusals of one session. A refusal in words of a quota is suspected at once, others after ALIKE."""

    def __init__(self) -> None:
        self.numbers: set[int] = set()  # of all messages that were refused
        self.smallest_came: tuple[int, int] | None = None  # octets and number
        self._kind: Kind | None = None
        self._in_a_row = 0
        self._limit = 0  # of refusals in a row; 0 while none is in a row
        self._acquitted = 0  # times that a message further on came

    def arrived(self, one: Wanted, answer: Body | Status) -> None:
        """Count an answer to RETR."""
        if isinstance(answer, Body):
            self._kind, self._in_a_row = None, 0
            self.smallest_came = min(self.smallest_came or (answer.octets, one.number), (answer.octets, one.number))
            return
        self.numbers.add(one.number)
        found = kind(one, answer)
        self._in_a_row = self._in_a_row + 1 if found == self._kind else 1
        self._kind = found
        at_once = answer.code in _ACCOUNT_CODES or says_quota(answer.text)
        self._limit = (1 if at_once else ALIKE) << self._acquitted

    @property
    def suspicious(self) -> bool:
        """Returns whether the last refusals may be about the account."""
        return self._in_a_row >= self._limit > 0

    @property
    def confirmed(self) -> bool:
        """Returns whether a message that was under way behind the suspicious ones was refused like them."""
        return self._in_a_row > self._limit

    def acquit(self) -> None:
        """A message further on came: the account is well. The next suspicion takes twice as many refusals."""
        self._kind, self._in_a_row = None, 0
        self._acquitted += 1

    def other(self, sizes: Sequence[int]) -> int | None:
        """Returns the number of a message to see whether any comes; None if there is none. `sizes[n - 1]`: of n."""
        if self.smallest_came is not None:
            found = self.smallest_came
        else:
            rows = ((octets, number) for number, octets in enumerate(sizes, 1) if octets and number not in self.numbers)
            found = min(rows, default=(PROBE_OCTETS + 1, 0))
        return found[1] if found[0] <= PROBE_OCTETS else None
