"""Warnings about ports that do not fit: the port of another protocol, or of another kind of protection. Pure.

A server may listen anywhere, so none of these is a mistake. But a client that begins with TLS where the server does not
(or the other way round) waits until it gives up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from syncd.settings.mistakes import Mistake
from syncd.settings.schema import PORTS, Account, Protocol, Security, Settings


class _Usual(NamedTuple):
    protocol: Protocol
    begins_with_tls: bool


# RFC 8314 §7, RFC 1939 §3, RFC 3501 §2.1, RFC 5321 §4.5.4.2, RFC 6409 §3.1. Port 24 (LMTP) may be either.
_USUAL: Final = {
    110: _Usual(Protocol.POP3, begins_with_tls=False),
    995: _Usual(Protocol.POP3, begins_with_tls=True),
    143: _Usual(Protocol.IMAP, begins_with_tls=False),
    993: _Usual(Protocol.IMAP, begins_with_tls=True),
    25: _Usual(Protocol.SMTP, begins_with_tls=False),
    587: _Usual(Protocol.SMTP, begins_with_tls=False),
    465: _Usual(Protocol.SMTP, begins_with_tls=True),
}


def odd_ports(settings: Settings) -> Iterator[Mistake]:
    """Yields a warning for each account whose port is known for something else."""
    for name, account in settings.accounts.items():
        if text := _odd(account):
            key = "port" if "port" in account.model_fields_set else "security"
            yield Mistake(("accounts", name, key), text)


def _odd(account: Account) -> str:
    port, protocol, usual = account.port, account.protocol, _USUAL.get(account.port)
    own = PORTS[protocol][account.security]
    if port == PORTS[Protocol.LMTP][Security.TLS]:
        return "" if protocol is Protocol.LMTP else f"{port} is mostly the port of lmtp; {protocol} uses {own}"
    if usual is None:
        return ""
    if usual.protocol is not protocol:
        return f'{port} is the port of {usual.protocol}; {protocol} with security = "{account.security}" uses {own}'
    if usual.begins_with_tls and account.security is not Security.TLS:
        return f'at {port} a server begins with TLS; set security = "tls", or port = {own}'
    if not usual.begins_with_tls and account.security is Security.TLS:
        return f'at {port} a server begins without TLS; set security = "starttls", or port = {own}'
    return ""
