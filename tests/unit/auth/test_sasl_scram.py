from __future__ import annotations

import pytest

from syncd.auth.sasl_scram import Scram
from syncd.errors import LocalProtocolError, RemoteProtocolError
from syncd.secret import Secret

# User "user", password "pencil": client nonce, server first, client final, server final (RFC 5802 §5, RFC 7677 §3)
EXAMPLES = {
    "SCRAM-SHA-1": (
        "fyko+d2lbbFgONRv9qkxdawL",
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
    "SCRAM-SHA-256": (
        "rOprNGfwEbeRWgbNEkqO",
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
}  # fmt: skip
SHA_1 = EXAMPLES["SCRAM-SHA-1"]


def scram(name: str = "SCRAM-SHA-1") -> Scram:
    return Scram(name, "user", Secret("pencil"), EXAMPLES[name][0])


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_rfc_5802_and_7677(name: str, asked: bool):  # noqa: FBT001
    nonce, server_first, client_final, server_final = EXAMPLES[name]
    mechanism = scram(name)
    assert mechanism.initial() == f"n,,n=user,r={nonce}".encode()
    if asked:  # a server that ignores the initial response, or was not sent it
        assert mechanism.respond(b"") == mechanism.initial()
    assert mechanism.respond(server_first) == client_final
    assert mechanism.respond(server_final) == b""
    mechanism.finish()
    assert mechanism.respond(b"") is None
    assert mechanism.respond(server_final) is None


def test_a_nonce_is_new_each_time():
    first, second = (Scram("SCRAM-SHA-256", "user", Secret("pencil")).initial() for _ in range(2))
    assert first != second
    assert len(first) >= len("n,,n=user,r=") + 24


def test_names_are_escaped():
    assert Scram("SCRAM-SHA-1", "a=b,c", Secret("x"), "n").initial() == b"n,,n=a=3Db=2Cc,r=n"


def test_a_wrong_signature_is_not_accepted():
    mechanism = scram()
    mechanism.respond(SHA_1[1])
    with pytest.raises(
        RemoteProtocolError, match=r"signature doesn't match.*may not be the server that it claims to be"
    ):
        mechanism.respond(b"v=" + b"A" * 27 + b"=")
    with pytest.raises(RemoteProtocolError):
        mechanism.finish()


@pytest.mark.parametrize("steps", [0, 1])
def test_a_yes_without_a_signature_is_not_accepted(steps: int):
    mechanism = scram()
    for challenge in SHA_1[1:][:steps]:
        mechanism.respond(challenge)
    with pytest.raises(RemoteProtocolError, match="accepts the sign-in without its signature"):
        mechanism.finish()


@pytest.mark.parametrize("steps", [0, 1])
def test_a_server_error_ends_the_exchange_and_is_kept(steps: int):
    mechanism = scram()
    for challenge in SHA_1[1:][:steps]:
        mechanism.respond(challenge)
    assert mechanism.respond(b"e=invalid-\x1bproof") == b""
    assert mechanism.said == "invalid-\\x1bproof"
    assert mechanism.respond(b"more") is None
    with pytest.raises(RemoteProtocolError):
        mechanism.finish()


@pytest.mark.parametrize(
    "challenge",
    [
        b"r=other3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",  # not our nonce
        b"r=fyko+d2lbbFgONRv9qkxdawL,s=QSXCR+Q6sek8bf92,i=4096",  # nothing of the server's in it
        SHA_1[1].replace(b"4096", b"1"),  # a downgrade: cheap to guess
        SHA_1[1].replace(b"4096", b"99999999999"),  # hours of work
        SHA_1[1] + b",m=ext",
        SHA_1[1].replace(b"QSXC", b"!!!!"),
        b"m=mandatory," + SHA_1[1],
        b"nonsense",
        b"r=\xff\xfe",
    ],
)
def test_b28_nonsense_is_refused_before_a_proof_is_made(challenge: bytes):
    with pytest.raises(RemoteProtocolError, match=r"^SCRAM-SHA-1: ") as caught:
        scram().respond(challenge)
    assert "pencil" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "word"), [("", "x"), ("user", "pen\x07cil"), ("us\x00er", "pencil"), ("u", "\u0627x")]
)
def test_what_saslprep_forbids_is_refused_and_not_shown(name: str, word: str):
    with pytest.raises(LocalProtocolError, match="cannot carry") as caught:
        Scram("SCRAM-SHA-256", name, Secret(word))
    assert word not in str(caught.value).split()
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
