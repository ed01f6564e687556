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
_SEARCH: Final = b"* SEARCH "
_BY_BLANKS: Final = re.compile(rb"[\d ]*")
_BY_COMMAS: Final = re.compile(rb"[\d:,]*")


class Numbers:
    """A line of numbers that is handed out in parts. `beginning` is empty outside of one."""

    __slots__ = ("beginning",)

    def __init__(self) -> None:
        self.beginning = b""

    def part(self, buffer: ReceiveBuffer) -> bytes | None:
        """Take the whole numbers out of a line that has not ended. Returns them as a line; None if it is another one.

        The last number stays, because more of it may come. A line with anything else in it is read when it has ended.
        """
        if not self.beginning:
            found = _BEGINNING.match(buffer.octets, buffer.start, buffer.end)
            if found is None:
                return None
            self.beginning = buffer.take(found.end())
        blanks = self.beginning.upper() == _SEARCH
        at = buffer.octets.rfind(b" " if blanks else b",", buffer.start, buffer.end)
        numbers = _BY_BLANKS if blanks else _BY_COMMAS
        if at < 0 or not numbers.fullmatch(buffer.octets, buffer.start, buffer.end):
            return None
        line = self.beginning + buffer.take(at)
        buffer.drop(at + 1)
        return line

    def rest(self, line: bytes) -> bytes:
        """Returns the last part, when the line has ended."""
        line, self.beginning = self.beginning + line, b""
        return line
