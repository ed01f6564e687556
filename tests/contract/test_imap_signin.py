"""IMAP's sign-in against a scripted server: every mechanism, STARTTLS, what is tried after a no and what is not."""

from __future__ import annotations

import base64
import logging
import ssl
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from syncd.auth.sasl import Credentials
from syncd.errors import AuthRefused, LocalProtocolError, Refused, RemoteProtocolError, SyncdError, Unsupported
from syncd.imap.client import Client, Deadlines
from syncd.imap.quirks import Quirks
from syncd.imap.signin import sign_in
from syncd.net.tls import TlsPolicy
from syncd.net.transport import Transport
from syncd.secret import Secret
from tests.fakes.imap import PASSWORD, USERNAME, FakeImap
from tests.servers.certificate import Authority

CLIENT_FIRST = ["plain", "scram-sha-1", "scram-sha-256", "xoauth2", "oauthbearer"]
MECHANISMS = ["login", "cram-md5", *CLIENT_FIRST]
OFFERED = tuple(f"AUTH={name.upper()}" for name in MECHANISMS)
GUESS = "hunter2-is-not-it"


@pytest.fixture
def server() -> Iterator[FakeImap]:
    with FakeImap() as server:
        server.capabilities = ("IMAP4rev1", "SASL-IR", *OFFERED)
        yield server


def signed_in(server: FakeImap, auth: str = "auto", **changes: Any) -> str:
    credentials = Credentials(
        changes.get("username", USERNAME),
        Secret(changes.get("password", PASSWORD)),
        server.host,
        server.port,
        changes.get("authzid", ""),
    )
    transport = Transport(server.host, server.port)
    with closing(Client(transport, Deadlines(), 1 << 30, changes.get("quirks"))) as client:
        client.open(None)
        if "tls" in changes:
            client.starttls(changes["tls"])
        allow = changes.get("allow_insecure", True)
        way = sign_in(client.session, auth, credentials, allow_insecure=allow)
        assert client.capabilities.known == (server.inside is not None)
        return way


def refused(server: FakeImap, kind: type[SyncdError], auth: str = "auto", **changes: Any) -> str:
    with pytest.raises(kind) as caught:
        signed_in(server, auth, **changes)
    assert type(caught.value) is kind
    return str(caught.value).removeprefix(f"127.0.0.1:{server.port}: ")


def attempts(server: FakeImap) -> list[str]:
    return [" ".join(command.split()[:2]) for command in server.commands if command.startswith(("AUTH", "LOGIN"))]


# --- yes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("initial", [True, False])
@pytest.mark.parametrize("auth", MECHANISMS)
def test_every_mechanism_with_and_without_initial_response(server: FakeImap, auth: str, initial: bool):  # noqa: FBT001
    if not initial:
        server.capabilities = ("IMAP4rev1", *OFFERED)
    assert signed_in(server, auth) == f"AUTHENTICATE {auth.upper()}"
    [command] = [command for command in server.commands if command.startswith("AUTH")]
    assert len(command.split()) == (3 if initial and auth in CLIENT_FIRST else 2)


def test_auto_takes_the_strongest(server: FakeImap):
    assert signed_in(server) == "AUTHENTICATE SCRAM-SHA-256"


@pytest.mark.parametrize("auth", ["auto", "login"])
def test_login_where_no_mechanism_is_announced(server: FakeImap, auth: str):
    server.capabilities = ("IMAP4rev1",)
    assert signed_in(server, auth) == "LOGIN"
    assert server.commands == ["CAPABILITY", f"LOGIN {USERNAME} {PASSWORD}"]


def test_a_password_that_no_string_carries(server: FakeImap):
    server.capabilities = ("IMAP4rev1",)
    server.on["LOGIN"] = lambda words: b"<tag> OK x\r\n" if words[1] == "p\xe4ss".encode() else None
    server.inside = None
    assert signed_in(server, "login", password="p\xe4ss") == "LOGIN"
    server.capabilities = ("IMAP4rev1", "LITERAL+")
    assert signed_in(server, "login", password="p\xe4ss") == "LOGIN"


def test_capabilities_of_the_greeting_are_not_asked_again(server: FakeImap):
    server.greeting = b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n"
    signed_in(server)
    assert server.verbs() == ["AUTHENTICATE"]


def test_i101_what_was_announced_before_does_not_hold_inside(server: FakeImap):
    server.inside = ("IMAP4rev1", "LOGINDISABLED")
    assert signed_in(server) == "AUTHENTICATE SCRAM-SHA-256"


