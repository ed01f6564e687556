"""The POP3 source when the network or the server fails: each fault ends in one clear line, none in a wrong message."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.errors import (
    Cancelled,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    ProtocolError,
    Refused,
    RemoteProtocolError,
    Retry,
    TimedOut,
    TlsFailed,
    TransportError,
    Unsupported,
)
from syncd.net.tls import TlsPolicy
from syncd.sources.pop3.account import Pop3Source
from tests.contract.pop3_kit import Plenty, impatient, listed, source, wanted
from tests.fakes.pop3 import CAPABILITIES, FakePop3
from tests.servers.certificate import LIFE, Authority

HEAD = b"Subject: test\r\n\r\n"
CAPA_ANSWER = b"+OK\r\n" + "".join(f"{line}\r\n" for line in CAPABILITIES).encode() + b".\r\n"
MESSAGES = [HEAD + b"..%d\r\n" % number * number for number in range(1, 6)]


@pytest.fixture
def server() -> Iterator[FakePop3]:
    with FakePop3(MESSAGES) as fake:
        yield fake


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "localhost", "127.0.0.1")


def server_tls(authority: Authority) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate_file, authority.key_file)
    return context


def run(account: Pop3Source, got: list[bytes] | None = None) -> list[bytes]:
    """A session from sign-in to QUIT; adds bodies to `got` as they come, so that it shows what came before an error."""
    got = [] if got is None else got
    session = account.connect()
    try:
        for answer in session.fetch(wanted(listed(session)), Plenty()):
            assert answer is not None
            if answer.body is not None:
                got.append(answer.body.data or b"")
        session.finish()
    finally:
        session.close()
    return got


# --- the network -------------------------------------------------------------------------------------


def test_f22_a_connection_that_ends_at_any_octet(server: FakePop3):
    whole = len(server.greeting)
    while True:
        server.cut_after = whole
        got: list[bytes] = []
        try:
            run(source(server), got)
            break  # only the answer to QUIT was cut, and nothing hangs on that
        except ConnectionLost:
            whole += 1
        assert got == MESSAGES[: len(got)]
    assert got == MESSAGES
    assert whole > sum(map(len, MESSAGES)) + len(b"+OK\r\n.\r\n") * len(MESSAGES)


def test_a_message_that_came_whole_is_handed_out_before_the_loss_is_reported(server: FakePop3):
    server.hangs_up_on = {"RETR 4"}
    got: list[bytes] = []
    with pytest.raises(ConnectionLost, match="closed the connection, no complete answer to RETR came"):
        run(source(server), got)
    assert got == MESSAGES[:3]


def test_f03_nobody_listens():
    with FakePop3() as server:
        pass
    with pytest.raises(ConnectFailed) as caught:
        source(server).connect()
    assert str(caught.value) == f"127.0.0.1:{server.port}: no connection: connection refused; check host and port"


def test_f01_a_name_that_does_not_exist(monkeypatch: pytest.MonkeyPatch, server: FakePop3):
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConnectFailed, match=r"^pop.example.invalid: the name cannot be looked up: Name or service"):
        source(server, host="pop.example.invalid").connect()


def test_a_name_that_cannot_be_one(server: FakePop3):
    with pytest.raises(ConnectFailed, match="the name cannot be looked up"):
        source(server, host="a" * 70 + ".example").connect()


def test_f01_a_look_up_that_hangs_obeys_the_deadline(monkeypatch: pytest.MonkeyPatch, server: FakePop3):
    release = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        release.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    with pytest.raises(TimedOut, match=r"pop.example.net:\d+: no connection within 0.2 s"):
        source(server, host="pop.example.net", deadlines=impatient(connect=0.2)).connect()
    release.set()


def test_f02_dead_addresses_do_not_matter(monkeypatch: pytest.MonkeyPatch, server: FakePop3):
    stream = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
    found = [
        (socket.AF_INET6, *stream, ("::1", 1, 0, 0)),  # refused
        (socket.AF_INET, *stream, ("127.0.0.1", server.port)),
    ]
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:  # neither accepts nor refuses once it is full
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        found.insert(0, (socket.AF_INET, *stream, full.getsockname()))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert run(source(server)) == MESSAGES
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("CAPA", "no complete answer to CAPA came within 0.3 s"),
        ("AUTH", "no complete answer to AUTH came within 0.3 s"),
        ("UIDL", "no complete answer to UIDL came within 0.3 s"),
        ("RETR 3", "no complete answer to RETR came within 0.3 s"),
    ],
)
def test_f04_f23_a_server_that_hangs(server: FakePop3, where: str, says: str):
    server.hangs_on = {where}
    with pytest.raises(TimedOut, match=says):
        run(source(server, deadlines=impatient(reply=0.3, listing=0.3, body=0.3)))


def test_f04_a_server_that_does_not_greet(server: FakePop3):
    server.greeting = b""
    with pytest.raises(TimedOut, match=r"127.0.0.1:\d+: no greeting came within 0.3 s; try again later"):
        run(source(server, deadlines=impatient(greeting=0.3)))


@pytest.mark.parametrize("where", [None, "AUTH", "UIDL", "RETR 1"])
def test_f05_a_server_that_drips(server: FakePop3, where: str | None):
    """An octet now and then keeps nothing alive: a deadline is not a time-out for each read."""
    server.drip_s, server.drips_on = 0.05, where
    server.messages[0] = HEAD + b"x" * 1000 + b"\r\n"
    server.uids[0] = b"y" * 1000
    server.greeting = b"+OK " + b"z" * 1000 + b"\r\n"
    seconds = impatient(greeting=0.4, reply=0.4, listing=0.4, body=0.4)
    began = time.monotonic()
    if where == "AUTH":
        server.replies = {"AUTH": b"+OK " + b"z" * 1000 + b"\r\n"}
    with pytest.raises(TimedOut):
        run(source(server, deadlines=seconds))
    assert time.monotonic() - began < 5


def test_a_slow_but_steady_server_is_given_its_time(server: FakePop3):
    """4 KiB earn the answer its whole time again."""
    pause = threading.Event()

    def slow() -> bytes:
        return b"+OK\r\n"

    server.replies = {"RETR 1": slow}
    server.capabilities = tuple(line for line in CAPABILITIES if line != "PIPELINING")  # nothing between the pieces
    pieces = [b"x" * 4094 + b"\r\n"] * 6
    session = source(server, deadlines=impatient(body=0.4)).connect()
    rows = listed(session)
    sock = server._sockets[-1]

    def send() -> None:
        for piece in [*pieces, b".\r\n"]:
            pause.wait(0.2)
            sock.sendall(piece)

    thread = threading.Thread(target=send)
    thread.start()
    answers = list(session.fetch(wanted(rows[:1]), Plenty()))
    thread.join()
    session.close()
    assert answers[0] is not None
    assert answers[0].body is not None
    assert answers[0].body.data == b"".join(pieces)


def test_a_server_that_reads_nothing_while_it_writes_cannot_lock_us_up():
    """It answers one command at a time into small buffers, as an old single-threaded server does."""
    messages = [HEAD + b"x" * 3000 + b"\r\n"] * 400
    with FakePop3(messages) as server:
        server._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        server._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        assert len(run(source(server, deadlines=impatient(reply=5, body=5, listing=5)))) == len(messages)


# --- nonsense ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("greeting", b"\x16\x03\x01\x00\x00garbage"),
        ("greeting", b"* OK IMAP4rev1 ready\r\n"),
        ("greeting", b"+OK LF alone\n"),
        ("greeting", b"+OK " + b"x" * 100_000),
        ("CAPA", b"+OK\r\n" + b"X" * 100_000 + b"\r\n.\r\n"),
        ("CAPA", b"+OK\r\n" + b"X\r\n" * 100_000),
        ("AUTH", b"+OKAY\r\n"),
        ("AUTH", b"+ERR\r\n"),
        ("AUTH", b"+ !!!\r\n"),
        ("STAT", b"+OK many\r\n"),
        ("LIST", b"+OK\r\n1 a\r\n.\r\n"),
        ("LIST", b"+OK\r\n7 7\r\n.\r\n"),
        ("UIDL", b"+OK\r\n1 a\r\n1 a\r\n.\r\n"),
        ("UIDL", b"+OK\r\n" + b"1 " + b"u" * 100_000),
        ("RETR 2", b"what?\r\n"),
        ("RETR 5", b"+OK\r\nx\r\n.\r\nbehind\r\n"),
    ],
)
def test_nonsense_is_one_printable_line_that_names_the_server(server: FakePop3, attribute: str, value: bytes):
    if attribute == "greeting":
        server.greeting = value
    else:
        server.replies = {attribute: value}
    with pytest.raises(RemoteProtocolError) as caught:
        run(source(server))
    text = str(caught.value)
    assert text.startswith(f"127.0.0.1:{server.port}: ")
    assert text.isprintable()
    assert len(text) < 500


# --- TLS ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_tls_verified_by_name_and_authority(authority: Authority, security: str):
    with FakePop3(MESSAGES, tls=server_tls(authority), implicit=security == "tls") as server:
        policy = TlsPolicy(ca_file=authority.ca_file)
        account = source(server, host="localhost", security=security, tls=policy)
        session = account.connect()
        assert session.info.tls == "TLSv1.3"
        session.close()
        assert run(account) == MESSAGES
        before = ["CAPA", "STLS"] if security == "starttls" else []
        assert server.verbs()[: len(before) + 2] == [*before, "CAPA", "AUTH"]  # P30: asked again


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_p44_the_name_of_the_host_is_told_before_the_certificate_is_shown(authority: Authority, security: str):
    asked: list[str | None] = []
    context = server_tls(authority)
    context.sni_callback = lambda _, name, __: asked.append(name)
    with FakePop3(MESSAGES, tls=context, implicit=security == "tls") as server:
        run(source(server, host="localhost", security=security, tls=TlsPolicy(ca_file=authority.ca_file)))
    assert asked == ["localhost"]


def test_p30_who_hides_the_capabilities_in_clear_hides_nothing_after_tls(authority: Authority):
    """Else whoever is in between could choose how we sign in."""
    with FakePop3(MESSAGES, tls=server_tls(authority)) as server:
        hidden = iter([b"-ERR what?\r\n"])
        server.replies["CAPA"] = lambda: next(hidden, CAPA_ANSWER)
        account = source(server, host="localhost", security="starttls", tls=TlsPolicy(ca_file=authority.ca_file))
        session = account.connect()
        assert session.info.mechanism == "AUTH PLAIN"
        session.close()
        assert server.verbs() == ["CAPA", "STLS", "CAPA", "AUTH"]


@pytest.mark.parametrize("greeting", [b"-ERR [AUTH] go away\r\n", b"-ERR [SYS/PERM] closed\r\n", b"-ERR [IN-USE]\r\n"])
def test_b02_a_refusal_before_tls_is_no_word_about_the_password(server: FakePop3, greeting: bytes):
    server.greeting = greeting
    with pytest.raises(Refused) as caught:
        source(server, security="starttls").connect()
    assert caught.value.retry is Retry.LATER
    assert server.verbs() == []


def test_an_answer_and_the_farewell_of_tls_in_one_piece(authority: Authority):
    """A close_notify right behind the answer to QUIT once made the reader wait for ever."""
    with FakePop3(MESSAGES, tls=server_tls(authority), implicit=True) as server:
        session = source(server, security="tls", tls=TlsPolicy(ca_file=authority.ca_file)).connect()
        assert len(listed(session)) == 5
        session.finish()
        assert server.verbs()[-1] == "QUIT"


def test_the_password_never_crosses_in_clear_when_stls_is_missing(server: FakePop3):
    server.capabilities = tuple(line for line in CAPABILITIES if line != "STLS")
    with pytest.raises(Unsupported, match="does not announce STLS"):
        run(source(server, security="starttls"))
    assert server.verbs() == ["CAPA"]


@pytest.mark.parametrize("capabilities", [CAPABILITIES, None])
def test_b04_nor_when_it_is_refused(server: FakePop3, capabilities: tuple[str, ...] | None):
    server.capabilities = capabilities
    server.replies = {"STLS": b"-ERR not today\r\n"}
    with pytest.raises(Refused, match=r"the server refuses STLS.*“not today”"):
        run(source(server, security="starttls"))
    assert server.verbs() == ["CAPA", "STLS"]


@pytest.mark.parametrize("extra", [b"+OK injected\r\n", b"+", b"-ERR [AUTH] x\r\n+OK\r\n"])
def test_b02_octets_between_stls_and_tls_end_the_session(server: FakePop3, extra: bytes):
    server.replies = {"STLS": b"+OK begin\r\n" + extra}
    with pytest.raises(RemoteProtocolError, match="octets in clear came between the reply to STLS and TLS"):
        run(source(server, security="starttls"))
    assert server.verbs() == ["CAPA", "STLS"]


def test_b07_a_certificate_of_an_unknown_authority(authority: Authority):
    with FakePop3(MESSAGES, tls=server_tls(authority), implicit=True) as server:
        with pytest.raises(TlsFailed, match=r"the certificate does not verify.*ca_file.*fingerprint") as caught:
            run(source(server, security="tls"))
        assert caught.value.retry is Retry.NEVER
        assert server.commands == []


def test_b07_a_certificate_for_another_host(tmp_path: Path):
    other = Authority(tmp_path, "mail.example.org")
    with FakePop3(MESSAGES, tls=server_tls(other), implicit=True) as server:
        policy = TlsPolicy(ca_file=other.ca_file)
        with pytest.raises(TlsFailed, match=r"certificate is not valid for '127.0.0.1'"):
            run(source(server, security="tls", tls=policy))
        with pytest.raises(TlsFailed, match=r"certificate is not valid for 'localhost'"):
            run(source(server, host="localhost", security="tls", tls=policy))


def test_b07_a_certificate_that_has_expired(tmp_path: Path):
    old = Authority(tmp_path, "127.0.0.1", age=LIFE * 2)
    with FakePop3(MESSAGES, tls=server_tls(old), implicit=True) as server, pytest.raises(TlsFailed, match="expired"):
        run(source(server, security="tls", tls=TlsPolicy(ca_file=old.ca_file)))


def test_a_pinned_certificate_is_accepted_whoever_signed_it_and_no_other(authority: Authority):
    der = ssl.PEM_cert_to_DER_cert(authority.certificate_file.read_text())
    right = hashlib.sha256(der).hexdigest()
    with FakePop3(MESSAGES, tls=server_tls(authority), implicit=True) as server:
        assert run(source(server, security="tls", tls=TlsPolicy(fingerprint=right.upper()))) == MESSAGES
        commands = len(server.commands)
        with pytest.raises(TlsFailed, match=f"not the pinned one, its SHA-256 is {right}"):
            run(source(server, security="tls", tls=TlsPolicy(fingerprint="00" * 32)))
        assert len(server.commands) == commands


def test_tls_at_a_port_that_speaks_none(server: FakePop3):
    with pytest.raises(TlsFailed, match=r"TLS could not be set up.*perhaps this port wants another kind of security"):
        run(source(server, security="tls"))


def test_clear_text_at_a_port_that_speaks_tls(authority: Authority):
    with FakePop3(MESSAGES, tls=server_tls(authority), implicit=True) as server, pytest.raises(TimedOut):
        run(source(server, deadlines=impatient(greeting=0.3)))


def test_b09_a_handshake_that_stalls(server: FakePop3):
    server.greeting = b""
    with pytest.raises(TimedOut, match=r"TLS was not set up within 0.3 s"):
        run(source(server, security="tls", deadlines=impatient(tls=0.3)))


def test_a_connection_that_ends_in_the_handshake_is_tried_again_later(server: FakePop3):
    server.replies = {"STLS": b"+OK\r\n"}
    server.hangs_up_on = set()
    server.greeting = b"+OK\r\n"
    server.cut_after = len(server.greeting)
    with pytest.raises(TransportError) as caught:
        run(source(server, security="starttls"))
    assert caught.value.retry is Retry.LATER


def test_a_ca_file_that_is_not_there(authority: Authority, tmp_path: Path):
    policy = TlsPolicy(ca_file=tmp_path / "none.pem")
    says = r"ca_file .*/none.pem cannot be used: No such file"
    with FakePop3(tls=server_tls(authority), implicit=True) as server, pytest.raises(ConfigError, match=says):
        run(source(server, security="tls", tls=policy))


# --- stopping ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["greeting", "CAPA", "UIDL", "RETR 2"])
@pytest.mark.parametrize("tls", [False, True])
def test_cancel_from_another_thread_ends_a_wait_at_once(authority: Authority, where: str, tls: bool):  # noqa: FBT001
    with FakePop3(MESSAGES, tls=server_tls(authority), implicit=tls) as server:
        server.hangs_on = {where}
        if where == "greeting":
            server.greeting = b""
        account = source(server, security="tls" if tls else "none", tls=TlsPolicy(ca_file=authority.ca_file))
        timer = threading.Timer(0.2, account.cancel)
        timer.start()
        began = time.monotonic()
        with pytest.raises(Cancelled, match="stopped on request"):
            run(account)
        assert time.monotonic() - began < 5
        timer.join()
        account.cancel()
        with pytest.raises(Cancelled):
            account.connect()


def test_cancel_while_the_name_is_looked_up(monkeypatch: pytest.MonkeyPatch, server: FakePop3):
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait() or [])
    account = source(server)
    timer = threading.Timer(0.1, account.cancel)
    timer.start()
    with pytest.raises(Cancelled):
        account.connect()
    release.set()
    timer.join()


REPLIES = [b"", b"\r\n", b"+", b"+OK", b"+OK\r\n+OK\r\n", b".\r\n", b"+OK\r\n.\r\n.\r\n", b"\0"]


@pytest.mark.parametrize("verb", ["CAPA", "AUTH", "STAT", "LIST", "UIDL", "RETR"])
@pytest.mark.parametrize("reply", REPLIES)
def test_no_answer_makes_a_wrong_message_or_an_error_of_another_tree(server: FakePop3, verb: str, reply: bytes):
    server.replies = {verb: reply}
    got: list[bytes] = []
    said = ""
    try:
        run(source(server, deadlines=impatient(reply=0.05, listing=0.05, body=0.05)), got)
    except (TransportError, ProtocolError, Refused) as error:
        said = str(error)
    assert said.isprintable()
    assert bool(said) == (got != MESSAGES)
    assert set(got) <= set(MESSAGES)
