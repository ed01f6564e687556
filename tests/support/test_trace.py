"""The second opinion about what arrived would notice what is wrong with it."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256

import pytest

from tests.support import trace

OURS = b"Received: by here (syncd) with POP3\n id k-r for <me@example.org>;\n Tue, 24 Nov 2026 03:00:00 +0000\n"
TOP = b"Return-Path: <>\nReceived: from x\n\tby y\n" + OURS + b"X-Syncd-Id: k-r\n"
MESSAGE = b"Received: of old\nX-Syncd-Id: another\nSubject: x\n\ntext\n"


def test_the_original_begins_behind_our_first_id() -> None:
    names, original = trace.split(TOP + MESSAGE)
    assert names == [b"return-path", b"received", b"received", b"x-syncd-id"]
    assert original == MESSAGE
    assert trace.identity(TOP + MESSAGE) == b"k-r"
    assert trace.originals([TOP + MESSAGE] * 2) == Counter({sha256(MESSAGE).digest(): 2})


def test_crlf() -> None:
    assert trace.split((TOP + MESSAGE).replace(b"\n", b"\r\n"))[1] == MESSAGE.replace(b"\n", b"\r\n")


@pytest.mark.parametrize("arrived", [b"Subject: x\n\ntext\n", b"X-Spam: yes\n" + TOP, b"no field\n" + TOP])
def test_what_is_missing_or_too_much_is_noticed(arrived: bytes) -> None:
    with pytest.raises(AssertionError):
        trace.originals([arrived])


@pytest.mark.parametrize(
    ("arrived", "original"),
    [
        (b"X-Mailbox-Line: From a\nX-Mailbox-Line: >From b\nSubject: x\n\n", b"From a\n>From b\nSubject: x\n\n"),
        (b"X-Syncd-First-Line:\tby x\nSubject: x\n\n", b"\tby x\nSubject: x\n\n"),
        (b"\n text\n", b" text\n"),
        (b"\nFrom here on\n text\n", b"From here on\n text\n"),
        (b"\ntext\n", b"\ntext\n"),
    ],
)
def test_what_is_put_before_odd_first_lines_is_no_part_of_the_message(arrived: bytes, original: bytes) -> None:
    assert trace.split(TOP + arrived)[1] == original
