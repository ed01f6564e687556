"""Endpoint: where a server is, how the connection is protected, and who signs in. One value for all protocols.

Mechanisms for signing in have names that belong to a protocol, so each protocol's options call `check` with its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from syncd.errors import AuthRefused, ConfigError, Unsupported
from syncd.net.proxy import Proxy
from syncd.net.tls import TlsPolicy
from syncd.secret import Secret

SECURITIES = frozenset({"tls", "starttls", "none"})


def _no_password() -> Secret:
    return Secret("")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server and the user who signs in.

    `security` is "tls" (from the first octet), "starttls" (after a command in clear) or "none". Over "none" a password
    is sent only with `allow_insecure=True`, because anyone on the way can read it.

    `password` is called at each sign-in, never earlier. It returns an access token where `auth` wants one, and may
    raise SecretUnavailable or ConfigError.

    `authzid` is the user to act for, where `username` is a master user.

    `account` is for errors: how the configuration calls the account, and where its password comes from.

    `tls.name` is the account's `tls_name`: the name that the certificate is verified against. `proxy` leads to the
    host.
    """

    host: str
    port: int
    security: str
    username: str = ""
    password: Callable[[], Secret] = _no_password
    auth: str = "auto"  # or a mechanism of the protocol, in lower case
    allow_insecure: bool = False
    tls: TlsPolicy = field(default_factory=TlsPolicy)
    proxy: Proxy | None = None
    authzid: str = ""
    account: str = ""

    @contextmanager
    def signing_in(self) -> Iterator[None]:
        """Have a refused sign-in in this block name the account: a job may have two, and one host both of them."""
        try:
            yield
        except (AuthRefused, Unsupported) as error:
            if self.account:
                error.args = (f"{error} ({self.account})",)
            raise

    def check(self, protocol: str, mechanisms: Collection[str]) -> None:
        """Check the names in `security` and `auth`; `mechanisms` are those of the protocol. Raises ConfigError."""
        for key, value, known in (("security", self.security, SECURITIES), ("auth", self.auth, mechanisms)):
            if value not in known:
                raise ConfigError(
                    f"{key} = {value!r} is not known for {protocol}; accepted: {', '.join(sorted(known))}"
                )
