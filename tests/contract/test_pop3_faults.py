"""The POP3 source when the network or the server fails: each fault ends in one clear line, none in a wrong message."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from syncd import clock
from syncd.errors import (
    Cancelled,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    LostStep,
    ProtocolError,
    Refused,
    RemoteProtocolError,
    Retry,
    TimedOut,
    TlsFailed,
    TransportError,
    Unsupported,
    WrongService,
)
from syncd.net.deadline import Deadline
from syncd.net.tls import TlsPolicy
from syncd.net.transport import Transport
from syncd.pop3.client import Deadlines
from syncd.pop3.quirks import Quirks
from syncd.pop3.values import Check
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
        except (ConnectionLost, LostStep):  # at the trial of LIST n, a new session does better at once
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
    with pytest.raises(ConfigError, match=r"this cannot be the name of a host: .*; correct host"):
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
    """An octet now and then keeps nothing alive: with a time-out for each read, the whole answer would come."""
    server.drip_s, server.drips_on = 0.05, where
    server.messages[0] = HEAD + b"x" * 1000 + b"\r\n"
    server.uids[0] = b"y" * 1000
    server.greeting = b"+OK " + b"z" * 1000 + b"\r\n"
    seconds = impatient(greeting=0.4, reply=0.4, listing=0.4, body=0.4)
    if where == "AUTH":
        server.replies = {"AUTH": b"+OK " + b"z" * 1000 + b"\r\n"}
    with pytest.raises(TimedOut):
        run(source(server, deadlines=seconds))
    assert server.dripped < 1000


def test_a_slow_but_steady_server_is_given_its_time(monkeypatch: pytest.MonkeyPatch, server: FakePop3):
    """4 KiB earn the answer its whole time again. Here each 4 KiB that arrive take 30 s, of 40 s allowed for a body."""
    pieces = [b"x" * 4094 + b"\r\n"] * 6
    server.capabilities = tuple(line for line in CAPABILITIES if line != "PIPELINING")  # nothing between the pieces
    server.replies = {"RETR 1": lambda: b"+OK\r\n"}
    session = source(server, Quirks(check=Check.LIST), deadlines=impatient(body=40)).connect()
    rows = listed(session)
    sock, wanted_more = server._sockets[-1], threading.Semaphore(0)
    now, received, receive = [clock.monotonic()], [0], Transport.receive

    def slowly(transport: Transport, target: memoryview, deadline: Deadline) -> int:
        octets = receive(transport, target, deadline)
        wanted_more.release()
        before, received[0] = received[0], received[0] + octets
        now[0] += 30.0 * (received[0] // 4096 - before // 4096)
        return octets

    def send() -> None:
        for piece in [*pieces, b".\r\n"]:
            wanted_more.acquire()
            sock.sendall(piece)

    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    monkeypatch.setattr(Transport, "receive", slowly)
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
        ("greeting", b"+OK LF alone\n"),
        ("greeting", b"+OK " + b"x" * 100_000),
        ("CAPA", b"+OK\r\n" + b"X" * 100_000 + b"\r\n.\r\n"),
        ("CAPA", b"+OK\r\n" + b"X\r\n" * 100_000),
        ("AUTH", b"+OKAY\r\n"),
        ("AUTH", b"+ERR\r\n"),
        ("AUTH", b"+ !!!\r\n"),
        ("STAT", b"+OK many\r\n"),  # P53: where commands are pipelined, it may be another answer
        ("LIST", b"+OK\r\n1 a\r\n.\r\n"),  # P51, P31: the same
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


# --- another kind of server --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("greeting", "name"),
    [
        (b"220 mail.example.net ESMTP ready\r\n", "an SMTP server"),
        (b"220-mail.example.net ESMTP\r\n220 ready\r\n", "an SMTP server"),
        (b"421 4.3.2 too many connections\r\n", "an SMTP server"),
        (b"220 mail.example.net LMTP\r\n", "an LMTP server"),
        (b"220 ProFTPD ready\r\n", "an FTP server"),
        (b"* OK [CAPABILITY IMAP4rev1] ready\r\n", "an IMAP server"),
        (b"* BYE overloaded\r\n", "an IMAP server"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "an SSH server"),
        (b"SSH-2.0-OpenSSH_9.2", "an SSH server"),  # and waits
        (b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n", "an HTTP server"),
        (b"<html>\r\n", "an HTTP server"),
        (b"\x15\x03\x01\x00\x02\x02\x0a", "begins with TLS"),
        (b"J\0\0\0\n5.5.5-MariaDB\0", "a MySQL server"),
        (b"RFB 003.008\n", "a VNC server"),
        (b"hello\r\n", "no POP3 server"),
        (b"\0\1\2\3", "no POP3 server"),
    ],
)
def test_what_answers_is_named_at_once_and_never_tried_again(server: FakePop3, greeting: bytes, name: str):
    server.greeting = greeting
    with pytest.raises(WrongService, match=name) as caught:
        run(source(server, deadlines=Deadlines(quiet=0.2)))
    assert caught.value.retry is Retry.NEVER
    assert "set security" in str(caught.value) if "TLS" in name else "check host and port" in str(caught.value)
    assert server.commands == []


def test_a_server_that_has_no_place_for_us_is_tried_again_later(server: FakePop3):
    server.greeting = b"Too many connections, try again later\r\n"
    with pytest.raises(RemoteProtocolError, match="no POP3 greeting, but “Too many") as caught:
        run(source(server))
    assert caught.value.retry is Retry.LATER


@pytest.mark.parametrize("security", ["none", "starttls"])
def test_a_port_that_begins_with_tls_is_found_out_before_a_minute_is_over(authority: Authority, security: str):
    with FakePop3(MESSAGES, tls=server_tls(authority), implicit=True) as server:
        with pytest.raises(WrongService, match=r'this port begins with TLS; set security = "tls"'):
            run(source(server, security=security, deadlines=Deadlines(quiet=0.1)))
        assert server.connections == 2
        assert server.commands == []


@pytest.mark.parametrize("inside_tls", [False, True])
def test_a_server_of_http_that_waits_to_be_asked(server: FakePop3, authority: Authority, inside_tls: bool):  # noqa: FBT001
    with ThreadingHTTPServer((server.host, 0), BaseHTTPRequestHandler) as web:
        if inside_tls:
            web.socket = server_tls(authority).wrap_socket(web.socket, server_side=True)
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        account = source(
            server,
            port=web.server_port,
            security="tls" if inside_tls else "none",
            tls=TlsPolicy(ca_file=authority.ca_file),
            deadlines=Deadlines(quiet=0.1),
        )
        with pytest.raises(WrongService, match="an HTTP server answers here"):
            run(account)
        web.shutdown()
        thread.join()


def test_a_server_that_is_slow_to_greet_is_given_its_time(server: FakePop3):
    """The question goes over a connection of its own, so that the greeting can still come."""
    first = iter([True])

    def greeting() -> bytes:
        if next(first, False):
            server.stop.wait(0.5)
        return b"+OK at last\r\n"

    server.greets = greeting
    assert run(source(server, deadlines=Deadlines(quiet=0.1))) == MESSAGES
    assert server.connections == 2


def test_cancel_reaches_the_question_what_a_silent_port_is(server: FakePop3):
    server.greeting = b""
    server.hangs_on = {"HEAD", ""}
    account = source(server, deadlines=Deadlines(quiet=0.01))
    thread = threading.Thread(target=when(server.hanging, account))
    thread.start()
    with pytest.raises(Cancelled):
        run(account)
    thread.join()


@pytest.mark.parametrize(
    ("greeting", "says"),
    [
        (b"+OK ready\r\n", r'begins in clear, not with TLS: .*set security = "starttls".* usually 995'),
        (b"220 mx ESMTP\r\n", "an SMTP server answers here, in clear"),
        (b"* OK IMAP\r\n", "an IMAP server answers here, in clear"),
        (b"SSH-2.0-x\r\n", "an SSH server answers here, in clear"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "an HTTP server answers here, in clear"),
    ],
)
def test_what_answers_in_clear_where_tls_should_begin(server: FakePop3, greeting: bytes, says: str):
    server.greeting = greeting
    with pytest.raises(WrongService, match=says) as caught:
        run(source(server, security="tls"))
    assert caught.value.retry is Retry.NEVER


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
    with pytest.raises(RemoteProtocolError, match="the server sent octets in clear after its reply to STLS"):
        run(source(server, security="starttls"))
    assert server.verbs() == ["CAPA", "STLS"]


def fingerprint(authority: Authority) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(authority.certificate_file.read_text())).hexdigest()


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_b07_a_certificate_of_an_unknown_authority(authority: Authority, security: str):
    with FakePop3(MESSAGES, tls=server_tls(authority), implicit=security == "tls") as server:
        with pytest.raises(TlsFailed, match=r"the certificate does not verify.*no authority.*ca_file") as caught:
            run(source(server, security=security))
        assert f'set fingerprint = "{fingerprint(authority)}"' in str(caught.value)
        assert caught.value.retry is Retry.NEVER
        assert "AUTH" not in server.verbs()


def test_b07_a_certificate_for_another_host(tmp_path: Path):
    other = Authority(tmp_path, "mail.example.org", "mx.example.org")
    says = (
        r'the certificate is for mail.example.org, mx.example.org: correct host, or set tls_name = "mail.example.org"'
    )
    with FakePop3(MESSAGES, tls=server_tls(other), implicit=True) as server:
        policy = TlsPolicy(ca_file=other.ca_file)
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(TlsFailed, match=f"certificate is not valid for '{host}'; {says}") as caught:
                run(source(server, host=host, security="tls", tls=policy))
            assert f'set fingerprint = "{fingerprint(other)}"' in str(caught.value)


def test_a_certificate_may_be_verified_against_another_name(tmp_path: Path):
    other = Authority(tmp_path, "mail.example.org")
    asked: list[str | None] = []
    context = server_tls(other)
    context.sni_callback = lambda _, name, __: asked.append(name)
    with FakePop3(MESSAGES, tls=context, implicit=True) as server:
        policy = TlsPolicy(ca_file=other.ca_file, name="mail.example.org")
        assert run(source(server, security="tls", tls=policy)) == MESSAGES
    assert asked == ["mail.example.org"]


def test_b07_a_certificate_that_has_expired(tmp_path: Path):
    old = Authority(tmp_path, "127.0.0.1", age=LIFE * 2)
    says = "expired; the server's operator must renew it; check the clock"
    with FakePop3(MESSAGES, tls=server_tls(old), implicit=True) as server, pytest.raises(TlsFailed, match=says):
        run(source(server, security="tls", tls=TlsPolicy(ca_file=old.ca_file)))


def test_a_pinned_certificate_is_accepted_whoever_signed_it_and_no_other(authority: Authority):
    right = fingerprint(authority)
    with FakePop3(MESSAGES, tls=server_tls(authority), implicit=True) as server:
        assert run(source(server, security="tls", tls=TlsPolicy(fingerprint=right.upper()))) == MESSAGES
        commands = len(server.commands)
        with pytest.raises(TlsFailed, match=f'not the pinned one.*set fingerprint = "{right}"'):
            run(source(server, security="tls", tls=TlsPolicy(fingerprint="00" * 32)))
        assert len(server.commands) == commands


def test_tls_at_a_port_that_speaks_none(server: FakePop3):
    with pytest.raises(WrongService, match=r'this port begins in clear, not with TLS: .*set security = "starttls"'):
        run(source(server, security="tls"))


def test_clear_text_at_a_port_that_speaks_tls(authority: Authority):
    with FakePop3(MESSAGES, tls=server_tls(authority), implicit=True) as server, pytest.raises(TimedOut):
        run(source(server, deadlines=impatient(greeting=0.3)))


def test_b09_a_handshake_that_stalls(server: FakePop3):
    with socket.create_server((server.host, 0)) as silent:
        account = source(server, port=silent.getsockname()[1], security="tls", deadlines=impatient(tls=0.3))
        with pytest.raises(TimedOut, match=r"TLS was not set up within 0\.3 s"):
            run(account)


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


def when(event: threading.Event, account: Pop3Source) -> Callable[[], None]:
    def cancel() -> None:
        event.wait()
        account.cancel()

    return cancel


@pytest.mark.parametrize("where", ["greeting", "CAPA", "UIDL", "RETR 2"])
@pytest.mark.parametrize("tls", [False, True])
def test_cancel_from_another_thread_ends_a_wait_at_once(authority: Authority, where: str, tls: bool):  # noqa: FBT001
    with FakePop3(MESSAGES, tls=server_tls(authority), implicit=tls) as server:
        server.hangs_on = {where}
        if where == "greeting":
            server.greeting = b""
        account = source(server, security="tls" if tls else "none", tls=TlsPolicy(ca_file=authority.ca_file))
        thread = threading.Thread(target=when(server.hanging, account))
        thread.start()
        with pytest.raises(Cancelled, match="stopped on request"):  # no deadline passed: that would be TimedOut
            run(account)
        thread.join()
        account.cancel()
        with pytest.raises(Cancelled):
            account.connect()


def test_cancel_while_the_name_is_looked_up(monkeypatch: pytest.MonkeyPatch, server: FakePop3):
    release, looking = threading.Event(), threading.Event()

    def look_up(*_: object, **__: object) -> list[object]:
        looking.set()
        release.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    account = source(server)
    thread = threading.Thread(target=when(looking, account))
    thread.start()
    with pytest.raises(Cancelled):
        account.connect()
    release.set()
    thread.join()


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
