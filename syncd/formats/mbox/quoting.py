"""The quoting of `From ` at the start of a line, which mbox programs do in different ways.

    mboxrd     From → >From, >From → >>From          one ">" is taken off any number of them; exact
    mboxo      From → >From; >From stays             ">" is taken off ">From " alone; text that had ">From " is altered
    mboxcl2    nothing is quoted                     Content-Length says where a message ends

Which of the first two a file is shows where text is quoted by ">" and has a line ">>From ": in an mboxrd the lines
around it have one ">" less, in an mboxo as many. A file without such lines reads the same either way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Final

_DEEP: Final = re.compile(rb"\n(>>+)From ")
_MARKS: Final = re.compile(rb"(?:> ?)*")
_LOOK_BACK: Final = 1_024  # octets before a line, for the line before it
_MARK: Final = b">From "


class Quoting(Enum):
    """The ways of quoting."""

    RD = "mboxrd"
    O = "mboxo"
    NONE = "mboxcl2"


def evidence(chunk: bytes) -> tuple[int, int]:
    """Returns how many lines of a chunk speak for mboxrd, and how many for mboxo."""
    rd = o = 0
    if b"\n>>" not in chunk:
        return rd, o
    for found in _DEEP.finditer(chunk):
        before = chunk[chunk.rfind(b"\n", max(0, found.start() - _LOOK_BACK), found.start()) + 1 : found.start()]
        marks = _MARKS.match(before)
        depth, around = len(found[1]), 0 if marks is None else marks[0].count(b">")
        o += around >= depth
        rd += around == depth - 1
    return rd, o


def unquote_once(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Take the ">" off each ">From " at the start of a line, and off no other line (mboxo)."""
    waiting, at_start = b"", True
    for chunk in chunks:
        data = waiting + chunk
        last = data.rfind(b"\n") + 1
        waiting = b""
        if (last or at_start) and len(data) - last < len(_MARK):
            data, waiting = data[:last], data[last:]  # what may become ">From "
        if data:
            yield _unquoted(data, at_start=at_start)
            at_start = data.endswith(b"\n")
    if waiting:
        yield waiting


def _unquoted(data: bytes, *, at_start: bool) -> bytes:
    text = data.replace(b"\n" + _MARK, b"\nFrom ")
    return text[1:] if at_start and text.startswith(_MARK) else text