def test_a_master_user_signs_in_for_another(server: FakeImap):
    server.replies["AUTHENTICATE"] = b"<tag> OK x\r\n"
    server.inside = None
    assert signed_in(server, username="chief", authzid="anna") == "AUTHENTICATE PLAIN"
    [command] = [command for command in server.commands if command.startswith("AUTH")]
    assert base64.b64decode(command.split()[2]) == b"anna\0chief\0" + PASSWORD.encode()


def test_a_master_user_never_signs_in_for_himself_by_login(server: FakeImap):
    server.replies["AUTHENTICATE"] = b"<tag> NO x\r\n"
    refused(server, AuthRefused, username="chief", authzid="anna")
    assert attempts(server) == ["AUTHENTICATE PLAIN"]


# --- no --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", MECHANISMS)
def test_a_wrong_password_is_one_attempt_where_the_mechanism_is_set(server: FakeImap, auth: str):
    message = refused(server, AuthRefused, auth, password=GUESS)
    assert "refuses to sign 'user' in" in message
    assert len(attempts(server)) == 1


def test_i100_a_no_to_scram_is_followed_by_plain_and_that_is_believed(server: FakeImap):
    assert "AUTHENTICATIONFAILED" in refused(server, AuthRefused, password=GUESS)
    assert attempts(server) == ["AUTHENTICATE SCRAM-SHA-256", "AUTHENTICATE PLAIN"]


def test_i100_mechanisms_that_cannot_succeed(server: FakeImap, caplog: pytest.LogCaptureFixture):
    def only_login(words: list[Any]) -> bytes | None:
        return b"<tag> NO not so\r\n" if words[0] != b"LOGIN" else None

    server.on["AUTHENTICATE"] = only_login
    quirks = Quirks()
    with caplog.at_level(logging.INFO):
        assert signed_in(server, quirks=quirks) == "AUTHENTICATE LOGIN"
    assert attempts(server) == ["AUTHENTICATE SCRAM-SHA-256", "AUTHENTICATE PLAIN", "AUTHENTICATE LOGIN"]
    assert "I100" in quirks.noted
    server.commands.clear()
    assert signed_in(server, quirks=quirks) == "AUTHENTICATE LOGIN"
    assert attempts(server) == ["AUTHENTICATE LOGIN"]  # remembered


def test_i100_plain_and_login_are_tried_once_each(server: FakeImap):
    server.replies["AUTHENTICATE"] = server.replies["LOGIN"] = b"<tag> NO not so\r\n"
    refused(server, AuthRefused)
    assert attempts(server) == ["AUTHENTICATE SCRAM-SHA-256", "AUTHENTICATE PLAIN", "AUTHENTICATE LOGIN"]
    server.capabilities = ("IMAP4rev1", "SASL-IR", "AUTH=CRAM-MD5", "AUTH=PLAIN")
    server.commands.clear()
    refused(server, AuthRefused)
    assert attempts(server) == ["AUTHENTICATE CRAM-MD5", "AUTHENTICATE PLAIN", f"LOGIN {USERNAME}"]


def test_i100_a_server_that_hangs_up_after_a_no_has_said_no(server: FakeImap):
    server.replies["AUTHENTICATE"] = b"<tag> NO not so\r\n* BYE\r\n"
    server.hangs_up_on.add("LOGIN")
    assert "“NO not so”" in refused(server, AuthRefused)


def test_a_throttled_sign_in_is_not_tried_again(server: FakeImap):
    server.replies["AUTHENTICATE"] = b"<tag> NO [UNAVAILABLE] later\r\n"
    refused(server, Refused)
    assert len(attempts(server)) == 1


def test_mechanisms_that_the_server_does_not_know_are_no_attempts(server: FakeImap):
    server.replies["AUTHENTICATE"] = b"<tag> BAD unknown mechanism\r\n"
    assert signed_in(server) == "LOGIN"
    server.replies["LOGIN"] = b"<tag> BAD unknown command\r\n"
    message = refused(server, Unsupported)
    assert "does not know how to sign in so (AUTHENTICATE SCRAM-SHA-256: “unknown mechanism”; " in message


def test_i05_logindisabled_is_honoured(server: FakeImap):
    server.capabilities = ("IMAP4rev1", "LOGINDISABLED")
    refused(server, Unsupported)
    assert attempts(server) == []


@pytest.mark.parametrize("auth", ["auto", "login"])
def test_login_in_clear_wants_leave(server: FakeImap, auth: str):
    server.capabilities = ("IMAP4rev1",)
    assert "would show the password" in refused(server, Unsupported, auth, allow_insecure=False)
    assert attempts(server) == []


def test_after_a_no_in_clear_the_password_is_not_shown(server: FakeImap):
    refused(server, AuthRefused, password=GUESS, allow_insecure=False)
    assert attempts(server) == ["AUTHENTICATE SCRAM-SHA-256"]


