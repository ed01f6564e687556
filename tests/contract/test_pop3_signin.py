"""POP3's AUTH against a scripted server: every mechanism, with and without initial response, and each kind of no."""

from __future__ import annotations

import base64
import logging
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncd.errors import (
    AuthRefused,
    ConfigError,
    LocalProtocolError,
    MailboxRefused,
    Refused,
    RemoteProtocolError,
    Retry,
    SyncdError,
    TlsFailed,
    Unsupported,
)
from syncd.net.tls import TlsPolicy
from syncd.secret import Secret
from syncd.services.wiring import open_source
from syncd.settings.load import load
from syncd.sources.base import SourceInfo
from tests.contract.pop3_kit import source
from tests.fakes.pop3 import PASSWORD, USERNAME, FakePop3
from tests.servers.certificate import Authority

SERVER_FIRST = ["login", "cram-md5"]
CLIENT_FIRST = ["plain", "scram-sha-1", "scram-sha-256", "xoauth2", "oauthbearer"]
MECHANISMS = SERVER_FIRST + CLIENT_FIRST
SASL = f"SASL {' '.join(MECHANISMS).upper()}"
GUESS = "hunter2-is-not-it"


@pytest.fixture
def server() -> Iterator[FakePop3]:
    with FakePop3() as fake:
        fake.capabilities = ("UIDL", "USER", SASL)
        yield fake


def sign_in(server: FakePop3, auth: str = "auto", **changes: Any) -> SourceInfo:
    session = source(server, auth=auth, **changes).connect()
    try:
        session.finish()
    finally:
        session.close()
    return session.info


def refused(server: FakePop3, auth: str, kind: type[SyncdError], **changes: Any) -> str:
    with pytest.raises(kind) as caught:
        sign_in(server, auth, **changes)
    assert type(caught.value) is kind
    return str(caught.value).removeprefix(f"127.0.0.1:{server.port}: ")


def in_base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


# --- yes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", MECHANISMS)
def test_every_mechanism_that_capa_offers(server: FakePop3, auth: str):
    assert sign_in(server, auth).mechanism == f"AUTH {auth.upper()}"
    command = next(command for command in server.commands if command.startswith("AUTH"))
    assert len(command.split()) == (3 if auth in CLIENT_FIRST else 2)


@pytest.mark.parametrize("auth", CLIENT_FIRST)
def test_p43_without_initial_response(server: FakePop3, auth: str):
    """The line would be longer than POP3 allows, so the server asks for it: tokens are like that."""
    refusal = refused(server, auth, AuthRefused, username="u" * 200, password=lambda: Secret("s" * 250))
    assert "no such user or password" in refusal
    assert f"AUTH {auth.upper()}" in server.commands


@pytest.mark.parametrize("offered", ["PLAIN LOGIN SCRAM-SHA-1", "SCRAM-SHA-256 SCRAM-SHA-1 PLAIN", "PLAIN CRAM-MD5"])
def test_auto_takes_the_strongest(server: FakePop3, offered: str):
    server.capabilities = ("UIDL", "USER", f"SASL {offered}")
    taken = {"PLAIN LOGIN SCRAM-SHA-1": "SCRAM-SHA-1", "PLAIN CRAM-MD5": "CRAM-MD5"}.get(offered, "SCRAM-SHA-256")
    assert sign_in(server).mechanism == f"AUTH {taken}"


def test_auto_goes_by_user_and_pass_where_no_mechanism_fits(server: FakePop3):
    server.capabilities = ("UIDL", "USER", "SASL XOAUTH2 NTLM")
    assert sign_in(server).mechanism == "USER/PASS"


def test_what_is_wanted_is_tried_where_the_server_tells_nothing(server: FakePop3):
    server.capabilities = None
    assert sign_in(server, "login").mechanism == "AUTH LOGIN"
    assert sign_in(server).mechanism == "USER/PASS"


# --- never in clear ----------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", ["auto", "plain", "login", "user", "xoauth2", "oauthbearer"])
@pytest.mark.parametrize("capabilities", [("USER", "SASL PLAIN LOGIN XOAUTH2 OAUTHBEARER"), ("SASL PLAIN",), (), None])
def test_no_password_goes_over_a_clear_line(server: FakePop3, auth: str, capabilities: tuple[str, ...] | None):
    server.capabilities = capabilities
    with pytest.raises(Unsupported, match=r'set security = "tls" or "starttls"|does not offer'):
        sign_in(server, auth, allow_insecure=False)
    assert server.verbs() == ["CAPA"]


def test_but_what_does_not_show_it_may(server: FakePop3):
    assert sign_in(server, allow_insecure=False).mechanism == "AUTH SCRAM-SHA-256"
    assert sign_in(server, "cram-md5", allow_insecure=False).mechanism == "AUTH CRAM-MD5"
    assert sign_in(server, "apop", allow_insecure=False).mechanism == "APOP"


