"""SASL (RFC 4422): the mechanism protocol, and the choice of the mechanism for an account.

Mechanisms are pure steps: challenge in, response out. The mail protocol adds base64, lines and replies.

    auth = "auto"   the strongest mechanism that the server offers, in this order:
                    inside TLS   SCRAM-SHA-256, SCRAM-SHA-1, PLAIN, LOGIN, CRAM-MD5
                    in clear     SCRAM-SHA-256, SCRAM-SHA-1, CRAM-MD5, and with allow_insecure PLAIN, LOGIN
    auth = NAME     only that mechanism; in clear only as above

To add a mechanism: write the exchange in a `sasl_*.py`, add a row to `_WAYS`, and put it into the two orders if `auto`
may take it.

CRAM-MD5 comes last inside TLS: it protects only against listeners, and many servers that offer it cannot use it with
passwords that they store hashed. `auto` never takes XOAUTH2 or OAUTHBEARER, because only the user knows whether the
secret is a password or an access token, and never EXTERNAL. There is no channel binding (-PLUS), no security layer, and
no second guess: servers that lock accounts count attempts.
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
    """An exchange, to be used once. `name` is the registered name, in capitals."""

    name: str
    advice: str  # for the user, when the server refuses
    said: str  # the reason that the server gave inside the exchange, printable; mostly none
    secrets: list[bytes]  # must not be shown if the server repeats them; a response may add some

    def initial(self) -> bytes | None:
        """Returns the initial response (RFC 4422 §3), or None when the server speaks first.

        Raises LocalProtocolError for a username or secret that the mechanism cannot carry.
        """
        ...

    def respond(self, challenge: bytes) -> bytes | None:
        """Returns the response to a challenge; None when the server asks for one more step than the mechanism has.

        An empty first challenge asks for the initial response. Raises RemoteProtocolError.
        """
        ...

    def finish(self) -> None:
        """Check the server's proof after it accepted the sign-in. Raises RemoteProtocolError if a proof is missing."""
        ...


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and the server to sign in to. `secret` is the password or the access token; EXTERNAL ignores it.

    `authzid` is the user to act for, where `username` is a master user; empty: `username` (RFC 4422 §3.4.1).
    """

    username: str
    secret: Secret
    host: str
    port: int
    authzid: str = ""


class _Way(NamedTuple):
    make: Callable[[Credentials], Mechanism]
    in_clear: bool = False  # may be used without TLS, because it does not show the secret
    acts_for: bool = False  # can name another user to act for


_WAYS: Final[Mapping[str, _Way]] = {
    "SCRAM-SHA-256": _Way(lambda c: Scram("SCRAM-SHA-256", c.username, c.secret), in_clear=True),
    "SCRAM-SHA-1": _Way(lambda c: Scram("SCRAM-SHA-1", c.username, c.secret), in_clear=True),
    "CRAM-MD5": _Way(lambda c: CramMd5(c.username, c.secret), in_clear=True),
    "PLAIN": _Way(lambda c: Plain(c.username, c.secret, c.authzid), acts_for=True),
    "LOGIN": _Way(lambda c: Login(c.username, c.secret)),
    "OAUTHBEARER": _Way(lambda c: OAuthBearer(c.authzid or c.username, c.secret, c.host, c.port), acts_for=True),
    "XOAUTH2": _Way(lambda c: XOAuth2(c.username, c.secret)),
    "EXTERNAL": _Way(lambda c: External(c.authzid or c.username), in_clear=True, acts_for=True),
}
_AUTO_IN_TLS: Final = ("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN", "CRAM-MD5")
_AUTO_IN_CLEAR: Final = ("SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5", "PLAIN", "LOGIN")

CHOICES: Final = frozenset({"auto", *map(str.lower, _WAYS)})  # the accepted values of `wanted`


def choose(
    offered: Collection[str], wanted: str, credentials: Credentials, *, encrypted: bool, allow_insecure: bool
) -> Mechanism:
    """Returns the mechanism to sign in by: the first of `candidates`. Raises what `candidates` and its makers raise."""
    return candidates(offered, wanted, credentials, encrypted=encrypted, allow_insecure=allow_insecure)[0]()


def candidates(
    offered: Collection[str], wanted: str, credentials: Credentials, *, encrypted: bool, allow_insecure: bool
) -> list[Callable[[], Mechanism]]:
    """Returns makers of the mechanisms that may be used, the strongest first; at least one. See `named_candidates`."""
    named = named_candidates(offered, wanted, credentials, encrypted=encrypted, allow_insecure=allow_insecure)
    return [make for _, make in named]


def named_candidates(
    offered: Collection[str], wanted: str, credentials: Credentials, *, encrypted: bool, allow_insecure: bool
) -> list[tuple[str, Callable[[], Mechanism]]]:
    """Returns name and maker of the mechanisms that may be used, the strongest first; at least one.

    A later one is only for a server that turns out not to know the earlier ones, which is no attempt to sign in.
    `offered` has the server's names in any case; `wanted` is one of CHOICES. Raises Unsupported, which tells what the
    server offers and what to set. A maker raises LocalProtocolError for a username or secret that its mechanism cannot
    carry.
    """
    at = f"[{credentials.host}]" if ":" in credentials.host else credentials.host
    where = f"{at}:{credentials.port}"
    known = frozenset(map(str.upper, offered))
    hidden = encrypted or allow_insecure
    if credentials.authzid:
        _check_acts_for(known, wanted, where)
        known = frozenset(name for name in known if name in _WAYS and _WAYS[name].acts_for)
    if wanted == "auto":
        names: list[str] = [name for name in (_AUTO_IN_TLS if encrypted else _AUTO_IN_CLEAR) if name in known]
        names = _carrying(credentials.secret, [name for name in names if hidden or _WAYS[name].in_clear])
        if names:
            return [(name, _maker(name, credentials)) for name in names]
        raise Unsupported(f"{where}: {_nothing_fits(offered, encrypted=encrypted, hidden=hidden)}", command="AUTH")
    name = wanted.upper()
    if name not in _WAYS:
        accepted = ", ".join(sorted(CHOICES))
        raise Unsupported(f'{where}: auth = "{wanted}" is not available in this version; accepted: {accepted}')
    if name not in known:
        others = " or one of these" if offered else ""
        text = f'the server does not offer {name}; it offers {_listed(offered)}; set auth = "auto"{others}'
        raise Unsupported(f"{where}: {text}", command="AUTH")
    if not (hidden or _WAYS[name].in_clear):
        text = f"{name} would show the secret to anyone on the way; {_PROTECT}, or allow_insecure = true"
        raise Unsupported(f"{where}: {text}", command="AUTH")
    return [(name, _maker(name, credentials))]


def _check_acts_for(known: Collection[str], wanted: str, where: str) -> None:
    """Raise Unsupported if no mechanism that may be used can name the user to act for."""
    able = [name for name, way in _WAYS.items() if way.acts_for]
    if (wanted == "auto" and "PLAIN" not in known) or (wanted != "auto" and wanted.upper() not in able):
        names = ", ".join(name.lower() for name in able)
        raise Unsupported(
            f"{where}: authzid is set, and only these mechanisms can sign in for another user: {names}; "
            "set auth to one that the server offers",
            command="AUTH",
        )


def _carrying(secret: Secret, names: list[str]) -> list[str]:
    """Returns the mechanisms that can carry a secret which may not be UTF-8; all of `names` if none can.

    SCRAM prepares the password as text (RFC 5802 §5.1); the others take octets.
    """
    return [name for name in names if secret.is_text or not name.startswith("SCRAM")] or names


def _maker(name: str, credentials: Credentials) -> Callable[[], Mechanism]:
    return lambda: _WAYS[name].make(credentials)


def _nothing_fits(offered: Collection[str], *, encrypted: bool, hidden: bool) -> str:
    """Returns the reason why `auto` finds no mechanism, with advice."""
    known = frozenset(map(str.upper, offered))
    if not known:
        hint = "" if encrypted else f"; in TLS it may: {_PROTECT}"
        return f"the server offers {_listed(offered)} to sign in by{hint}"
    offers = f"the server offers {_listed(offered)}"
    if not hidden and known & frozenset(_AUTO_IN_CLEAR):
        return f"{offers}, and these would show the password to anyone on the way; {_PROTECT}, or allow_insecure = true"
    if others := [name for name in _WAYS if name in known]:
        choice = " or ".join(f'auth = "{name.lower()}"' for name in others)
        needs = "and give the access token or certificate it needs"
        return f"{offers}, and none of these takes a password; set {choice}, {needs}"
    return f"{offers}, and syncd knows none of these" + ("" if encrypted else f"; in TLS it may offer more: {_PROTECT}")


def _listed(offered: Collection[str]) -> str:
    return printable(" ".join(offered)) or "no mechanism"
