"""The header hash of bodies: the same for a whole message and for what TOP gives of it."""

from __future__ import annotations

import pytest

from syncd.mail.body import Body, header_hash


@pytest.mark.parametrize(
    ("message", "top"),
    [
        (b"Subject: a\r\n\r\ntext\r\n", b"Subject: a\r\n\r\n"),
        (b"\r\njust text\r\n", b"\r\n"),  # no header at all: it was taken for another message, and never removed
        (b"\r\n", b"\r\n"),
    ],
)
def test_the_hash_follows_from_the_header_alone(message: bytes, top: bytes) -> None:
    assert Body.of(message).header_hash == header_hash(top)


def test_another_header_has_another_hash() -> None:
    assert header_hash(b"Subject: a\r\n\r\n") != header_hash(b"Subject: b\r\n\r\n")
    assert header_hash(b"Subject: a\r\n\r\n") != header_hash(b"\r\nSubject: a\r\n\r\n")
