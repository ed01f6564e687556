"""CRLF in place of each LF that stands alone, for servers that refuse such a message (I153). Pure but for the spool."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from syncd.mail.body import Body, BodyWriter, Spool

_BARE_LF: Final = re.compile(rb"(?<!\r)\n")


def has_bare_lf(body: Body) -> bool:
    """Returns whether an LF in the body has no CR before it."""
    return any(_BARE_LF.search(octets, start) for octets, start in _pieces(body))


def with_crlf(body: Body, spool: Spool) -> Body:
    """Returns the body with CRLF for each LF without CR; a CR alone stays. The caller closes it."""
    writer = BodyWriter(spool)
    for octets, start in _pieces(body):
        writer.write(_BARE_LF.sub(b"\r\n", octets)[start:])
    return writer.finish()


def _pieces(body: Body) -> Iterator[tuple[bytes, int]]:
    """Yields each chunk, with the CR before it if there is one, and where the chunk begins therein."""
    before = b""
    for chunk in body.chunks():
        yield before + chunk, len(before)
        before = b"\r" if chunk.endswith(b"\r") else b""
