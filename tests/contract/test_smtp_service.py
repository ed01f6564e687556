"""Another service answers at the port, or it begins otherwise: one line at once, and waiting would not help."""

from __future__ import annotations

import pytest

from syncd.destinations.smtp.relay import RelayOptions, connect
from syncd.errors import Retry, SyncdError, Throttled, TimedOut, Unsupported, WrongService
from syncd.net.endpoint import Endpoint
from syncd.net.tls import TlsPolicy
from syncd.net.transport import Transport
from syncd.secret import Secret
from syncd.smtp.client import Client
from syncd.smtp.quirks import Quirks
from tests.contract.smtp_kit import HELO, codes, deliver, patient, server_tls, session
from tests.fakes.service import OtherService
from tests.fakes.smtp import CAPABILITIES, CHUNKING, PASSWORD, USERNAME, FakeSmtp
from tests.servers.certificate import Authority

QUIET_S = 0.1


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "localhost")


def refused(
    server: OtherService | FakeSmtp, tls: TlsPolicy | None = None, *, lmtp: bool = False, host: str = ""
) -> str:
    """The one line about a server, which waiting cannot mend."""
    client = Client(Transport(host or server.host, server.port), patient(quiet=QUIET_S), lmtp=lmtp, helo=HELO)
    with pytest.raises(SyncdError) as caught:
        client.open(tls)
    client.close()
    assert isinstance(caught.value, WrongService | Unsupported)
    assert caught.value.retry is Retry.NEVER
    text = str(caught.value)
    assert text.isprintable()
    assert text.startswith(f"{host or server.host}:{server.port}: ")
    return text.split(": ", 1)[1]


@pytest.mark.parametrize("lmtp", [False, True])
@pytest.mark.parametrize(
    ("greeting", "name"),
    [
        (b"+OK POP3 ready\r\n", "a POP3 server"),
        (b"* OK IMAP4rev1 ready\r\n", "an IMAP server"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "an SSH server"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "an HTTP server"),
        (b"220 ProFTPD FTP Server ready\r\n", "an FTP server"),
        (b"200 news.example.net NNRP ready\r\n", "an NNTP server"),
    ],
)
def test_another_greeting_names_the_service(greeting: bytes, name: str, lmtp: bool):  # noqa: FBT001
    with OtherService(greeting) as server:
        text = refused(server, lmtp=lmtp)
    assert text.startswith(f"{name} answers here, not {'LMTP' if lmtp else 'SMTP'}: “")
    assert "check host and port" in text


@pytest.mark.parametrize("greeting", [b"hello\r\n", b"\x00\x01\x02binary", b"<stream>\r\n"])
def test_an_unknown_greeting_is_shown(greeting: bytes):
    with OtherService(greeting) as server:
        assert refused(server).startswith("what answers here is no SMTP server: “")


@pytest.mark.parametrize("lmtp", [False, True])
def test_a_broken_greeting_of_the_right_kind_is_explained(lmtp: bool):  # noqa: FBT001
    with FakeSmtp(lmtp=lmtp) as server:
        server.greeting = b"220 LF alone\n"
        assert "the server ends lines with LF alone (RFC 5321 §2.3.8 wants CRLF)" in refused(server, lmtp=lmtp)


def test_a_silent_server_of_http_is_asked():
    with OtherService(answer=b"HTTP/1.1 400 Bad Request\r\n\r\n") as server:
        assert refused(server).startswith("an HTTP server answers here, not SMTP")


def test_a_port_that_begins_with_tls_where_it_should_begin_in_clear(authority: Authority):
    with FakeSmtp(tls=server_tls(authority), implicit=True) as server:
        assert refused(server) == 'this port begins with TLS; set security = "tls", or the port that begins in clear'


@pytest.mark.parametrize("lmtp", [False, True])
def test_a_port_that_begins_in_clear_where_it_should_begin_with_tls(authority: Authority, lmtp: bool):  # noqa: FBT001
    with FakeSmtp(lmtp=lmtp) as server:
        text = refused(server, TlsPolicy(ca_file=authority.ca_file), lmtp=lmtp, host="localhost")
    assert text.startswith("this port begins in clear, not with TLS: “220 fake.example ready")
    assert 'set security = "starttls"' in text


def test_another_service_in_clear_where_tls_should_begin(authority: Authority):
    with OtherService(b"* OK IMAP4rev1 ready\r\n") as server:
        text = refused(server, TlsPolicy(ca_file=authority.ca_file), host="localhost")
    assert text.startswith("an IMAP server answers here, in clear: “* OK IMAP4rev1 ready")


def test_a_server_that_stays_silent_is_waited_for():
    with OtherService() as server:
        client = Client(Transport(server.host, server.port), patient(quiet=QUIET_S, greeting=0.3), helo=HELO)
        with pytest.raises(TimedOut, match=r"no greeting came within 0.3 s"):
            client.open(None)
        client.close()


