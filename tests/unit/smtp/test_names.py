"""Our own name: a full host name, or an address literal."""

from __future__ import annotations

import pytest

from syncd.smtp.names import is_full_name, is_literal, literal, our_name

LONG = "a" * 63


@pytest.mark.parametrize(
    "name",
    [
        "laptop.example.org",
        "a.b",
        "1and1.example",
        "xn--bcher-kva.example",
        f"{LONG}.example",
        "MX-1.Example.ORG",
        "pc.local",
    ],
)
def test_full_names(name: str):
    assert is_full_name(name)
    assert our_name(name, "192.0.2.1") == name
    assert our_name(f"{name}.", "192.0.2.1") == name


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "laptop", "localhost", "LOCALHOST", "localhost.localdomain", "pc.localdomain", "pc.localhost"),
        *("my_laptop.example.org", "-a.example", "a-.example", "a..example", ".example.org", "a b.example"),
        *(f"{LONG}a.example", ".".join([LONG] * 4), "büro.example.org", "192.0.2.7", "a.1", "pc.example\n"),
    ],
)
def test_other_names_become_the_address(name: str):
    assert not is_full_name(name)
    assert our_name(name, "192.0.2.1") == "[192.0.2.1]"
    assert our_name(name, "2001:db8::1") == "[IPv6:2001:db8::1]"


def test_literals_of_addresses():
    assert literal("fe80::1%eth0") == "[IPv6:fe80::1]"
    assert literal("::ffff:192.0.2.1") == "[192.0.2.1]"


@pytest.mark.parametrize("text", ["[192.0.2.1]", "[IPv6:2001:db8::1]", "[IPv6:2001:DB8:0:0:0:0:0:1]"])
def test_what_is_a_literal(text: str):
    assert is_literal(text)


@pytest.mark.parametrize(
    "text", ["192.0.2.1", "[]", "[2001:db8::1]", "[IPv6:192.0.2.1]", "[192.0.2]", "[a.example]", "[1.2.3.4]x"]
)
def test_what_is_no_literal(text: str):
    assert not is_literal(text)
