from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.errors import LocalProtocolError
from syncd.pop3 import encoder
from syncd.pop3.values import APOP, PASS, RETR, TOP, USER
from syncd.secret import Secret


def test_commands():
    assert encoder.command(USER, "jürgen") == "USER jürgen\r\n".encode()
    assert encoder.command(PASS, Secret(b"p\xe4ss").reveal()) == b"PASS p\xe4ss\r\n"
    assert encoder.command(PASS, " two  words ") == b"PASS  two  words \r\n"
    assert encoder.numbered(RETR, [1, 20, 300]) == b"RETR 1\r\nRETR 20\r\nRETR 300\r\n"
    assert encoder.numbered(TOP, [7], " 0") == b"TOP 7 0\r\n"


@given(st.text(), st.sampled_from("\r\n\0"), st.text())
def test_cr_lf_and_nul_are_refused_and_the_argument_is_not_shown(before: str, c: str, after: str):
    with pytest.raises(LocalProtocolError) as caught:
        encoder.command(PASS, before + c + after)
    assert str(caught.value) == "an argument of PASS contains CR, LF or NUL, which POP3 cannot carry"


def test_auth_carries_the_initial_response_where_it_fits_into_255_octets():
    assert encoder.auth("PLAIN", b"\0u\0p") == b"AUTH PLAIN AHUAcA==\r\n"
    assert encoder.auth("EXTERNAL", b"") == b"AUTH EXTERNAL =\r\n"
    assert encoder.auth("CRAM-MD5", None) == b"AUTH CRAM-MD5\r\n"
    assert len(encoder.auth("PLAIN", b"x" * 180)) == 253
    assert encoder.auth("PLAIN", b"x" * 183) == b"AUTH PLAIN\r\n"


def test_the_example_of_rfc_1939():
    digest = encoder.apop_digest(b"<1896.697170952@dbc.mtview.ca.us>", Secret("tanstaaf"))
    assert encoder.command(APOP, "mrose", digest) == b"APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n"
