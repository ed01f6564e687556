from __future__ import annotations

import hmac

import pytest

from syncd.auth.sasl import Mechanism
from syncd.auth.sasl_simple import CramMd5, External, Login, Plain
from syncd.errors import LocalProtocolError
from syncd.secret import Secret


def test_plain_is_utf8_between_nuls():
    assert Plain("jürgen", Secret("geheim ß")).initial() == "\0jürgen\0geheim ß".encode()


def test_plain_answers_one_empty_challenge():
    plain = Plain("tim", Secret("tanstaaftanstaaf"))  # RFC 4616 §4
    assert plain.respond(b"") == b"\0tim\0tanstaaftanstaaf"
    assert plain.respond(b"") is None
    assert Plain("tim", Secret("x")).respond(b"more?") is None


@pytest.mark.parametrize(("name", "word"), [("a\0b", "c"), ("a", "b\0c")])
def test_plain_refuses_nul_and_does_not_show_it(name: str, word: str):
    with pytest.raises(LocalProtocolError) as caught:
        Plain(name, Secret(word)).initial()
    assert word not in str(caught.value).split()


@pytest.mark.parametrize("prompts", [(b"Username:", b"Password:"), (b"User Name\0", b"Password\0"), (b"", b"")])
def test_login_goes_by_the_order_of_the_prompts(prompts: tuple[bytes, bytes]):
    login = Login("jürgen", Secret("geheim ß"))
    mechanism: Mechanism = login
    assert mechanism.initial() is None
    assert [login.respond(prompt) for prompt in prompts] == ["jürgen".encode(), "geheim ß".encode()]
    assert login.respond(b"and your mother's name?") is None


def test_cram_md5_as_in_rfc_2195():
    cram = CramMd5("tim", Secret("tanstaaftanstaaf"))
    mechanism: Mechanism = cram
    assert mechanism.initial() is None
    challenge = b"<1896.697170952@postoffice.reston.mci.net>"
    assert cram.respond(challenge) == b"tim b913a602c7eda7a495b4e6e7334d3890"
    assert cram.respond(challenge) is None


def test_cram_md5_answers_no_empty_challenge():
    assert CramMd5("tim", Secret("x")).respond(b"") is None


def test_external_names_whom_to_act_for():
    external = External("fred@example.com")  # RFC 4422 §A.3
    assert external.initial() == external.respond(b"") == b"fred@example.com"
    assert external.respond(b"") is None
    assert External("").initial() == External("").respond(b"") == b""
    with pytest.raises(LocalProtocolError, match="EXTERNAL cannot carry"):
        External("a\0b").initial()


def test_octets_that_are_not_utf_8_go_as_they_are() -> None:
    secret = Secret(b"p\xe4ss")
    login = Login("me", secret)
    assert (login.respond(b""), login.respond(b"")) == (b"me", b"p\xe4ss")
    assert login.secrets == [b"p\xe4ss"]
    digest = hmac.new(b"p\xe4ss", b"<1@x>", "md5").hexdigest()
    assert CramMd5("me", secret).respond(b"<1@x>") == f"me {digest}".encode()
