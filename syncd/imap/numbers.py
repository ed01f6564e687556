"""Lines of numbers without end: SEARCH, ESEARCH and VANISHED of a large mailbox (I27). Pure.

A line that does not end is handed out in parts. Each part is a response by itself: the beginning of the line, and some
whole numbers.
"""

from __future__ import annotations

import re
from typing import Final

from syncd.net.buffer import ReceiveBuffer

LONG_OCTETS: Final = 32 << 10  # a line of numbers that is longer is handed out in parts

_BEGINNING: Final = re.compile(
    rb"\* (?:SEARCH |VANISHED (?:\(EARLIER\) )?|ESEARCH (?:\(TAG \"[^\"]*\"\) )?(?:UID )?"
    rb"(?:(?:COUNT|MIN|MAX|MODSEQ) \d+ )*ALL )(?=\d)",
    re.IGNORECASE,
)
_NUMBER: Final = re.compile(rb"[\d:]*")


class Numbers:
    """A line of numbers that is handed out in parts. `beginning` is empty outside of one."""

    __slots__ = ("beginning",)

    def __init__(self) -> None:
        self.beginning = b""

    def part(self, buffer: ReceiveBuffer) -> bytes | None:
        """Take the whole numbers out of a line that has not ended. Returns them as a line; None if it is another one.

        The last number stays, because more of it may come.
        """
        if not self.beginning:
            found = _BEGINNING.match(buffer.octets, buffer.start, buffer.end)
            if found is None:
                return None
            self.beginning = buffer.take(found.end())
        at = max(buffer.octets.rfind(between, buffer.start, buffer.end) for between in (b" ", b","))
        if at < 0 or b"(" in buffer.octets[buffer.start : at]:
            return None
        if not _NUMBER.fullmatch(buffer.octets, at + 1, buffer.end):
            return None
        line = self.beginning + buffer.take(at)
        buffer.drop(at + 1)
        return line

    def rest(self, line: bytes) -> bytes:
        """Returns the last part, when the line has ended."""
        line, self.beginning = self.beginning + line, b""
        return line
