"""TLS without sockets: what a server may send in place of a handshake, or after it, and the line that tells of it."""

from __future__ import annotations

import datetime as dt
import os
import re
import ssl
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from syncd.errors import ConnectionLost, Retry, SyncdError, TlsFailed
from syncd.net.tls import TlsPolicy
from syncd.net.tls_stream import MOST_CONTEXTS, TlsStream, client_hello, context_for
from tests.servers.certificate import LIFE, Authority

ADDRESS = "pop.example.net:995"
HANDSHAKE_FAILURE, PROTOCOL_VERSION, INTERNAL_ERROR, UNRECOGNIZED_NAME = 40, 70, 80, 112
CERTIFICATE_REQUIRED = 116


def stream(octets: bytes) -> TlsStream:
    """A stream to a server that sends `octets` and ends, whatever it is told."""
    waiting = deque([octets])

    def receive(target: memoryview) -> int:
        piece = waiting.popleft() if waiting else b""
        target[: len(piece)] = piece
        return len(piece)

    return TlsStream(ADDRESS, receive, lambda _: None)


def alert(kind: int) -> bytes:
    """A fatal alert (RFC 8446 §6)."""
    return bytes((21, 3, 1, 0, 2, 2, kind))


def failure(octets: bytes) -> SyncdError:
    with pytest.raises(SyncdError) as caught:
        stream(octets).handshake("pop.example.net", TlsPolicy())
    assert str(caught.value).startswith(f"{ADDRESS}: ")
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("octets", "says"),
    [
        (alert(PROTOCOL_VERSION), "tlsv1 alert protocol version; the server is too old: it has no TLS 1.2"),
        (alert(HANDSHAKE_FAILURE), "have no cipher in common.*set certificate and key"),
        (alert(UNRECOGNIZED_NAME), "set host or tls_name to the name that it expects"),
        (alert(CERTIFICATE_REQUIRED), "the server wants a client certificate: set certificate and key"),
        (b"+OK ready\r\n", "wrong version number; what answers does not speak TLS: the port may need another value of"),
    ],
)
def test_a_failure_says_which_side_is_to_blame_and_what_can_be_set(octets: bytes, says: str):
    error = failure(octets)
    assert isinstance(error, TlsFailed)
    assert error.retry is Retry.NEVER
    assert re.search(says, str(error))


@pytest.mark.parametrize("octets", [b"", alert(INTERNAL_ERROR)])
def test_trouble_of_the_server_may_pass(octets: bytes):
    error = failure(octets)
    assert isinstance(error, ConnectionLost)
    assert error.retry is Retry.LATER


@pytest.mark.parametrize("start", [b"\x16\x03\x01", b"\x16\x03\x03\x00\x05garbage", b"\x15\x03\x01\x00", b"\0" * 100])
def test_garbage_is_an_error_of_this_connection(start: bytes):
    failure(start)


class Server:
    """The other end, in memory. `old`: it speaks TLS 1.2 at most."""

    def __init__(self, authority: Authority, *, old: bool = False) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.certificate_file, authority.key_file)
        if old:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.shaken = False
        self.mangle: Callable[[bytes], bytes] = lambda octets: octets

    def send(self, octets: bytes | memoryview) -> None:
        self.incoming.write(octets)
        if not self.shaken:
            try:
                self.tls.do_handshake()
                self.shaken = True
            except ssl.SSLError:  # more is needed, or the client said no
                pass

    def receive(self, target: memoryview) -> int:
        octets = self.mangle(self.outgoing.read(len(target)))
        target[: len(octets)] = octets
        return len(octets)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "pop.example.net")


def connected(authority: Authority, *, old: bool = False) -> tuple[TlsStream, Server]:
    server = Server(authority, old=old)
    client = TlsStream(ADDRESS, server.receive, server.send)
    client.handshake("127.0.0.1", TlsPolicy(ca_file=authority.ca_file, name="pop.example.net"))
    return client, server


@pytest.mark.parametrize("old", [False, True])
def test_octets_go_both_ways_and_the_policy_names_whom_to_verify(authority: Authority, old: bool):  # noqa: FBT001
    client, server = connected(authority, old=old)
    client.send(b"QUIT\r\n")
    assert server.tls.read() == b"QUIT\r\n"
    server.tls.write(b"+OK\r\n")
    target = memoryview(bytearray(100))
    assert bytes(target[: client.receive(target)]) == b"+OK\r\n"


@pytest.mark.parametrize("old", [False, True])
def test_a_record_that_was_changed_on_the_way_ends_the_connection(authority: Authority, old: bool):  # noqa: FBT001
    client, server = connected(authority, old=old)
    server.mangle = lambda octets: octets[:-1] + bytes([octets[-1] ^ 1])
    server.tls.write(b"+OK\r\n")
    with pytest.raises(ConnectionLost, match=r"TLS broke: .*; try again later"):
        client.receive(memoryview(bytearray(100)))


