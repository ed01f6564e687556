from __future__ import annotations

from collections.abc import Callable

import pytest

from syncd.auth.sasl_oauth import Bearer, OAuthBearer, XOAuth2
from syncd.errors import LocalProtocolError
from syncd.secret import Secret

RFC_TOKEN = Secret("vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==")  # RFC 7628 §4.1


def bearer(name: str = "user@example.com", token: Secret = RFC_TOKEN) -> OAuthBearer:
    return OAuthBearer(name, token, "server.example.com", 143)


def test_oauthbearer_as_in_rfc_7628():
    assert bearer().initial() == (
        b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01"
        b"auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
    )


def test_oauthbearer_escapes_the_name():
    assert bearer("a=b,c").initial().startswith(b"n,a=a=3Db=2Cc,\x01host=")


def test_xoauth2_as_google_documents_it():
    token = Secret("ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg")
    assert XOAuth2("someuser@example.com", token).initial() == (
        b"user=someuser@example.com\x01auth=Bearer ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg\x01\x01"
    )


@pytest.mark.parametrize("mechanism", [bearer(), XOAuth2("me", Secret("token"))])
def test_p43_the_form_in_two_steps(mechanism: Bearer):
    assert mechanism.respond(b"") == mechanism.initial()
    assert mechanism.respond(b"") is None


@pytest.mark.parametrize(("mechanism", "dummy"), [(bearer(), b"\x01"), (XOAuth2("me", Secret("ya29.a0")), b"")])
def test_the_reason_of_a_refusal_is_kept_and_answered_once(mechanism: Bearer, dummy: bytes):
    assert mechanism.respond(b'{"status":"invalid_token"}\n') == dummy  # RFC 7628 §3.2.3
    assert mechanism.said == '{"status":"invalid_token"}\\n'
    assert mechanism.respond(b"") is None
    assert mechanism.respond(b"more") is None


@pytest.mark.parametrize(
    ("name", "token"),
    [("me", "two words"), ("me", ""), ("me", "a\x01b"), ("me", "a\nb"), ("me", "tökén"), ("m\x01auth=Bearer x", "t")],
)
def test_what_would_end_its_field_is_refused_and_not_shown(name: str, token: str):
    for make in (lambda: XOAuth2(name, Secret(token)), lambda: bearer(name, Secret(token))):
        with pytest.raises(LocalProtocolError) as caught:
            make()
        assert not token or token not in str(caught.value).split()
        assert "auth=Bearer" not in str(caught.value)


@pytest.mark.parametrize("mechanism", [bearer, lambda: XOAuth2("me", Secret("token"))])
def test_b33_the_reason_of_a_refusal_is_shown_without_the_token(mechanism: Callable[[], Bearer]):
    made = mechanism()
    (token,) = made.secrets
    made.respond(b'{"status":"400","what":"%s"}' % token)
    assert made.said == '{"status":"400","what":"…"}'
