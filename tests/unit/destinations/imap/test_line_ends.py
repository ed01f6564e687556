"""CRLF in place of LF alone, wherever chunks end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.destinations.imap.line_ends import lacks_crlf, with_crlf
from syncd.mail.body import Body, Spool

PIECES = (b"", b"a", b"\n", b"\r", b"\r\n", b"\n\n", b"a\nb\r\nc\rd\n", b"\r\r\n\n\r")


class Chunked(Body):
    """A body that comes in chunks of so many octets."""

    octets_each = 1

    def chunks(self) -> Iterator[bytes]:
        assert self.data is not None
        for start in range(0, len(self.data), self.octets_each):
            yield self.data[start : start + self.octets_each]


@pytest.mark.parametrize("each", [1, 2, 3, 100])
@pytest.mark.parametrize("octets", [one + two for one in PIECES for two in PIECES])
def test_i91_i153_each_line_ends_with_crlf_and_nothing_else_changes(octets: bytes, each: int, tmp_path: Path) -> None:
    whole = Body.of(octets)
    body = Chunked(whole.data, whole.octets, whole.sha256, whole.header_hash)
    body.octets_each = each
    expected = re.sub(rb"(?<!\r)\n|(?<!\n)\Z", b"\r\n", octets)
    assert lacks_crlf(body) is (expected != octets)
    assert b"".join(with_crlf(body, Spool(tmp_path)).chunks()) == expected
