"""SASL (RFC 4422): what a mechanism is, and which one an account signs in by.

Mechanisms are pure steps, challenge in, response out. Base64, lines and replies are the protocol's.

    auth = "auto"   of what the server offers the strongest:
                    inside TLS   SCRAM-SHA-256, SCRAM-SHA-1, PLAIN, LOGIN, CRAM-MD5
                    in clear     SCRAM-SHA-256, SCRAM-SHA-1, CRAM-MD5, and with allow_insecure PLAIN, LOGIN
    auth = NAME     that mechanism or none, and in clear only as above

CRAM-MD5 is worth something only where others listen: inside TLS it protects from nobody, and many servers that
offer it cannot do it for passwords that they keep hashed. `auto` never takes XOAUTH2 or OAUTHBEARER, because whether
the secret is a password or an access token is known to the account's owner alone, nor EXTERNAL. There is no channel
binding (-PLUS), no security layer, and no second guess: servers that lock accounts count attempts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from syncd.auth.sasl_oauth import OAuthBearer, XOAuth2
from syncd.auth.sasl_scram import Scram
from syncd.auth.sasl_simple import CramMd5, External, Login, Plain
from syncd.errors import Unsupported, printable
from syncd.secret import Secret

_PROTECT: Final = 'set security = "tls" or "starttls"'


class Mechanism(Protocol):
    """One exchange. Used once. `name` is the registered one, in capitals."""

    name: str
    advice: str  # what to look at when the server refuses
    said: str  # the reason that the server gave inside the exchange, printable; mostly none
    secrets: list[bytes]  # what it may send of what must not be shown; a response may add to it

    def initial(self) -> bytes | None:
        """The response that may go with the first command (RFC 4422 §3); None when the server speaks first.

        Raises LocalProtocolError for what the mechanism cannot carry.
        """
        ...

    def respond(self, challenge: bytes) -> bytes | None:
        """The response to a challenge; None when the server asks for more than the mechanism has.

        An empty first challenge asks for the initial response. Raises RemoteProtocolError.
        """
        ...

    def finish(self) -> None:
        """The server has said yes: raises RemoteProtocolError if it owes a proof that it is the right one."""
        ...


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who signs in, and where. `secret` is the password, or the access token; EXTERNAL does not look at it."""

    username: str
    secret: Secret
    host: str
    port: int


class _Way(NamedTuple):
    make: Callable[[Credentials], Mechanism]
    in_clear: bool = False  # may go over a line that anyone can read: does not show the secret


_WAYS: Final[Mapping[str, _Way]] = {
    "SCRAM-SHA-256": _Way(lambda c: Scram("SCRAM-SHA-256", c.username, c.secret), in_clear=True),
    "SCRAM-SHA-1": _Way(lambda c: Scram("SCRAM-SHA-1", c.username, c.secret), in_clear=True),
    "CRAM-MD5": _Way(lambda c: CramMd5(c.username, c.secret), in_clear=True),
    "PLAIN": _Way(lambda c: Plain(c.username, c.secret)),
    "LOGIN": _Way(lambda c: Login(c.username, c.secret)),
    "OAUTHBEARER": _Way(lambda c: OAuthBearer(c.username, c.secret, c.host, c.port)),
    "XOAUTH2": _Way(lambda c: XOAuth2(c.username, c.secret)),
    "EXTERNAL": _Way(lambda c: External(c.username), in_clear=True),
}
_AUTO_IN_TLS: Final = ("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN", "CRAM-MD5")
_AUTO_IN_CLEAR: Final = ("SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN")

CHOICES: Final = frozenset({"auto", *map(str.lower, _WAYS)})  # what `wanted` may be


def choose(
    offered: Collection[str], wanted: str, credentials: Credentials, *, encrypted: bool, allow_insecure: bool
) -> Mechanism:
    """The mechanism to sign in by. `offered` are the server's names in any case; `wanted` is one of CHOICES.

    Raises Unsupported, which says what the server offers and what to set; LocalProtocolError for a username or
    secret that the mechanism cannot carry.
    """
    at = f"[{credentials.host}]" if ":" in credentials.host else credentials.host
    where = f"{at}:{credentials.port}"
    known = frozenset(map(str.upper, offered))
    hidden = encrypted or allow_insecure
    if wanted == "auto":
        for name in _AUTO_IN_TLS if encrypted else _AUTO_IN_CLEAR:
            if name in known and (hidden or _WAYS[name].in_clear):
                return _WAYS[name].make(credentials)
        raise Unsupported(f"{where}: {_nothing_fits(offered, encrypted=encrypted, hidden=hidden)}", command="AUTH")
    name = wanted.upper()
    if name not in _WAYS:
        accepted = ", ".join(sorted(CHOICES))
        raise Unsupported(f'{where}: auth = "{wanted}" is not available in this version; accepted: {accepted}')
    if name not in known:
        text = f'the server does not offer {name}, but {_listed(offered)}; set auth = "auto" or one of them'
        raise Unsupported(f"{where}: {text}", command="AUTH")
    if not (hidden or _WAYS[name].in_clear):
        text = f"{name} would show the secret to anyone on the way; {_PROTECT}, or allow_insecure = true"
        raise Unsupported(f"{where}: {text}", command="AUTH")
    return _WAYS[name].make(credentials)


def _nothing_fits(offered: Collection[str], *, encrypted: bool, hidden: bool) -> str:
    """Why `auto` finds nothing, and what to set."""
    known = frozenset(map(str.upper, offered))
    offers = f"the server offers {_listed(offered)}"
    if not hidden and known & frozenset(_AUTO_IN_CLEAR):
        return f"{offers}, which would show the password to anyone on the way; {_PROTECT}, or allow_insecure = true"
    if others := [name for name in _WAYS if name in known]:
        choice = " or ".join(f'auth = "{name.lower()}"' for name in others)
        return (
            f"{offers}, and no way that takes a password; set {choice}, with the access token or certificate it needs"
        )
    return f"{offers}, and no way that is known here" + ("" if encrypted else f"; inside TLS it may: {_PROTECT}")


def _listed(offered: Collection[str]) -> str:
    return (printable(" ".join(offered)) or "nothing") + " to sign in by"