@pytest.mark.parametrize("lmtp", [False, True])
def test_smtp_and_lmtp_are_told_apart_by_their_commands(lmtp: bool):  # noqa: FBT001
    with FakeSmtp(lmtp=not lmtp) as server:
        text = refused(server, lmtp=lmtp)
    other = "smtp" if lmtp else "lmtp"
    assert text.endswith(f'for one that speaks {other.upper()}, set protocol = "{other}"')


def test_a_name_that_the_server_does_not_take():
    with FakeSmtp() as server:
        server.replies = {"EHLO": b"501 5.5.4 invalid name\r\n", "HELO": b"501 5.5.4 invalid name\r\n"}
        assert "set ehlo_name to a full host name" in refused(server)


def test_without_a_name_the_machine_or_its_address_is_named(monkeypatch: pytest.MonkeyPatch):
    for host_name, said in (
        ("my_laptop", "[127.0.0.1]"),
        ("localhost", "[127.0.0.1]"),
        ("pc.example.net", "pc.example.net"),
    ):
        monkeypatch.setattr("socket.gethostname", lambda name=host_name: name)
        with FakeSmtp() as server:
            client = Client(Transport(server.host, server.port), patient())
            client.open(None)
            client.close()
            assert (server.commands, client.helo) == ([f"EHLO {said}"], said)


# --- tolerance, and signing in ------------------------------------------------------------------------


@pytest.mark.parametrize("offer", [CAPABILITIES, CHUNKING, ("8BITMIME",)])
@pytest.mark.parametrize("lmtp", [False, True])
def test_s31_a_server_that_sends_empty_lines_everywhere(offer: tuple[str, ...], lmtp: bool):  # noqa: FBT001
    with FakeSmtp(lmtp=lmtp) as server:
        server.greeting = b"\r\n220-fake \r\n\r\n220\r\n\r\n"
        server.capabilities = offer
        server.padding = b"\r\n \r\n"
        quirks = Quirks()
        with session(server, quirks=quirks) as client:
            assert [codes(deliver(client)) for _ in range(3)] == [[250]] * 3
            assert not client.stale
            client.quit()
        assert quirks.sends_empty_lines
        assert not quirks.breaks_pipelining
        assert len(server.arrivals) == 3


def signed_in(server: FakeSmtp, auth: str = "auto") -> str:
    endpoint = Endpoint(server.host, server.port, "none", USERNAME, lambda: Secret(PASSWORD), auth, allow_insecure=True)
    connection = connect(RelayOptions(endpoint, deadlines=patient(), ehlo_name=HELO), lambda _: None, Quirks())
    connection.client.close()
    return connection.mechanism


@pytest.fixture
def offering() -> FakeSmtp:
    server = FakeSmtp()
    server.capabilities = (*CAPABILITIES, "AUTH CRAM-MD5 PLAIN LOGIN")
    return server


@pytest.mark.parametrize(
    "reply", [b"500 what?", b"502 5.5.1 unknown", b"503 not enabled", b"504 5.7.4 type", b"501 5.5.4 ?"]
)
def test_s33_an_unknown_mechanism_is_no_attempt(offering: FakeSmtp, reply: bytes):
    with offering as server:
        server.replies["AUTH CRAM-MD5"] = reply + b"\r\n"
        assert signed_in(server) == "PLAIN"
        assert server.connections == 1


def test_s33_without_a_mechanism_that_is_known_the_setting_is_named_and_not_the_password(offering: FakeSmtp):
    with offering as server:
        server.replies["AUTH"] = b"502 5.5.1 command unknown\r\n"
        with pytest.raises(Unsupported) as caught:
            signed_in(server)
        assert server.verbs().count("AUTH") == 3
    text = str(caught.value)
    assert "AUTH CRAM-MD5: “502 command unknown”; AUTH PLAIN: “502 command unknown”" in text
    assert "set auth to another one" in text
    assert "password" not in text.split("; set auth", maxsplit=1)[0]
    assert caught.value.retry is Retry.NEVER


def test_s33_a_mechanism_that_was_chosen_is_the_only_one_tried(offering: FakeSmtp):
    with offering as server:
        server.replies["AUTH"] = b"504 5.5.4 unknown\r\n"
        with pytest.raises(Unsupported, match='set auth = "auto"'):
            signed_in(server, "plain")
        assert server.verbs().count("AUTH") == 1


def test_s33_a_refused_password_is_tried_once(offering: FakeSmtp):
    with offering as server:
        server.replies["AUTH"] = b"535 5.7.8 wrong\r\n"
        with pytest.raises(SyncdError, match="check the account's username and password"):
            signed_in(server)
        assert server.verbs().count("AUTH") == 1


def test_s22_a_limit_at_the_sign_in_is_no_wrong_password(offering: FakeSmtp):
    with offering as server:
        server.replies["AUTH"] = b"550 Please wait to send more emails: rate limit\r\n"
        with pytest.raises(Throttled):
            signed_in(server)
