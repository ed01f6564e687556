"""The simple SASL mechanisms: PLAIN (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195), EXTERNAL (RFC 4422, appendix A).

None of these proves who the server is; TLS does that.
"""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod

from syncd.errors import LocalProtocolError
from syncd.secret import Secret

PASSWORD_ADVICE = "check the account's username and password"  # noqa: S105 (no password)
DIGEST_ADVICE = f'{PASSWORD_ADVICE}; if they are right, the server may need the password itself: set auth = "plain"'


class Unproved:
    """The common part of mechanisms that ask the server for no proof (see `sasl.Mechanism`)."""

    advice = PASSWORD_ADVICE
    said = ""

    def __init__(self, *secrets: Secret) -> None:
        self.secrets = [secret.octets() for secret in secrets]

    def finish(self) -> None:
        """Do nothing: there is no proof to check."""


class ClientFirst(Unproved, ABC):
    """A mechanism of one message, sent with the command or in answer to an empty challenge.

    A server that got the message with the command, and asks for it nevertheless, gets it again, once.
    """

    _asked = False

    @abstractmethod
    def initial(self) -> bytes:
        """Returns the message."""

    def respond(self, challenge: bytes) -> bytes | None:
        """Returns the message for an empty challenge, once."""
        if challenge or self._asked:
            return None
        self._asked = True
        return self.initial()


class Plain(ClientFirst):
    """PLAIN: `[authzid] NUL authcid NUL password`, in UTF-8. Needs TLS, or `allow_insecure`.

    A password that was given in other octets goes as it is.
    """

    name = "PLAIN"

    def __init__(self, username: str, password: Secret, authzid: str = "") -> None:
        super().__init__(password)
        self._username = username
        self._password = password
        self._authzid = authzid

    def initial(self) -> bytes:
        """Returns the message (RFC 4616 §2). Raises LocalProtocolError for NUL in a name or the password."""
        fields = (self._authzid.encode(), self._username.encode(), self._password.octets())
        if any(b"\0" in field for field in fields):
            raise LocalProtocolError("the username or password contains NUL, which PLAIN cannot carry (RFC 4616 §2)")
        return b"\0".join(fields)


class External(ClientFirst):
    """EXTERNAL: the client certificate in TLS has shown who we are; the message names the user to act for.

    With an empty username the server takes the name in the certificate.
    """

    name = "EXTERNAL"
    advice = "check the account's username, and whether the server knows its certificate"

    def __init__(self, username: str) -> None:
        super().__init__()
        self._username = username

    def initial(self) -> bytes:
        """Returns the authorization identity (RFC 4422 §A). Raises LocalProtocolError for NUL in it."""
        if "\0" in self._username:
            raise LocalProtocolError("the username contains NUL, which EXTERNAL cannot carry (RFC 4422 §A.1)")
        return self._username.encode()


class Login(Unproved):
    """LOGIN: two prompts, answered by username and password (draft-murchison-sasl-login-00).

    The text of the prompts differs from server to server, so only their order counts. There is no initial response,
    because some servers misunderstand one.
    """

    name = "LOGIN"

    def __init__(self, username: str, password: Secret) -> None:
        super().__init__(password)
        self._answers = iter((Secret(username), password))

    def initial(self) -> None:
        """Returns None: the server speaks first."""

    def respond(self, challenge: bytes) -> bytes | None:
        """Returns the answer to the next prompt."""
        del challenge
        answer = next(self._answers, None)
        return None if answer is None else answer.octets()


class CramMd5(Unproved):
    """CRAM-MD5: `username SP HMAC-MD5(password, challenge)` in hex. The password does not cross the network.

    But anyone who listens can try passwords against the answer offline, at the speed of MD5.
    """

    name = "CRAM-MD5"
    advice = DIGEST_ADVICE

    def __init__(self, username: str, password: Secret) -> None:
        super().__init__(password)
        self._username = username
        self._password = password
        self._answered = False

    def initial(self) -> None:
        """Returns None: the server speaks first."""

    def respond(self, challenge: bytes) -> bytes | None:
        """Returns the answer to the only challenge (RFC 2195 §2), which is never empty."""
        if self._answered or not challenge:
            return None
        self._answered = True
        digest = hmac.new(self._password.octets(), challenge, "md5").hexdigest()
        self.secrets.append(digest.encode())  # passwords can be tried against it
        return f"{self._username} {digest}".encode()
