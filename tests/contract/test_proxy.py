"""An account behind a proxy: the same session through SOCKS5 and through HTTP, and a line for each kind of no."""

from __future__ import annotations

import base64
import re
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from syncd.errors import Cancelled, ConfigError, ConnectFailed, Retry, SyncdError, TimedOut
from syncd.net.proxy import parse_proxy
from syncd.net.tls import TlsPolicy
from syncd.sources.pop3.account import Pop3Source
from tests.contract.pop3_kit import Plenty, impatient, listed, source, wanted
from tests.fakes.pop3 import FakePop3
from tests.fakes.proxy import HOST, FakeProxy
from tests.servers.certificate import Authority

MESSAGES = [b"Subject: test\r\n\r\n%d\r\n" % number for number in range(1, 4)]
NAME = "pop.example.net"  # nobody but the proxy has to know it
SCHEMES = pytest.mark.parametrize("scheme", ["socks5", "http"])


@pytest.fixture
def server() -> Iterator[FakePop3]:
    with FakePop3(MESSAGES) as fake:
        yield fake


def behind(server: FakePop3, proxy: FakeProxy, scheme: str, credentials: str = "", **changes: Any) -> Pop3Source:
    user = f"{credentials}@" if credentials else ""
    url = f"{scheme}://{user}{HOST}:{proxy.port}"
    return source(server, host=NAME, proxy=parse_proxy(url), **changes)


def fetch(account: Pop3Source) -> list[bytes | None]:
    session = account.connect()
    try:
        answers = [answer for answer in session.fetch(wanted(listed(session)), Plenty()) if answer is not None]
        bodies = [answer.body.data if answer.body is not None else None for answer in answers]
        session.finish()
    finally:
        session.close()
    return bodies


def refused(server: FakePop3, proxy: FakeProxy, scheme: str, credentials: str = "") -> SyncdError:
    with pytest.raises(SyncdError) as caught:
        fetch(behind(server, proxy, scheme, credentials))
    assert str(caught.value).isprintable()
    assert "hunter2" not in str(caught.value)
    return caught.value


@SCHEMES
@pytest.mark.parametrize("credentials", ["", "me:se-cret"])
def test_mail_is_fetched_through_a_proxy_which_looks_up_the_name(server: FakePop3, scheme: str, credentials: str):
    """The server's greeting comes in one piece with the proxy's answer: not an octet of it is lost."""
    with FakeProxy(scheme, server.port, credentials=credentials if scheme == "socks5" else "") as proxy:
        assert fetch(behind(server, proxy, scheme, credentials)) == MESSAGES
        assert proxy.asked == [(NAME, server.port)]
        shown = credentials if scheme == "socks5" else base64.b64encode(credentials.encode()).decode()
        assert proxy.signed_in == ([shown] if credentials else [])


@SCHEMES
def test_tls_goes_through_a_proxy_to_the_server(scheme: str, tmp_path_factory: pytest.TempPathFactory):
    authority = Authority(tmp_path_factory.mktemp("tls"), NAME)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.certificate_file, authority.key_file)
    with FakePop3(MESSAGES, tls=context) as server, FakeProxy(scheme, server.port) as proxy:
        policy = TlsPolicy(ca_file=authority.ca_file)
        assert fetch(behind(server, proxy, scheme, security="starttls", tls=policy)) == MESSAGES


@pytest.mark.parametrize(
    ("scheme", "refuses", "kind", "says"),
    [
        ("socks5", 1, ConnectFailed, "no connection through socks5://"),
        ("socks5", 4, ConnectFailed, "host unreachable; check host and port"),
        ("socks5", 5, ConnectFailed, "connection refused by destination host; check host"),
        ("socks5", 2, ConfigError, "the proxy refuses to connect to .*not allowed by ruleset; check proxy"),
        ("http", b"HTTP/1.1 502 Bad Gateway\r\n\r\n", ConnectFailed, "502 bad gateway"),
        ("http", b"HTTP/1.1 503 Busy\r\n\r\n", ConnectFailed, "503 busy"),
        ("http", b"HTTP/1.1 403 Forbidden\r\n\r\n", ConfigError, "403 forbidden; check proxy"),
        ("http", b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", ConfigError, "407 proxy authentication"),
        ("http", b"HTTP/1.1 200\x1b[2J\r\n\r\n", ConfigError, "check proxy"),
    ],
)
def test_a_refusal_names_proxy_and_server(
    server: FakePop3, scheme: str, refuses: Any, kind: type[SyncdError], says: str
):
    with FakeProxy(scheme, server.port) as proxy:
        proxy.refuses = refuses
        error = refused(server, proxy, scheme)
    assert type(error) is kind
    assert (error.retry is Retry.NEVER) == (kind is ConfigError)
    assert re.search(says, str(error))
    assert f"{scheme}://{HOST}:{proxy.port}" in str(error)


@pytest.mark.parametrize("credentials", ["", "me:hunter2"])
def test_a_wrong_password_of_the_proxy_is_no_wrong_password_of_the_account(server: FakePop3, credentials: str):
    with FakeProxy("socks5", server.port, credentials="me:right") as proxy:
        error = refused(server, proxy, "socks5", credentials)
    assert isinstance(error, ConfigError)
    assert "check proxy" in str(error)


@SCHEMES
@pytest.mark.parametrize(
    "says", [b"SSH-2.0-OpenSSH_9.2\r\n" * 4, b"\x05", b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 40]
)
def test_what_is_no_such_proxy(server: FakePop3, scheme: str, says: bytes):
    with FakeProxy(scheme, server.port) as proxy:
        proxy.says = says
        assert isinstance(refused(server, proxy, scheme), ConfigError | ConnectFailed)


@SCHEMES
def test_a_proxy_that_is_silent_obeys_deadline_and_cancel(server: FakePop3, scheme: str):
    with FakeProxy(scheme, server.port) as proxy:
        proxy.hangs = True
        with pytest.raises(TimedOut, match="no connection within"):
            fetch(behind(server, proxy, scheme, deadlines=impatient(connect=0.2)))
        proxy.hanging.clear()
        account = behind(server, proxy, scheme)

        def cancel() -> None:
            proxy.hanging.wait()
            account.cancel()

        thread = threading.Thread(target=cancel)
        thread.start()
        with pytest.raises(Cancelled):
            fetch(account)
        thread.join()


def test_a_proxy_that_is_not_there(server: FakePop3):
    with FakeProxy("http", server.port) as proxy:
        pass
    with pytest.raises(ConnectFailed, match=f"{HOST}:{proxy.port}: no connection: connection refused"):
        fetch(behind(server, proxy, "http"))
