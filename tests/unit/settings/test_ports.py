"""Ports that do not fit: each case is an account, and the warning it must give."""

import pytest

from syncd.settings.ports import odd_ports
from syncd.settings.schema import Account, Settings


@pytest.mark.parametrize(
    ("account", "expected"),
    [
        ({"protocol": "pop3"}, ""),
        ({"protocol": "pop3", "security": "starttls"}, ""),
        ({"protocol": "pop3", "security": "none", "allow_insecure": True}, ""),
        ({"protocol": "pop3", "port": 9995}, ""),
        ({"protocol": "smtp", "port": 25, "security": "starttls"}, ""),
        ({"protocol": "smtp", "port": 587, "security": "none"}, ""),
        ({"protocol": "lmtp", "port": 24, "security": "none"}, ""),
        (
            {"protocol": "pop3", "port": 110},
            'port: at 110 a server begins without TLS; set security = "starttls", or port = 995',
        ),
        (
            {"protocol": "pop3", "port": 995, "security": "starttls"},
            'port: at 995 a server begins with TLS; set security = "tls", or port = 110',
        ),
        (
            {"protocol": "pop3", "port": 995, "security": "none"},
            'port: at 995 a server begins with TLS; set security = "tls", or port = 110',
        ),
        ({"protocol": "imap", "port": 143}, "port: at 143 a server begins without TLS; set"),
        ({"protocol": "smtp", "port": 25}, "port: at 25 a server begins without TLS; set"),
        ({"protocol": "smtp", "port": 587}, "port: at 587 a server begins without TLS; set"),
        ({"protocol": "smtp", "port": 465, "security": "starttls"}, "port: at 465 a server begins with TLS; set"),
        ({"protocol": "pop3", "port": 993}, 'port: 993 is the port of imap; pop3 with security = "tls" uses 995'),
        ({"protocol": "smtp", "port": 995}, 'port: 995 is the port of pop3; smtp with security = "tls" uses 465'),
        ({"protocol": "lmtp", "port": 25}, 'port: 25 is the port of smtp; lmtp with security = "tls" uses 24'),
        ({"protocol": "smtp", "port": 24}, "port: 24 is mostly the port of lmtp; smtp uses 465"),
    ],
)
def test_ports(account: dict[str, object], expected: str) -> None:
    settings = Settings(accounts={"a": Account.model_validate({"host": "h", **account})})
    found = [f"{mistake.path[-1]}: {mistake.text}" for mistake in odd_ports(settings)]
    assert len(found) == bool(expected)
    assert all(line.startswith(expected) for line in found), found
