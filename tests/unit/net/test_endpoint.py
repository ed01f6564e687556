"""The value that names a server and the user who signs in."""

from __future__ import annotations

import pytest

from syncd.errors import AuthRefused, ConfigError, Refused, Unsupported
from syncd.net.endpoint import SECURITIES, Endpoint
from syncd.net.tls import TlsPolicy
from syncd.secret import Secret


@pytest.mark.parametrize("security", sorted(SECURITIES))
def test_known_names_are_accepted(security: str):
    Endpoint("mail.example.net", 995, security, auth="plain").check("POP3", {"auto", "plain"})


def test_without_more_nobody_signs_in_and_the_certificate_is_verified():
    endpoint = Endpoint("mail.example.net", 995, "tls")
    assert (endpoint.username, endpoint.password().reveal(), endpoint.auth) == ("", "", "auto")
    assert (endpoint.allow_insecure, endpoint.tls) == (False, TlsPolicy())


@pytest.mark.parametrize(
    ("security", "auth", "message"),
    [
        ("ssl", "auto", "security = 'ssl' is not known for POP3; accepted: none, starttls, tls"),
        ("tls", "ntlm", "auth = 'ntlm' is not known for POP3; accepted: auto, plain"),
    ],
)
def test_a_wrong_name_is_refused_with_what_is_accepted(security: str, auth: str, message: str):
    with pytest.raises(ConfigError) as caught:
        Endpoint("mail.example.net", 995, security, auth=auth).check("POP3", {"auto", "plain"})
    assert str(caught.value) == message


def test_it_never_shows_the_password():
    assert "hunter2" not in repr(Endpoint("mail.example.net", 995, "tls", "me", lambda: Secret("hunter2")))


@pytest.mark.parametrize("kind", [AuthRefused, Unsupported])
def test_a_refused_sign_in_names_the_account(kind: type[Refused]):
    endpoint = Endpoint("mail.example.net", 995, "tls", account='account "road", password = "env:ROAD"')
    error = kind("the server says no", code="AUTH")
    with pytest.raises(kind) as caught, endpoint.signing_in():
        raise error
    assert caught.value is error
    assert str(error) == 'the server says no (account "road", password = "env:ROAD")'


def test_other_errors_of_a_sign_in_are_left_as_they_are():
    endpoint = Endpoint("mail.example.net", 995, "tls", account='account "road"')
    with pytest.raises(Refused, match=r"^come later$"), endpoint.signing_in():
        raise Refused("come later")
