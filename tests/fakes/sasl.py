"""The server's side of SASL, for scripted servers: challenges out, responses in, and a verdict.

    exchange = serve("LOGIN", initial=None)
    challenge = next(exchange)                 # b"Username:"
    challenge = exchange.send(b"user")         # b"Password:"
    exchange.send(b"secret")                   # StopIteration, whose value says whether to let the client in

Whose password, token or certificate is right is said by `Known`. Base64 and lines are the server's.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass

from scramp import ScramException, ScramMechanism  # type: ignore[import-untyped]

STAMP = b"<1896.697170952@postoffice.reston.mci.net>"
ITERATIONS = 4096

Exchange = Generator[bytes, bytes, bool]


@dataclass(frozen=True)
class Known:
    """The user who may sign in. `certified` is the name in the client's certificate."""

    username: str = "user"
    password: str = "secret"
    certified: str = ""


def serve(mechanism: str, initial: bytes | None, known: Known) -> Exchange:
    """An exchange, `initial` being the initial response, if one came. KeyError for an unknown mechanism."""
    return _SERVERS[mechanism.upper()](initial, known)


def _plain(initial: bytes | None, known: Known) -> Exchange:
    message = (yield b"") if initial is None else initial
    return message == f"\0{known.username}\0{known.password}".encode()


def _login(initial: bytes | None, known: Known) -> Exchange:
    username = (yield b"Username:") if initial is None else initial
    return (username, (yield b"Password:")) == (known.username.encode(), known.password.encode())


def _cram_md5(initial: bytes | None, known: Known) -> Exchange:
    assert initial is None, "RFC 2195: the server speaks first"
    digest = hmac.digest(known.password.encode(), STAMP, hashlib.md5).hex()
    return (yield STAMP) == f"{known.username} {digest}".encode()


def _xoauth2(initial: bytes | None, known: Known) -> Exchange:
    message = (yield b"") if initial is None else initial
    if message == f"user={known.username}\x01auth=Bearer {known.password}\x01\x01".encode():
        return True
    assert (yield json.dumps({"status": "401", "scope": "mail"}).encode()) == b""
    return False


def _oauthbearer(initial: bytes | None, known: Known) -> Exchange:
    message = (yield b"") if initial is None else initial
    header, *fields, end, after = message.split(b"\x01")
    assert end == after == b""
    assert [field.partition(b"=")[0] for field in fields] == [b"host", b"port", b"auth"]
    if header == f"n,a={known.username},".encode() and fields[-1] == f"auth=Bearer {known.password}".encode():
        return True
    assert (yield json.dumps({"status": "invalid_token"}).encode()) == b"\x01"
    return False


def _external(initial: bytes | None, known: Known) -> Exchange:
    identity = (yield b"") if initial is None else initial
    return bool(known.certified) and identity.decode() in {"", known.certified}


def _scram(name: str) -> Callable[[bytes | None, Known], Exchange]:
    def exchange(initial: bytes | None, known: Known) -> Exchange:
        mechanism = ScramMechanism(name)
        stored = mechanism.make_auth_info(known.password, iteration_count=ITERATIONS)
        server = mechanism.make_server(lambda username: stored if username == known.username else None)
        try:
            server.set_client_first(((yield b"") if initial is None else initial).decode())
            server.set_client_final((yield server.get_server_first().encode()).decode())
        except ScramException:
            return False
        assert (yield server.get_server_final().encode()) == b""
        return True

    return exchange


_SERVERS: Mapping[str, Callable[[bytes | None, Known], Exchange]] = {
    "PLAIN": _plain,
    "LOGIN": _login,
    "CRAM-MD5": _cram_md5,
    "SCRAM-SHA-1": _scram("SCRAM-SHA-1"),
    "SCRAM-SHA-256": _scram("SCRAM-SHA-256"),
    "XOAUTH2": _xoauth2,
    "OAUTHBEARER": _oauthbearer,
    "EXTERNAL": _external,
}