# --- no ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("auth", MECHANISMS)
def test_a_wrong_password_is_one_clear_line(server: FakePop3, auth: str):
    said = refused(server, auth, AuthRefused, password=lambda: Secret(GUESS))
    assert said.startswith("the server refuses to sign 'user' in")
    assert "[AUTH] “no such user or password”; check the " in said


def test_the_reason_for_a_refused_token_is_shown(server: FakePop3):
    said = refused(server, "oauthbearer", AuthRefused, password=lambda: Secret(GUESS))
    assert '(“{"status": "invalid_token"}”)' in said
    assert said.endswith("gives an access token that is meant for mail and still valid")


@pytest.mark.parametrize("auth", [*MECHANISMS, "user", "apop"])
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"-ERR [AUTH] wrong", AuthRefused),
        (b"-ERR wrong", AuthRefused),
        (b"-ERR [IN-USE] busy", MailboxRefused),
        (b"-ERR [LOGIN-DELAY] slow down", Refused),
        (b"-ERR [SYS/TEMP] come back", Refused),
        (b"-ERR Too many login attempts, try again later", Refused),
        (b"-ERR Temporary authentication failure", Refused),
    ],
)
def test_p25_p27_a_wrong_password_a_fault_and_a_throttle_are_told_apart(
    server: FakePop3, auth: str, reply: bytes, kind: type[Refused]
):
    server.replies = dict.fromkeys(("AUTH", "PASS", "APOP"), reply + b"\r\n")
    with pytest.raises(Refused) as caught:
        sign_in(server, auth)
    assert type(caught.value) is kind
    assert caught.value.retry is (Retry.NEVER if kind is AuthRefused else Retry.LATER)


