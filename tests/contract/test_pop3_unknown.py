"""A command that the server does not know was no attempt to sign in (P54): the next one is used, no password blamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from syncd.errors import AuthRefused, Refused, Retry, Unsupported
from tests.contract.pop3_kit import source
from tests.fakes.pop3 import FakePop3

UNKNOWN = [
    b"-ERR invalid command",
    b"-ERR Unknown command: AUTH",
    b"-ERR [AUTH] Unsupported authentication mechanism.",
    b"-ERR Command is not valid in this state.",
    b"-ERR command not recognized",
    b"-ERR unrecognised command",
    b"-ERR AUTH PLAIN not supported here",
    b"-ERR Syntax error",
    b"-ERR unimplemented",
    b"-ERR invalid SASL mechanism",
]


@pytest.fixture
def server() -> Iterator[FakePop3]:
    with FakePop3() as fake:
        fake.capabilities = ("UIDL", "EXPIRE 31 USER", "SASL SCRAM-SHA-1 PLAIN LOGIN")
        yield fake


def mechanism(server: FakePop3, auth: str = "auto", **changes: Any) -> str:
    session = source(server, auth=auth, **changes).connect()
    session.finish()
    session.close()
    return session.info.mechanism


@pytest.mark.parametrize("reply", UNKNOWN)
def test_user_and_pass_follow_where_auth_is_unknown(server: FakePop3, reply: bytes):
    server.replies["AUTH"] = reply + b"\r\n"
    assert mechanism(server) == "USER/PASS"
    assert [verb for verb in server.verbs() if verb in {"AUTH", "USER", "PASS"}] == ["AUTH"] * 3 + ["USER", "PASS"]
    assert server.connections == 1


def test_the_next_mechanism_follows_one_that_is_unknown(server: FakePop3):
    server.on["AUTH"] = lambda words: b"-ERR unknown mechanism\r\n" if words[0] == "SCRAM-SHA-1" else None
    assert mechanism(server) == "AUTH PLAIN"


def test_auth_follows_where_user_is_unknown(server: FakePop3):
    server.capabilities = None
    server.replies["USER"] = b"-ERR unknown command\r\n"
    assert mechanism(server) == "AUTH PLAIN"


@pytest.mark.parametrize("verb", ["USER", "PASS"])
def test_user_and_pass_may_be_unknown_although_they_left_together(server: FakePop3, verb: str):
    server.capabilities = ("UIDL", "PIPELINING")
    server.replies[verb] = b"-ERR unknown command\r\n"
    assert mechanism(server) == "AUTH PLAIN"


@pytest.mark.parametrize(
    ("auth", "names"),
    [
        ("auto", 'set auth = "apop"'),
        ("plain", 'set auth = "auto" or "user", or auth = "apop"'),
        ("user", 'set auth = "auto", or auth = "apop"'),
        ("apop", 'set auth = "auto" or "user"'),
    ],
)
def test_where_nothing_is_left_the_setting_is_named(server: FakePop3, auth: str, names: str):
    server.replies = dict.fromkeys(("AUTH", "USER", "APOP"), b"-ERR unknown command\r\n")
    with pytest.raises(Unsupported, match="the server does not know how to sign in so") as caught:
        mechanism(server, auth)
    assert names in str(caught.value)
    assert 'security = "tls" or "starttls"' in str(caught.value)  # it may know more there
    assert "password" not in str(caught.value)
    assert caught.value.retry is Retry.NEVER
    assert "PASS" not in server.verbs()


@pytest.mark.parametrize(
    "reply",
    [
        b"-ERR [AUTH] Plaintext authentication disallowed on non-secure (SSL/TLS) connections.",
        b"-ERR must issue STLS command first",
        b"-ERR TLS required",
    ],
)
def test_a_server_that_wants_tls_blames_no_password(server: FakePop3, reply: bytes):
    server.replies = dict.fromkeys(("AUTH", "USER"), reply + b"\r\n")
    with pytest.raises(Unsupported, match='security = "tls" or "starttls"'):
        mechanism(server)


@pytest.mark.parametrize(
    "reply",
    [
        b"-ERR unknown user",
        b"-ERR invalid login or password",
        b"-ERR [AUTH] invalid user name or password",
        b"-ERR authentication failed",
        b"-ERR bad password",
        b"-ERR user not known here",
        b"-ERR [AUTH] Web login required",
    ],
)
@pytest.mark.parametrize("auth", ["auto", "user"])
def test_a_refused_password_is_one_and_ends_the_attempts(server: FakePop3, auth: str, reply: bytes):
    server.replies = dict.fromkeys(("AUTH", "PASS"), reply + b"\r\n")
    with pytest.raises(AuthRefused):
        mechanism(server, auth)
    assert [verb for verb in server.verbs() if verb in {"AUTH", "PASS"}] == ["AUTH" if auth == "auto" else "PASS"]


def test_a_server_that_is_busy_is_not_asked_by_another_mechanism(server: FakePop3):
    server.replies["AUTH"] = b"-ERR [SYS/TEMP] command not available now\r\n"
    with pytest.raises(Refused) as caught:
        mechanism(server)
    assert type(caught.value) is Refused
    assert server.verbs().count("AUTH") == 1


def test_no_password_goes_in_clear_because_a_mechanism_is_unknown(server: FakePop3):
    server.replies["AUTH"] = b"-ERR unknown command\r\n"
    with pytest.raises(Unsupported, match="allow_insecure = true"):
        mechanism(server, allow_insecure=False)
    assert "USER" not in server.verbs()


def test_stls_that_is_unknown_is_named_with_the_other_way(server: FakePop3):
    server.capabilities = None
    server.replies["STLS"] = b"-ERR unknown command\r\n"
    with pytest.raises(Unsupported, match='set security = "tls", which has a port of its own, usually 995'):
        mechanism(server, security="starttls")
