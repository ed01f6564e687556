"""Whatever a server repeats of what it was told: nothing of it is shown."""

from __future__ import annotations

import base64

import pytest

from syncd.auth.redaction import Redaction

WORD = b"hunter2-is-not-it"
BLOB = base64.b64encode(b"\0user\0" + WORD)


@pytest.fixture
def redaction() -> Redaction:
    made = Redaction(WORD)
    made.add(BLOB)
    return made


def test_who_knows_nothing_changes_nothing():
    assert Redaction().blank(b"\xff any \0 thing") == b"\xff any \0 thing"
    assert Redaction().quote(b"any thing") == "any thing"


@pytest.mark.parametrize(
    "repeated",
    [
        WORD,
        WORD.upper(),
        base64.b64encode(WORD),
        BLOB,
        BLOB.lower(),
        BLOB[:20],
        b"'" + WORD + b"','" + WORD + b"'",
    ],
)
def test_b33_a_secret_is_blanked_in_any_form(redaction: Redaction, repeated: bytes):
    shown = redaction.blank(b"unknown command: " + repeated + b" (from user)")
    assert shown.startswith(b"unknown command: ")
    assert shown.endswith(b" (from user)")
    assert "…".encode() in shown
    for octets in (WORD, base64.b64encode(WORD), BLOB[8:20]):
        assert octets.lower() not in shown.lower()


@pytest.mark.parametrize("before", ["", "u", "us", "use"])
def test_b33_a_secret_inside_of_other_base64_is_blanked(before: str):
    octets = base64.b64encode(before.encode() + b"\0" + WORD + b"\0 and more")
    shown = Redaction(WORD).blank(octets)
    assert "…".encode() in shown
    assert all(piece not in shown for piece in (octets[8:16], octets[12:20]))


def test_b33_the_name_of_the_user_is_no_secret(redaction: Redaction):
    assert redaction.blank(b"535 5.7.8 user: no such user or password") == b"535 5.7.8 user: no such user or password"


@pytest.mark.parametrize("length", range(2, len(WORD)))
def test_b33_what_is_cut_in_the_middle_of_a_secret_is_not_shown(redaction: Redaction, length: int):
    assert redaction.quote(b"you said " + WORD[:length]) == "you said …"


def test_a_single_octet_is_no_secret():
    assert Redaction(b"e").blank(b"see there") == b"see there"
