"""Access tokens instead of passwords: OAUTHBEARER (RFC 7628) and XOAUTH2, which came before it.

The secret is the access token itself. It is valid for about an hour, so the account's secret reference should be a
`command:` that prints a fresh token each time. The token alone lets anyone in, so it is sent only inside TLS.

A refusal comes in steps: a challenge with the reason in JSON, our dummy response, then the protocol's refusal.
Tokens are often longer than a command line may be. Then they answer an empty challenge; some servers take them only so.
"""

from __future__ import annotations

import re

from syncd.auth.redaction import Redaction
from syncd.auth.sasl_simple import ClientFirst
from syncd.errors import LocalProtocolError
from syncd.secret import Secret

ADVICE = (
    "check the username, and that the password reference gives an access token that is meant for mail and still valid"
)
_TOKEN = re.compile("[!-~]+")  # RFC 6750 §2.1 has fewer characters; what matters is that nothing ends the field
_SEPARATOR = "\x01"


class Bearer(ClientFirst):
    """The common part of both mechanisms. `said` is the server's reason, once it has given one."""

    name = ""
    advice = ADVICE
    dummy = b""  # the response to the reason

    def __init__(self, username: str, token: Secret) -> None:
        """Raises LocalProtocolError for a username or token that would end its field; the error shows neither."""
        if any(c in username for c in "\0\r\n" + _SEPARATOR):
            raise LocalProtocolError(f"the username has a control character, which {self.name} cannot carry")
        if not _TOKEN.fullmatch(token.reveal()):
            raise LocalProtocolError(
                f"the secret for {self.name} is not an access token: it has spaces, control or non-ASCII characters, "
                "or is empty; the account's password reference must give the token and nothing else"
            )
        super().__init__(token)
        self._username = username
        self._token = token

    def respond(self, challenge: bytes) -> bytes | None:
        """Returns the message if the server asks for it, or the dummy response to the reason of a refusal."""
        if self.said:
            return None
        if not challenge:
            return super().respond(challenge)
        self.said = Redaction(*self.secrets).quote(challenge)
        return self.dummy


class XOAuth2(Bearer):
    """XOAUTH2, as Google and Microsoft document it."""

    name = "XOAUTH2"

    def initial(self) -> bytes:
        """Returns the message: `user=NAME ^A auth=Bearer TOKEN ^A ^A`."""
        return f"user={self._username}\x01auth=Bearer {self._token.reveal()}\x01\x01".encode()


class OAuthBearer(Bearer):
    """OAUTHBEARER. `host` and `port` are those that we connected to (RFC 7628 §3.1)."""

    name = "OAUTHBEARER"
    dummy = _SEPARATOR.encode()  # RFC 7628 §3.2.3

    def __init__(self, username: str, token: Secret, host: str, port: int) -> None:
        super().__init__(username, token)
        self._host = host
        self._port = port

    def initial(self) -> bytes:
        """Returns the message (RFC 7628 §3.1). Its GS2 header has "=" and "," of the name escaped (RFC 5801 §4)."""
        name = self._username.replace("=", "=3D").replace(",", "=2C")
        fields = (f"n,a={name},", f"host={self._host}", f"port={self._port}", f"auth=Bearer {self._token.reveal()}")
        return "".join(field + _SEPARATOR for field in (*fields, "")).encode()
