"""SASL mechanisms as pure steps: challenge in, response out (RFC 4422). Base64 and lines are the protocol's.

So far PLAIN (RFC 4616).
"""

from __future__ import annotations

from typing import Protocol

from syncd.errors import LocalProtocolError
from syncd.secret import Secret


class Mechanism(Protocol):
    """One exchange. Used once."""

    name: str

    def initial(self) -> bytes:
        """The response that may go with the first command (RFC 4422 §3, "initial response")."""
        ...

    def respond(self, challenge: bytes) -> bytes | None:
        """The response to a challenge; None when the server asks for more than the mechanism has."""
        ...


class Plain:
    """PLAIN: `[authzid] NUL authcid NUL password`, UTF-8, only ever inside TLS unless the account allows otherwise.

    `initial` and the first `respond` give the same: a server that ignores the initial response, or that was
    not sent one, asks with an empty challenge.
    """

    name = "PLAIN"

    def __init__(self, username: str, password: Secret) -> None:
        self._username = username
        self._password = password
        self._challenges = 0

    def initial(self) -> bytes:
        """The one message there is (RFC 4616 §2). Raises LocalProtocolError for NUL in name or password."""
        name, word = self._username.encode(), self._password.reveal().encode()
        if b"\0" in name or b"\0" in word:
            raise LocalProtocolError("the username or password contains NUL, which PLAIN cannot carry (RFC 4616 §2)")
        return b"\0" + name + b"\0" + word

    def respond(self, challenge: bytes) -> bytes | None:
        """Answer the one empty challenge."""
        self._challenges += 1
        return self.initial() if not challenge and self._challenges == 1 else None