@pytest.mark.parametrize(
    ("challenge", "kind", "said"),
    [(b"+ !!!\r\n", RemoteProtocolError, "no base64: “!!!”"), (b"+ YQ==\r\n", AuthRefused, "asks for one more step")],
)
def test_a_challenge_that_cannot_be_answered_cancels(
    server: FakeImap, challenge: bytes, kind: type[SyncdError], said: str
):
    server.on["AUTHENTICATE"] = lambda _: challenge
    server.replies[""] = b"a2 NO cancelled\r\n"  # to "*"
    assert said in refused(server, kind, "plain")
    assert server.commands[-1] == ""


def test_a_server_that_proves_nothing(server: FakeImap):
    server.replies["AUTHENTICATE"] = b"<tag> OK come in\r\n"
    assert "without its signature" in refused(server, RemoteProtocolError, "scram-sha-1")


def test_a_password_with_a_line_end(server: FakeImap):
    server.capabilities = ("IMAP4rev1",)
    assert "contains CR, LF or NUL" in refused(server, LocalProtocolError, password="a\nb")


# --- secrets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", [*MECHANISMS, "auto"])
def test_b33_a_secret_that_the_server_repeats_is_not_shown(
    server: FakeImap, auth: str, caplog: pytest.LogCaptureFixture
):
    secret = "correct-horse-battery"
    encoded = base64.b64encode(secret.encode()).decode()

    def repeats(words: list[Any]) -> bytes:
        return b"<tag> NO [AUTHENTICATIONFAILED] no " + b" ".join(words) + f" {secret} {encoded}\r\n".encode()

    server.on["AUTHENTICATE"] = server.on["LOGIN"] = repeats
    with caplog.at_level(logging.DEBUG):
        message = refused(server, AuthRefused, auth, password=secret)
    assert secret not in message + caplog.text
    assert encoded not in message + caplog.text


# --- TLS -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "127.0.0.1")


@pytest.fixture
def context(authority: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate_file, authority.key_file)
    return context


@pytest.fixture
def protected(context: ssl.SSLContext) -> Iterator[FakeImap]:
    with FakeImap(tls=context) as server:
        server.capabilities = ("IMAP4rev1", "STARTTLS", "SASL-IR", "AUTH=PLAIN")
        yield server


def test_i02_capabilities_are_asked_again_in_tls(protected: FakeImap, authority: Authority):
    protected.greeting = b"* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] ready\r\n"
    assert signed_in(protected, tls=TlsPolicy(authority.ca_file), allow_insecure=False) == "AUTHENTICATE PLAIN"
    assert protected.verbs() == ["STARTTLS", "CAPABILITY", "AUTHENTICATE"]


def test_i168_the_answer_to_authenticate_may_end_with_lf_alone(server: FakeImap):
    server.inside = None
    server.replies["AUTHENTICATE"] = b"<tag> OK welcome\n"
    assert signed_in(server, "plain") == "AUTHENTICATE PLAIN"


def test_in_tls_from_the_first_octet(context: ssl.SSLContext, authority: Authority):
    with FakeImap(tls=context, implicit=True) as server:
        client = Client(Transport(server.host, server.port), Deadlines(), 1 << 30)
        with closing(client):
            client.open(TlsPolicy(authority.ca_file))
            credentials = Credentials(USERNAME, Secret(PASSWORD), server.host, server.port)
            assert sign_in(client.session, "auto", credentials, allow_insecure=False) == "AUTHENTICATE PLAIN"


def test_octets_behind_the_answer_to_starttls(protected: FakeImap, authority: Authority):
    protected.replies["STARTTLS"] = b"<tag> OK go\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n"
    message = refused(protected, RemoteProtocolError, tls=TlsPolicy(authority.ca_file))
    assert "octets in clear after its reply to STARTTLS" in message


@pytest.mark.parametrize("offered", [True, False])
def test_without_starttls_nobody_signs_in(protected: FakeImap, authority: Authority, offered: bool):  # noqa: FBT001
    protected.replies["STARTTLS"] = b"<tag> NO not today\r\n"
    if not offered:
        protected.capabilities = ("IMAP4rev1", "AUTH=PLAIN")
    message = refused(protected, Unsupported, tls=TlsPolicy(authority.ca_file))
    assert ("refuses STARTTLS" if offered else "does not announce STARTTLS") in message
    assert attempts(protected) == []


def test_i04_preauth_ends_the_session(protected: FakeImap, authority: Authority):
    protected.greeting = b"* PREAUTH [CAPABILITY IMAP4rev1] welcome back\r\n"
    assert "somebody is signed in already (PREAUTH)" in refused(
        protected, Unsupported, tls=TlsPolicy(authority.ca_file)
    )
    assert protected.commands == []
