from __future__ import annotations

import pytest

from syncd.net.proxy import parse_proxy


def test_a_proxy_is_written_as_a_url():
    proxy = parse_proxy("socks5://localhost:9050")
    assert (proxy.scheme, proxy.host, proxy.port, proxy.username, proxy.password.reveal()) == (
        "socks5",
        "localhost",
        9050,
        "",
        "",
    )
    proxy = parse_proxy(" http://me:se%40cret%3A@[::1]:3128/ ")
    assert (proxy.scheme, proxy.host, proxy.port, proxy.username) == ("http", "::1", 3128, "me")
    assert proxy.password.reveal() == "se@cret:"


def test_it_never_shows_the_password():
    proxy = parse_proxy("socks5://me:hunter2@proxy.example.net:1080")
    assert str(proxy) == "socks5://proxy.example.net:1080"
    assert "hunter2" not in repr(proxy)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "localhost:9050",
        "socks4://localhost:9050",
        "https://localhost:3128",
        "socks5://localhost",
        "socks5://:9050",
        "socks5://hunter2@localhost:port",
        "socks5://localhost:99999",
        "http://localhost:3128/path",
        "http://localhost:3128?x=hunter2",
        "http://a%3Ab:hunter2@localhost:3128",
        "http://me:hunter2€@localhost:3128",
        f"socks5://{'u' * 256}:hunter2@localhost:9050",
    ],
)
def test_what_is_no_proxy_is_refused_without_showing_it(wrong: str):
    with pytest.raises(ValueError, match=r"^(is not the address of a proxy; accepted: socks5://|has a )") as caught:
        parse_proxy(wrong)
    assert "hunter2" not in str(caught.value)
