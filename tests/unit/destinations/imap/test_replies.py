"""The meaning of a no to APPEND: codes, then words."""

from __future__ import annotations

import pytest

from syncd.destinations.imap.replies import No, code, kind
from syncd.imap.values import Code, Kind, Status


def no(text: bytes, name: str = "", word: Kind = Kind.NO) -> Status:
    return Status(word, Code(name), text)


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (no(b"full", "OVERQUOTA"), No.FULL),
        (no(b"Over quota"), No.FULL),
        (no(b"too big", "TOOBIG"), No.TOO_LARGE),
        (no(b"Mail size is larger than the maximum size allowed by server configuration", "LIMIT"), No.TOO_LARGE),
        (no(b"Message contains bare newlines"), No.CONTENTS),
        (no(b"Message contains NUL characters"), No.CONTENTS),
        (no(b"Message contains invalid header"), No.CONTENTS),
        (no(b"no such mailbox", "TRYCREATE"), No.GONE),
        (no(b"invalid header", "TRYCREATE"), No.CONTENTS),  # I126: mailutils says so of a message
        (no(b"down", "UNAVAILABLE"), No.LATER),
        (no(b"APPEND Bad arguments", "CLIENTBUG", Kind.BAD), No.CONTENTS),
        (no(b"unknown flag", word=Kind.BAD), No.OTHER),
        (no(b"no"), No.OTHER),
    ],
)
def test_i88_i91_i153_i158_a_no_is_understood(status: Status, meaning: No) -> None:
    assert kind(status) is meaning


def test_refusals_that_are_alike_have_one_code() -> None:
    assert code(no(b"one", "CANNOT")) == code(no(b"two", "CANNOT")) == "NO CANNOT"
    assert code(no(b"", word=Kind.BAD)) == "BAD"
