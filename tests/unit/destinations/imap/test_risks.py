"""Messages that a server may change, whole and in pieces."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.destinations.imap.risks import at_risk
from syncd.mail.body import CHUNK_OCTETS, MEMORY_CAP_OCTETS, Body, BodyWriter

HEAD = b"Subject: hi\r\n\r\n"


@pytest.mark.parametrize(
    "octets",
    [
        b"Subject: \xe4\r\n\r\nbody\r\n",
        HEAD + b"a\0b\r\n",
        HEAD + b"a\nb\r\n",
        HEAD + b"a\rb\r\n",
        HEAD + b"no end",
        HEAD + b"half an end\r",
        b"From me\r\n" + HEAD,
        b"\r\nbody\r\n",
        b"Subject: hi\r\nX-UID: 7\r\n\r\nbody\r\n",
        b"content-length: 7\r\n\r\nbody\r\n",
    ],
)
def test_i154_what_servers_change(octets: bytes) -> None:
    assert at_risk(Body.of(octets))


@pytest.mark.parametrize("octets", [HEAD, HEAD + b"8-bit body \xe4\r\nFrom here\r\nStatus: RO\r\n"])
def test_what_they_leave(octets: bytes) -> None:
    assert not at_risk(Body.of(octets))


@pytest.mark.parametrize("behind", [b"", b"x", b"\n"])
def test_in_pieces(tmp_path: Path, behind: bytes) -> None:
    writer = BodyWriter(tmp_path)
    line = b"y" * (CHUNK_OCTETS - len(HEAD) - 1) + b"\r"  # the first chunk ends between CR and LF
    writer.write(HEAD + line + b"\n" + b"z" * MEMORY_CAP_OCTETS + b"\r\n" + behind)
    body = writer.finish()
    assert body.data is None
    assert at_risk(body) is bool(behind)
    body.close()
