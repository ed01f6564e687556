"""The octets of a message as a transaction carries them, in a stream, with flat memory.

    Form.DATA     line ends made CRLF, then dots stuffed; ends in CRLF, the dot line is not part of it
    Form.TEXT     BDAT: line ends made CRLF, nothing stuffed
    Form.BINARY   BDAT with BODY=BINARYMIME: the octets as they are (RFC 3030 §3)

A CR or LF that stands alone is made CRLF, and a last line without end gets one: SMTP knows no other line ends
(RFC 5321 §2.3.8), and receivers that take "LF.LF" or "CR.CR" for the end of a message could be made to take the rest
of this one for further messages (S14, CVE-2023-51764). So the ends are made first, and the dots are stuffed in what
came of it (§4.5.2), both whatever the cut between two pieces: those of a file are cut anywhere. Nothing else is
changed, ever. `Content.rewritten` says whether there was anything to change.

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


class Form(Enum):
    """How the octets travel."""

    DATA = "DATA"
    TEXT = "BDAT"
    BINARY = "BDAT BINARYMIME"


class Content:
    """A message: `prefix`, whole lines of ours before it, and its body. Iterate as often as needed.

    `octets` are those of the lines made CRLF, before stuffing: what SIZE and BDAT count.
    """

    def __init__(self, prefix: bytes, body: Body) -> None:
        self.prefix = prefix
        self.body = body

    @property
    def octets(self) -> int:
        """How many octets Form.TEXT has."""
        return self._survey.octets

    @property
    def rewritten(self) -> bool:
        """Whether line ends have to be changed, or one added, where the form is not BINARY."""
        return self._survey.rewritten

    @property
    def eight_bit(self) -> bool:
        """Whether there are octets over 127."""
        return self._survey.eight_bit

    @property
    def long_lines(self) -> bool:
        """Whether there is a line longer than DATA may carry (RFC 5321 §4.5.3.1.6)."""
        return self._survey.long_lines

    @property
    def binary(self) -> bool:
        """Whether only BINARYMIME carries it as it is (RFC 3030 §3, RFC 2045 §2.9): line ends, long lines, NUL."""
        return self.rewritten or self.long_lines or self._survey.nul

    def octets_of(self, form: Form) -> int:
        """How many octets `chunks` gives; not for DATA, where nobody needs to know."""
        assert form is not Form.DATA
        return len(self.prefix) + self.body.octets if form is Form.BINARY else self.octets

    def chunks(self, form: Form) -> Iterator[bytes]:
        """The octets in a form, in pieces that are never empty."""
        pieces = self._raw()
        if form is not Form.BINARY and self.rewritten:
            pieces = crlf_lines(pieces) if self.body.data is None else iter(self._survey.rewritten_pieces)
        return stuffed(pieces) if form is Form.DATA else pieces

    def _raw(self) -> Iterator[bytes]:
        """Prefix and first piece of the body travel together: most messages are one piece."""
        prefix = self.prefix
        for chunk in self.body.chunks():
            if prefix or chunk:
                yield prefix + chunk
            prefix = b""
        if prefix:
            yield prefix

    @cached_property
    def _survey(self) -> _Survey:
        return _Survey(self._raw(), keep=self.body.data is not None)


class _Survey:
    """What one look at all octets tells. `keep`: they are few enough to keep what was rewritten."""

    def __init__(self, pieces: Iterable[bytes], *, keep: bool) -> None:
        self.rewritten_pieces: list[bytes] = []
        self.octets = 0
        self.rewritten = self.eight_bit = self.long_lines = self.nul = False
        line = 0  # octets of the line that the last piece did not end
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
    """The same text, each CRLF, bare CR and bare LF made one CRLF, the last line ended. Calls `found` at a change.

    A CR at the end of a piece waits for what follows. Pieces without anything to change are not copied.
    """
    held = b""
    last = b""
    for piece in pieces:
        text = held + piece if held else piece
        held = b"\r" if text.endswith(b"\r") else b""
        text = text[:-1] if held else text
        if not text:
            continue
        if to_lf(text) is None:
            found()
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
        last = text[-1:]
        yield text
    if held or (last and last != b"\n"):
        found()
        yield b"\r\n"


def stuffed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """One more dot before each line that begins with one (RFC 5321 §4.5.2). Lines end in CRLF; pieces are cut anywhere.

    A line may begin with the piece, or with its second octet, behind the LF of a CRLF that was cut.
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
    """Octets of the line that `piece` leaves open, `line` of them came before; MAX_LINE_OCTETS or more: too long.

    It jumps from the last line end within the allowed octets to the next such, and looks at few lines only.
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