@pytest.mark.parametrize("auth", MECHANISMS)
def test_p20_challenges_without_end_are_ended(server: FakePop3, auth: str):
    class Asking(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            return default if key in {"CAPA", "QUIT"} else b"+ eA==\r\n"

    server.replies = Asking()
    with pytest.raises(
        (AuthRefused, RemoteProtocolError), match=f"asks for one more step than {auth.upper()}|server's part"
    ):
        sign_in(server, auth)
    assert len(server.commands) <= 4


def test_a_server_that_does_not_prove_itself_is_left(server: FakePop3):
    server.replies = {"AUTH": b"+OK come in\r\n"}
    said = refused(server, "scram-sha-256", RemoteProtocolError)
    assert said.startswith("SCRAM-SHA-256: the server accepts the sign-in without its signature")
    assert server.verbs()[-1] == "AUTH"


@pytest.mark.parametrize("auth", ["ntlm", "gssapi"])
def test_what_this_version_does_not_know(server: FakePop3, auth: str):
    with pytest.raises(ConfigError, match=f"auth = '{auth}' is not known for POP3; accepted: apop, auto, "):
        source(server, auth=auth)


def test_a_token_that_is_none(server: FakePop3):
    with pytest.raises(LocalProtocolError, match="is not an access token"):
        sign_in(server, "xoauth2", password=lambda: Secret("not a token"))
    assert server.verbs() == ["CAPA"]


# --- no secret in errors or logs ---------------------------------------------------------------------


class Parrot(dict[str, Any]):
    """Replies of a server out of step: it takes the `turn`-th line of the exchange for a command, and repeats it."""

    def __init__(self, server: FakePop3, turn: int) -> None:
        self._server = server
        self._turn = turn

    def get(self, key: str, default: Any = None) -> Any:
        lines = self._server.commands[1:]
        if key == "CAPA" or not lines:
            return default
        if len(lines) < self._turn:
            return b"+ \r\n" if key.startswith("AUTH") else b"+OK\r\n"
        return b"-ERR unknown command: %s (%s)\r\n" % (lines[-1].encode(), _decoded(lines[-1].split(" ")[-1]))


def _decoded(word: str) -> bytes:
    try:
        return base64.b64decode(word, validate=True).replace(b"\r", b"").replace(b"\n", b"")
    except ValueError:
        return b""


@pytest.mark.parametrize("turn", [1, 2, 3])
@pytest.mark.parametrize("auth", [*MECHANISMS, "user", "apop"])
def test_no_secret_gets_into_an_error_or_a_log(
    server: FakePop3, auth: str, turn: int, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    server.replies = Parrot(server, turn)
    error = None
    try:
        sign_in(server, auth, password=lambda: Secret(GUESS))
    except SyncdError as caught:
        error = caught
    assert (error is None) == (server.commands[-1] == "QUIT")  # which may be refused where nothing was marked
    sent = [word for command in server.commands for word in command.split() if len(word) > 16]
    shown = [caplog.text, *_everything(error)]
    for secret in (GUESS, in_base64(GUESS.encode()), *sent):
        assert not any(secret in text for text in shown), (secret, shown)


def _everything(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield f"{error} {error!r} {vars(error)}"
        error = error.__cause__ or error.__context__


# --- certificates of our own -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "127.0.0.1")


@pytest.fixture
def careful(authority: Authority) -> Iterator[FakePop3]:
    """A server that wants to see a certificate of its clients."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate_file, authority.key_file)
    context.load_verify_locations(authority.ca_file)
    context.verify_mode = ssl.CERT_OPTIONAL
    with FakePop3(tls=context, implicit=True) as fake:
        fake.capabilities = ("UIDL", "SASL EXTERNAL")
        yield fake


def test_external_signs_in_by_certificate(careful: FakePop3, authority: Authority):
    certificate, key = authority.client("user")
    policy = TlsPolicy(authority.ca_file, None, certificate, key)
    assert sign_in(careful, "external", security="tls", tls=policy).mechanism == "AUTH EXTERNAL"
    assert careful.commands[1] == f"AUTH EXTERNAL {in_base64(b'user')}"
    assert sign_in(careful, "external", security="tls", tls=policy, username="").mechanism == "AUTH EXTERNAL"
    assert "AUTH EXTERNAL =" in careful.commands
    said = refused(careful, "external", AuthRefused, security="tls", tls=policy, username="somebody")
    assert said.endswith("check the account's username, and whether the server knows its certificate")


def test_external_without_a_certificate(careful: FakePop3, authority: Authority):
    refused(careful, "external", AuthRefused, security="tls", tls=TlsPolicy(authority.ca_file))


def test_certificate_and_key_in_one_file(careful: FakePop3, authority: Authority, tmp_path: Path):
    certificate, key = authority.client("user")
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    policy = TlsPolicy(authority.ca_file, certificate=both)
    assert sign_in(careful, "external", security="tls", tls=policy).mechanism == "AUTH EXTERNAL"


def test_a_certificate_that_cannot_be_used(careful: FakePop3, authority: Authority, tmp_path: Path):
    certificate, _ = authority.client("user")
    for key, reason in ((authority.key_file, "the two do not match"), (tmp_path / "none", "No such file or directory")):
        policy = TlsPolicy(authority.ca_file, certificate=certificate, key=key)
        with pytest.raises(ConfigError, match=f"certificate {certificate} with key {key} cannot be used: .*{reason}"):
            sign_in(careful, "external", security="tls", tls=policy)


def test_a_certificate_of_an_authority_that_the_server_does_not_know(
    careful: FakePop3, authority: Authority, tmp_path: Path
):
    certificate, key = Authority(tmp_path, "127.0.0.1").client("user")
    policy = TlsPolicy(authority.ca_file, certificate=certificate, key=key)
    with pytest.raises(TlsFailed, match=r"TLS broke: .*unknown ca.*check certificate and key"):
        sign_in(careful, "external", security="tls", tls=policy)


def test_the_right_password_is_in_no_line_that_a_clear_mechanism_sends(server: FakePop3):
    for auth in ("scram-sha-256", "scram-sha-1", "cram-md5"):
        sign_in(server, auth)
    assert PASSWORD not in " ".join(server.commands)
    assert in_base64(PASSWORD.encode()) not in " ".join(server.commands)


# --- from a configuration ----------------------------------------------------------------------------


def test_a_token_is_what_a_command_prints(server: FakePop3, tmp_path: Path):
    account = (
        '[accounts.road]\nprotocol = "pop3"\nhost = "127.0.0.1"\nsecurity = "none"\nallow_insecure = true\n'
        f'port = {server.port}\nusername = "{USERNAME}"\nauth = "oauthbearer"\npassword = "command:echo {PASSWORD}"\n'
    )
    (tmp_path / "syncd.toml").write_text(account)
    session = open_source(load(tmp_path / "syncd.toml", environment=dict(os.environ)), "road").connect()
    session.finish()
    assert session.info.mechanism == "AUTH OAUTHBEARER"


def test_a_certificate_needs_no_password(careful: FakePop3, authority: Authority, tmp_path: Path):
    certificate, key = authority.client("user")
    account = (
        f'[accounts.road]\nprotocol = "pop3"\nhost = "127.0.0.1"\nport = {careful.port}\nusername = "user"\n'
        f'auth = "external"\nca_file = "{authority.ca_file}"\ncertificate = "{certificate}"\nkey = "{key}"\n'
    )
    (tmp_path / "syncd.toml").write_text(account)
    session = open_source(load(tmp_path / "syncd.toml", environment={}), "road").connect()
    session.finish()
    assert session.info.mechanism == "AUTH EXTERNAL"
