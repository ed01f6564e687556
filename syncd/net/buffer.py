"""The receive buffer: one reusable bytearray that octets are received into and taken out of.

Rules: octets are copied once, when they are taken out. No octet is searched twice for the same token. The rest at the
end is moved to the front only when at least as many octets were taken out since, so a move never costs more than they
did. Pure: the owner of the socket fills `target()`.

`octets[start:end]` are received and not yet taken out. Users on the hot path read these three fields directly.
"""

from __future__ import annotations

RECEIVE_OCTETS = 64 << 10  # one system call's worth; 256 KiB is not measurably faster, and 64 jobs have one each
_DOT = b"."
_BLOCK_OCTETS = 16 << 10  # see find_dot_line


class ReceiveBuffer:
    """A buffer for up to `hold` octets that wait to be complete, with room for RECEIVE_OCTETS more at any time."""

    __slots__ = ("_scan", "_view", "end", "octets", "start")

    def __init__(self, hold: int) -> None:
        self.octets = bytearray(hold + 2 * RECEIVE_OCTETS)
        self._view = memoryview(self.octets)
        self.start = 0
        self.end = 0
        self._scan = 0  # the current token is searched up to here

    def __len__(self) -> int:
        return self.end - self.start

    def target(self) -> memoryview:
        """Returns the memory to receive into: RECEIVE_OCTETS, valid until the next call of any method."""
        waiting = self.end - self.start
        if self.start >= RECEIVE_OCTETS >= waiting or len(self.octets) - self.end < RECEIVE_OCTETS or not waiting:
            self._view[:waiting] = self._view[self.start : self.end]
            self._scan -= self.start
            self.start, self.end = 0, waiting
        return self._view[self.end : self.end + RECEIVE_OCTETS]

    def received(self, octets: int) -> None:
        """Count the octets that were received into the last target."""
        self.end += octets

    def find(self, token: bytes) -> int:
        """Returns the index of `token`, or -1. A later call goes on where this one ended.

        Only one token may be searched until the next `drop` or `take`.
        """
        at = self.octets.find(token, self._scan, self.end)
        if at < 0:
            self._scan = max(self._scan, self.end - len(token) + 1)
        return at

    def find_dot_line(self) -> int:
        """Returns the index of the first CRLF before a dot, or -1: `find(CRLF.)`, but faster where dots are rare.

        Looking for one octet is ten times as fast as looking for three (memchr, 20 GB/s, against 1.4 GB/s), and
        most mail is base64, which has no dots. Text has a dot in every line or so: there the search for three
        octets goes on for a block before the next search for a dot.
        """
        octets, end, scan = self.octets, self.end, self._scan
        while (dot := octets.find(_DOT, scan, end)) >= 0:
            scan = dot + _BLOCK_OCTETS
            at = octets.find(b"\r\n.", max(dot - 2, self.start), min(scan, end))
            if at >= 0:
                self._scan = at + 2  # its dot, so that a second call finds it again
                return at
        self._scan = end  # the search for the next dot's line starts two octets before it
        return -1

    def take(self, end: int) -> bytes:
        """Take the octets up to `end` out of the buffer and return a copy."""
        taken = bytes(self._view[self.start : end])
        self.start = self._scan = end
        return taken

    def drop(self, end: int) -> None:
        """Forget the octets before `end`."""
        self.start = self._scan = end

    def skip_to(self, index: int) -> None:
        """Search no more before `index`."""
        self._scan = index

    def peek(self, octets: int) -> bytes:
        """Returns the first octets without taking them out, for an error message or a look ahead."""
        return bytes(self._view[self.start : min(self.start + octets, self.end)])