@pytest.mark.parametrize("error", [ssl.SSLError(1, "odd"), ValueError("odd"), RuntimeError("odd"), OSError(5, "odd")])
@pytest.mark.parametrize("call", ["read", "write"])
def test_no_exception_of_openssl_or_its_binding_gets_out(authority: Authority, error: Exception, call: str):
    class Odd:
        def read(self, *_: object) -> int:
            raise error

        def write(self, _: bytes) -> int:
            raise error

        def pending(self) -> int:
            return 1

    client, _ = connected(authority)
    client._tls = Odd()  # type: ignore[assignment]
    act = partial(client.receive, memoryview(bytearray(10))) if call == "read" else partial(client.send, b"x")
    with pytest.raises(ConnectionLost, match="odd"):
        act()


def test_a_handshake_inside_the_connection_goes_before_what_is_sent(authority: Authority):
    wanted = deque([ssl.SSLWantReadError(), None])

    class Busy:
        def write(self, octets: bytes) -> int:
            if (error := wanted.popleft()) is not None:
                raise error
            return len(octets)

    client, server = connected(authority)
    client._tls = Busy()  # type: ignore[assignment]
    server.tls.write(b"something to read")
    client.send(b"x")
    assert not wanted


@pytest.mark.parametrize("old", [False, True])
def test_a_server_that_ends_while_its_handshake_is_wanted(authority: Authority, old: bool):  # noqa: FBT001
    class Busy:
        def write(self, _: bytes) -> int:
            raise ssl.SSLWantReadError

    client, server = connected(authority, old=old)
    client._tls = Busy()  # type: ignore[assignment]
    server.outgoing.read()
    with pytest.raises(ConnectionLost, match="the server closed the connection"):
        client.send(b"x")


def test_the_first_octets_of_a_client_begin_tls():
    assert client_hello("pop.example.net").startswith(b"\x16\x03")
    assert client_hello("127.0.0.1").startswith(b"\x16\x03")


def test_a_certificate_signed_by_itself_is_named(tmp_path: Path):
    authority = Authority(tmp_path, "pop.example.net")
    fingerprint = _sign_by_itself(authority)
    server = Server(authority)
    client = TlsStream(ADDRESS, server.receive, server.send)
    says = f'self-signed certificate; the server signed it itself; .*fingerprint = "{fingerprint}"'
    with pytest.raises(TlsFailed, match=says):
        client.handshake("pop.example.net", TlsPolicy())
    server = Server(authority)
    TlsStream(ADDRESS, server.receive, server.send).handshake("any", TlsPolicy(fingerprint=fingerprint))


def _sign_by_itself(authority: Authority) -> str:
    """Replace the server's certificate; returns the fingerprint of the new one."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "self")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - LIFE).not_valid_after(now + LIFE)
    certificate = builder.sign(key, hashes.SHA256())
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    authority.certificate_file.write_bytes(certificate.public_bytes(pem))
    authority.key_file.write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
    return certificate.fingerprint(hashes.SHA256()).hex()


# --- contexts ----------------------------------------------------------------------------------------------


def test_connections_with_one_policy_share_a_context_until_its_file_changes(tmp_path: Path):
    """Each loaded the system's authorities once more, nearly 1 MiB."""
    assert context_for(TlsPolicy(), ADDRESS) is context_for(TlsPolicy(), "another:995")
    authority = Authority(tmp_path, "pop.example.net")
    policy = TlsPolicy(ca_file=authority.ca_file)
    first = context_for(policy, ADDRESS)
    assert first is context_for(policy, ADDRESS)
    assert first is not context_for(TlsPolicy(), ADDRESS)
    os.utime(authority.ca_file, ns=(0, 0))
    assert context_for(policy, ADDRESS) is not first


def test_a_file_that_was_replaced_is_read_again_though_its_time_is_the_same(tmp_path: Path):
    authority = Authority(tmp_path, "pop.example.net")
    os.utime(authority.ca_file, ns=(0, 0))
    policy = TlsPolicy(ca_file=authority.ca_file)
    first = context_for(policy, ADDRESS)
    other = tmp_path / "other.pem"
    other.write_bytes(authority.ca_file.read_bytes() + b"\n")
    os.utime(other, ns=(0, 0))
    other.replace(authority.ca_file)
    assert context_for(policy, ADDRESS) is not first


def test_accounts_that_pin_certificates_share_a_context_and_none_with_an_authority():
    pins = [context_for(TlsPolicy(fingerprint=digit * 64), ADDRESS) for digit in "0123"]
    assert len(set(pins)) == 1
    assert context_for(TlsPolicy(), ADDRESS) not in pins
    assert context_for(TlsPolicy(name="mail.example.net"), ADDRESS) is context_for(TlsPolicy(), ADDRESS)


def test_contexts_that_are_in_use_stay_while_others_come_and_go(tmp_path: Path):
    authority = Authority(tmp_path, "pop.example.net")
    used = context_for(TlsPolicy(), ADDRESS)
    for number in range(2 * MOST_CONTEXTS):
        copy = tmp_path / f"{number}.pem"
        copy.write_bytes(authority.ca_file.read_bytes())
        context_for(TlsPolicy(ca_file=copy), ADDRESS)
        assert context_for(TlsPolicy(), ADDRESS) is used
