"""The simple SASL mechanisms: PLAIN (RFC 4616), LOGIN, CRAM-MD5 (RFC 2195), EXTERNAL (RFC 4422, appendix A).

By none of these does the server prove who it is: that is left to TLS.
"""

from __future__ import annotations

import hmac
from abc import ABC, abstractmethod

from syncd.errors import LocalProtocolError
from syncd.secret import Secret

PASSWORD_ADVICE = "check the account's username and password"  # noqa: S105 (no password)
DIGEST_ADVICE = f'{PASSWORD_ADVICE}; if they are right, the server may need the password itself: set auth = "plain"'


class Unproved:
    """What mechanisms share that ask the server for no proof (see `sasl.Mechanism`)."""

    advice = PASSWORD_ADVICE
    said = ""

    def __init__(self, *secrets: str) -> None:
        self.secrets = [secret.encode() for secret in secrets]

    def finish(self) -> None:
        """There is nothing to check."""


class ClientFirst(Unproved, ABC):
    """A mechanism of one message, sent with the command or in answer to an empty challenge.

    Both, where a server was sent it with the command and asks all the same: it is then given again, once.
    """

    _asked = False

    @abstractmethod
    def initial(self) -> bytes:
        """The one message there is."""

    def respond(self, challenge: bytes) -> bytes | None:
        """Answer the one empty challenge."""
        if challenge or self._asked:
            return None
        self._asked = True
        return self.initial()


class Plain(ClientFirst):
    """PLAIN: `[authzid] NUL authcid NUL password`, UTF-8, only ever inside TLS unless the account allows otherwise."""

    name = "PLAIN"

    def __init__(self, username: str, password: Secret) -> None:
        super().__init__(password.reveal())
        self._username = username
        self._password = password

    def initial(self) -> bytes:
        """The message (RFC 4616 §2). Raises LocalProtocolError for NUL in name or password."""
        name, word = self._username.encode(), self._password.reveal().encode()
        if b"\0" in name or b"\0" in word:
            raise LocalProtocolError("the username or password contains NUL, which PLAIN cannot carry (RFC 4616 §2)")
        return b"\0" + name + b"\0" + word


class External(ClientFirst):
    """EXTERNAL: TLS has shown who we are, by the account's certificate; the message says whom to act for.

    An empty username leaves that to the certificate.
    """

    name = "EXTERNAL"
    advice = "check the account's username, and whether the server knows its certificate"

    def __init__(self, username: str) -> None:
        super().__init__()
        self._username = username

    def initial(self) -> bytes:
        """The authorization identity (RFC 4422 §A). Raises LocalProtocolError for NUL in it."""
        if "\0" in self._username:
            raise LocalProtocolError("the username contains NUL, which EXTERNAL cannot carry (RFC 4422 §A.1)")
        return self._username.encode()


class Login(Unproved):
    """LOGIN: two prompts, answered by username and password (draft-murchison-sasl-login-00).

    What the prompts say differs from server to server, so only their order counts. No initial response:
    some servers understand one, some take it for something else.
    """

    name = "LOGIN"

    def __init__(self, username: str, password: Secret) -> None:
        super().__init__(password.reveal())
        self._answers = iter((Secret(username), password))

    def initial(self) -> None:
        """The server speaks first."""

    def respond(self, challenge: bytes) -> bytes | None:
        """Answer the next prompt."""
        del challenge
        answer = next(self._answers, None)
        return None if answer is None else answer.reveal().encode()


class CramMd5(Unproved):
    """CRAM-MD5: `username SP HMAC-MD5(password, challenge)` in hex. The password does not cross the network.

    But whoever listens can try passwords against the answer offline, as fast as MD5 goes.
    """

    name = "CRAM-MD5"
    advice = DIGEST_ADVICE

    def __init__(self, username: str, password: Secret) -> None:
        super().__init__(password.reveal())
        self._username = username
        self._password = password
        self._answered = False

    def initial(self) -> None:
        """The server speaks first."""

    def respond(self, challenge: bytes) -> bytes | None:
        """Answer the one challenge (RFC 2195 §2), which is never empty."""
        if self._answered or not challenge:
            return None
        self._answered = True
        digest = hmac.new(self._password.reveal().encode(), challenge, "md5").hexdigest()
        self.secrets.append(digest.encode())  # passwords can be tried against it
        return f"{self._username} {digest}".encode()
