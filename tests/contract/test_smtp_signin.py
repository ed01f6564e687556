"""SMTP's AUTH against a scripted server: every mechanism, with and without initial response, and each kind of no."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from syncd.auth.sasl import Credentials, Mechanism, choose
from syncd.errors import AuthRefused, LocalProtocolError, Refused, RemoteProtocolError, SyncdError, Unsupported
from syncd.secret import Secret
from syncd.smtp.client import Client
from tests.contract.smtp_kit import codes, deliver, session
from tests.fakes.smtp import CAPABILITIES, PASSWORD, USERNAME, FakeSmtp

CLIENT_FIRST = ["plain", "scram-sha-1", "scram-sha-256", "xoauth2", "oauthbearer"]
SERVER_FIRST = ["login", "cram-md5"]
MECHANISMS = CLIENT_FIRST + SERVER_FIRST
GUESS = "hunter2-is-not-it"


@pytest.fixture
def server() -> Iterator[FakeSmtp]:
    with FakeSmtp() as fake:
        fake.capabilities = (*CAPABILITIES, f"AUTH {' '.join(MECHANISMS).upper()}")
        yield fake


def mechanism(client: Client, name: str, secret: str = PASSWORD, username: str = USERNAME) -> Mechanism:
    credentials = Credentials(username, Secret(secret), "127.0.0.1", client.transport.port)
    offered = client.capabilities.mechanisms
    return choose(offered, name, credentials, encrypted=False, allow_insecure=True)


def refused(server: FakeSmtp, name: str, kind: type[SyncdError], secret: str = GUESS) -> str:
    with session(server) as client, pytest.raises(kind) as caught:
        client.authenticate(mechanism(client, name, secret))
    assert type(caught.value) is kind
    assert secret not in str(caught.value)
    return str(caught.value).removeprefix(f"127.0.0.1:{server.port}: ")


@pytest.mark.parametrize("name", MECHANISMS)
def test_s20_every_mechanism_signs_in_and_mail_goes(server: FakeSmtp, name: str):
    with session(server) as client:
        client.authenticate(mechanism(client, name))
        assert codes(deliver(client)) == [250]
    command = server.commands[1]
    assert command.startswith(f"AUTH {name.upper()}")
    assert (len(command.split(" ")) == 3) == (name in CLIENT_FIRST)


@pytest.mark.parametrize("name", ["xoauth2", "oauthbearer"])
def test_s20_an_initial_response_that_does_not_fit_waits_for_a_challenge(server: FakeSmtp, name: str):
    """512 octets are a command's (RFC 5321 §4.5.3.1.4), 12,288 a response's (RFC 4954 §4)."""
    token = "t" * 3000
    with session(server) as client, pytest.raises(AuthRefused):
        client.authenticate(mechanism(client, name, token))
    assert server.commands[1] == f"AUTH {name.upper()}"
    assert token.encode() in base64.b64decode(server.commands[2])


def test_s20_an_empty_initial_response_is_an_equals_sign(server: FakeSmtp):
    server.capabilities, server.certified = (*CAPABILITIES, "AUTH EXTERNAL"), "me"
    with session(server) as client:
        client.authenticate(mechanism(client, "external", "", ""))
    assert server.commands[1] == "AUTH EXTERNAL ="


@pytest.mark.parametrize("name", MECHANISMS)
def test_a_wrong_secret_is_named_as_such(server: FakeSmtp, name: str):
    text = refused(server, name, AuthRefused)
    assert text.startswith(f"the server refuses to sign us in by {name.upper()}")
    assert "535 5.7.8 no such user or password" in text


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"454 4.7.0 try later\r\n", Refused),
        (b"421 4.7.0 too many connections\r\n", Refused),
        (b"535 5.7.0 too many failures\r\n", Refused),
        (b"504 5.5.4 unknown mechanism\r\n", Unsupported),
        (b"538 5.7.11 encryption required\r\n", Unsupported),
        (b"535 5.7.139 basic authentication is disabled\r\n", AuthRefused),
    ],
)
def test_f09_s21_a_temporary_fault_is_no_wrong_password(server: FakeSmtp, reply: bytes, kind: type[SyncdError]):
    server.replies["AUTH"] = reply
    refused(server, "plain", kind)


def test_b28_a_response_that_is_too_long_cancels(server: FakeSmtp):
    with session(server) as client:
        with pytest.raises(LocalProtocolError, match="the limit is 12288"):
            client.authenticate(mechanism(client, "xoauth2", "t" * 10_000))
        assert server.commands[2] == "*"
        assert codes(deliver(client)) == [250]


def test_b28_a_challenge_that_is_no_base64_cancels_and_ends_the_session(server: FakeSmtp):
    server.replies["334"] = b"334 !!!\r\n"
    text = refused(server, "login", RemoteProtocolError)
    assert text == "a challenge that is no base64: “!!!”; the session was closed, try again later"
    assert server.commands[-1] == "*"


def test_b28_an_endless_challenge_is_cut_off(server: FakeSmtp):
    server.replies["334"] = b"334 " + b"A" * 100_000
    assert "a line of more than 65536 octets" in refused(server, "login", RemoteProtocolError)


def test_a_server_that_asks_for_more_than_there_is(server: FakeSmtp):
    server.replies["AUTH"] = b"334 \r\n334 bW9yZQ==\r\n501 cancelled\r\n"
    assert "the server asks for one more step than PLAIN has" in refused(server, "plain", AuthRefused)


def test_a_server_that_ignores_the_initial_response_is_sent_it_once_more(server: FakeSmtp):
    server.replies["AUTH"] = b"334 \r\n235 2.7.0 welcome\r\n"
    with session(server) as client:
        client.authenticate(mechanism(client, "plain"))


def test_a_server_that_does_not_prove_itself_is_not_trusted(server: FakeSmtp):
    """SCRAM: a yes without the server's signature is nobody's yes."""
    server.replies["AUTH"] = b"235 2.7.0 welcome\r\n"
    with session(server) as client:
        with pytest.raises(RemoteProtocolError):
            client.authenticate(mechanism(client, "scram-sha-256"))
        with pytest.raises(SyncdError):
            deliver(client)


@pytest.mark.parametrize("name", ["plain", "xoauth2"])
def test_b33_no_secret_is_shown_even_if_the_server_repeats_it(
    server: FakeSmtp, name: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    with session(server) as client:
        made = mechanism(client, name, GUESS)
        first = made.initial()
        answers = [base64.b64encode(answer).decode() for answer in [first or b"", GUESS.encode()] if answer]
        server.replies["AUTH"] = f"501 5.5.4 syntax: {' '.join(answers)}\r\n".encode()
        with pytest.raises(Refused) as caught:
            client.authenticate(mechanism(client, name, GUESS))
    sent = server.commands[1].split(" ")[2:]
    assert all(word not in str(caught.value) for word in sent)
    assert all(word not in caplog.text for word in sent)


class Parrot(dict[str, bytes | list[bytes]]):
    """Replies of a server out of step: it repeats the `turn`-th line of the exchange, in a reply or as it is."""

    def __init__(self, server: FakeSmtp, turn: int, form: bytes) -> None:
        super().__init__()
        self._server, self._turn, self._form = server, turn, form

    def get(self, key: str, default: object = None) -> Any:
        lines = self._server.commands[1:]  # the one that is answered is the last
        if not key.startswith(("AUTH", "334", "end of AUTH")) or len(lines) < self._turn:
            return default
        word = lines[-1].split(" ")[-1]
        said = self._form % {b"line": lines[-1].encode(), b"word": word.encode(), b"decoded": _decoded(word)}
        return said if said.strip() else b"?" + said  # S31: an empty line is no reply


def _decoded(word: str) -> bytes:
    try:
        return base64.b64decode(word, validate=True)
    except ValueError:
        return b""


@pytest.mark.parametrize(
    "form",
    [
        b"500 5.5.2 unknown command: %(line)s (%(decoded)s)\r\n",
        b"535-5.7.8 %(line)s\r\n535 %(decoded)s\r\n",
        b"%(line)s\r\n500 5.5.2 what?\r\n",  # as a terminal would
        b"%(word)s\r\n",
        b"334 !%(word)s\r\n",
        b"535-%(word)s\r\n550 %(decoded)s\r\n",
        b"250 %(word)s\n",
        b"2" + b"x" * 70_000 + b"%(word)s",
    ],
)
@pytest.mark.parametrize("turn", [1, 2, 3])
@pytest.mark.parametrize("name", MECHANISMS)
def test_b33_no_secret_gets_into_an_error_or_a_log(
    server: FakeSmtp, name: str, turn: int, form: bytes, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    server.replies = Parrot(server, turn, form)
    with session(server) as client, pytest.raises(SyncdError) as caught:
        client.authenticate(mechanism(client, name, GUESS))
    sent = [word for command in server.commands[1:] for word in command.split(" ") if len(word) > 16]
    shown = [caplog.text, *_everything(caught.value)]
    for secret in (GUESS, base64.b64encode(GUESS.encode()).decode(), *sent):
        assert not any(secret in text for text in shown), (secret, shown)


def _everything(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield f"{error} {error!r} {vars(error)}"
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("code", [b"250", b"450", b"550"])
def test_b33_nor_do_later_replies_show_one(server: FakeSmtp, code: bytes):
    """The text of a reply to a message is stored in the ledger."""
    server.replies["."] = code + b" queued for user " + PASSWORD.encode() + b"\r\n"
    with session(server) as client:
        client.authenticate(mechanism(client, "plain"))
        (reply,) = deliver(client)
    assert reply.code == int(code)
    assert b" ".join(reply.text) == "queued for user …".encode()
