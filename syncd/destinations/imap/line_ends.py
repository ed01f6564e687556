"""CRLF at the end of each line, for servers that refuse a message without (I91, I153). Pure but for the spool."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from syncd.mail.body import Body, BodyWriter, Spool

_BARE_LF: Final = re.compile(rb"(?<!\r)\n")


def lacks_crlf(body: Body) -> bool:
    """Returns whether an LF in the body has no CR before it, or the last line has no end."""
    last = b""
    for octets, start in _pieces(body):
        if _BARE_LF.search(octets, start):
            return True
        last = octets
    return not last.endswith(b"\n")


def with_crlf(body: Body, spool: Spool) -> Body:
    """Returns the body with CRLF for each LF without CR, and at its end; a CR alone stays. The caller closes it."""
    writer = BodyWriter(spool)
    last = b""
    for octets, start in _pieces(body):
        writer.write(_BARE_LF.sub(b"\r\n", octets)[start:])
        last = octets
    if not last.endswith(b"\n"):
        writer.write(b"\r\n")
    return writer.finish()


def crlf(octets: bytes) -> bytes:
    """Returns a message as `with_crlf` makes it."""
    text = _BARE_LF.sub(b"\r\n", octets)
    return text if text.endswith(b"\n") else text + b"\r\n"


def _pieces(body: Body) -> Iterator[tuple[bytes, int]]:
    """Yields each chunk, with the CR before it if there is one, and where the chunk begins therein."""
    before = b""
    for chunk in body.chunks():
        yield before + chunk, len(before)
        before = b"\r" if chunk.endswith(b"\r") else b""
