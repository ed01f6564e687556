"""Streams the octets of a message in the form that a transaction carries, with flat memory.

    Form.DATA     line ends made CRLF, then dots stuffed; ends in CRLF, the dot line is not part of it
    Form.TEXT     BDAT: line ends made CRLF, nothing stuffed
    Form.BINARY   BDAT with BODY=BINARYMIME: the octets as they are (RFC 3030 §3)

A CR or LF that stands alone becomes CRLF, and a last line without end gets one. SMTP knows no other line ends
(RFC 5321 §2.3.8), and a receiver that takes "LF.LF" or "CR.CR" for the end of a message could be made to take the rest
of the message for further messages (S14, CVE-2023-51764). So line ends are made first, and then dots are stuffed
(§4.5.2). Both work across pieces, which may be cut anywhere. Nothing else is ever changed. `Content.rewritten` says
whether line ends had to be changed.

Speed (60 KB of text and base64): the proof that all is CRLF takes 50 µs, the search for dots 40 µs, the look for long
lines 8 µs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from functools import cached_property

from syncd.formats.line_ends import to_lf
from syncd.mail.body import Body

MAX_LINE_OCTETS = 1000  # RFC 5321 §4.5.3.1.6, CRLF included
MAX_SKIP_OCTETS = 64 << 10  # all in the first chunk of a body


class Form(Enum):
    """The form in which the octets travel."""

    DATA = "DATA"
    TEXT = "BDAT"
    BINARY = "BDAT BINARYMIME"


class Content:
    """A message: `prefix`, which takes the place of the first `skip` octets, and its body. `chunks` is repeatable.

    `octets` counts them with CRLF line ends, before stuffing, as SIZE and BDAT count. At most MAX_SKIP_OCTETS may be
    skipped.
    """

    def __init__(self, prefix: bytes, body: Body, skip: int = 0) -> None:
        assert skip <= MAX_SKIP_OCTETS
        self.prefix = prefix
        self.body = body
        self.skip = skip

    @property
    def octets(self) -> int:
        """Returns the number of octets of Form.TEXT."""
        return self._survey.octets

    @property
    def rewritten(self) -> bool:
        """Returns whether line ends have to be changed or added, unless the form is BINARY."""
        return self._survey.rewritten

    @property
    def eight_bit(self) -> bool:
        """Returns whether there are octets over 127."""
        return self._survey.eight_bit

    @property
    def long_lines(self) -> bool:
        """Returns whether there is a line longer than DATA may carry (RFC 5321 §4.5.3.1.6)."""
        return self._survey.long_lines

    @property
    def binary(self) -> bool:
        """Returns whether only BINARYMIME carries the octets as they are: line ends, long lines, NUL (RFC 3030 §3)."""
        return self.rewritten or self.long_lines or self._survey.nul

    def octets_of(self, form: Form) -> int:
        """Returns the number of octets that `chunks` gives; not for DATA."""
        assert form is not Form.DATA
        return len(self.prefix) + self.body.octets - self.skip if form is Form.BINARY else self.octets

    def chunks(self, form: Form) -> Iterator[bytes]:
        """Yields the octets in `form`, in pieces that are never empty."""
        pieces = self._raw()
        if form is not Form.BINARY and self.rewritten:
            pieces = crlf_lines(pieces) if self.body.data is None else iter(self._survey.rewritten_pieces)
        return stuffed(pieces) if form is Form.DATA else pieces

    def _raw(self) -> Iterator[bytes]:
        """Yields prefix and body; the prefix goes with the first piece, because most messages are one piece."""
        prefix, skip = self.prefix, self.skip
        for chunk in self.body.chunks():
            if piece := prefix + chunk[skip:]:
                yield piece
            prefix, skip = b"", 0
        if prefix:
            yield prefix

    @cached_property
    def _survey(self) -> _Survey:
        return _Survey(self._raw(), keep=self.body.data is not None)


class _Survey:
    """The facts from one pass over all octets. `keep`: the octets are few enough to keep the rewritten ones."""

    def __init__(self, pieces: Iterable[bytes], *, keep: bool) -> None:
        self.rewritten_pieces: list[bytes] = []
        self.octets = 0
        self.rewritten = self.eight_bit = self.long_lines = self.nul = False
        line = 0  # octets of the line that the last piece left open
        for piece in crlf_lines(pieces, self._found):
            self.octets += len(piece)
            self.eight_bit = self.eight_bit or not piece.isascii()
            self.nul = self.nul or b"\0" in piece
            if not self.long_lines:
                line = _rest_of_line(piece, line)
                self.long_lines = line >= MAX_LINE_OCTETS
            if keep:
                self.rewritten_pieces.append(piece)
        if not self.rewritten:
            self.rewritten_pieces.clear()

    def _found(self) -> None:
        self.rewritten = True


def crlf_lines(pieces: Iterable[bytes], found: Callable[[], None] = lambda: None) -> Iterator[bytes]:
    """Yields the text with each CRLF, bare CR and bare LF as CRLF, and the last line ended. Calls `found` at a change.

    A CR at the end of a piece waits for what follows. Pieces without anything to change are not copied.
    """
    kept = b""
    last = b""
    for piece in pieces:
        text = kept + piece if kept else piece
        kept = b"\r" if text.endswith(b"\r") else b""
        text = text[:-1] if kept else text
        if not text:
            continue
        if to_lf(text) is None:
            found()
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
        last = text[-1:]
        yield text
    if kept or (last and last != b"\n"):
        found()
        yield b"\r\n"


def stuffed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the text with a dot added to lines that begin with a dot (RFC 5321 §4.5.2). Lines end in CRLF.

    Pieces may be cut anywhere: a line may begin with a piece, or behind the LF of a CRLF that was cut.
    """
    before = b"\r\n"  # the last two octets of what came before
    for piece in pieces:
        text = piece.replace(b"\r\n.", b"\r\n..")
        at = (before + piece[:2]).find(b"\r\n.")
        if at >= 0:
            text = text[:at] + b"." + text[at:]
        before = (before + piece[-2:])[-2:]
        yield text


def _rest_of_line(piece: bytes, line: int) -> int:
    """Returns the octets of the line that `piece` leaves open; MAX_LINE_OCTETS or more if a line is too long.

    `line` octets of the first line came before `piece`. The search jumps from the last line end within the allowed
    octets to the next such, so it looks at few lines only.
    """
    at = -line
    end = len(piece)
    while at + MAX_LINE_OCTETS <= end:
        found = piece.rfind(b"\n", max(at, 0), at + MAX_LINE_OCTETS)
        if found < 0:
            return MAX_LINE_OCTETS
        at = found + 1
    found = piece.rfind(b"\n", max(at, 0))
    return end - (found + 1 if found >= 0 else at)
