"""SCRAM-SHA-1 and SCRAM-SHA-256 (RFC 5802, RFC 7677): the server proves that it knows the password, and never sees it.

    client   n,,n=user,r=NONCE                        as the initial response, or later
    server   r=NONCE+MORE,s=SALT,i=ITERATIONS
    client   c=biws,r=NONCE+MORE,p=PROOF
    server   v=SIGNATURE                              or e=ERROR
    client   (empty)                                  if the server's last message came as a challenge

The library scramp does the arithmetic. It also refuses fewer than 4,096 iterations, and more than ten million, which
would take seconds. There is no channel binding (the -PLUS mechanisms): our first message says "n", unsupported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from syncd.auth.sasl_simple import DIGEST_ADVICE
from syncd.errors import LocalProtocolError, RemoteProtocolError, printable
from syncd.secret import Secret

if TYPE_CHECKING:
    from scramp import ScramException  # type: ignore[import-untyped]


class Scram:
    """A SCRAM exchange. `nonce` is for tests; without it the nonce has 128 random bits."""

    advice = DIGEST_ADVICE

    def __init__(self, name: str, username: str, password: Secret, nonce: str | None = None) -> None:
        """Raises LocalProtocolError for characters that SASLprep forbids in a name or password (RFC 4013)."""
        from scramp import ScramClient, ScramException

        self.name = name
        self.said = ""
        self.secrets = [password.octets()]
        self._proved = False
        try:
            self._client = ScramClient([name], username, password.reveal(), c_nonce=nonce)
        except ScramException:
            raise LocalProtocolError(
                f"the username is empty, or username or password has characters that {name} cannot carry (RFC 4013); "
                'inside TLS you can set auth = "plain"'
            ) from None  # the library's text might show one of them
        self._first = str(self._client.get_client_first()).encode()
        self._steps = iter((self._answer, self._verify))
        self._repeated = False

    def initial(self) -> bytes:
        """Returns the client's first message."""
        return self._first

    def respond(self, challenge: bytes) -> bytes | None:
        """Returns the next message. Raises RemoteProtocolError if the server fails to prove itself."""
        from scramp import ScramException

        if not challenge and not self._repeated:
            self._repeated = True
            return self._first
        step = next(self._steps, None)
        if step is None:
            return None
        try:
            text = challenge.decode()
            if text.startswith("e="):  # RFC 5802 §7, server-error: the refusal follows
                self.said = printable(text[2:])
                self._steps = iter(())
                return b""
            return step(text)
        except UnicodeDecodeError as error:
            raise RemoteProtocolError(f"{self.name}: a challenge that is not text: “{printable(challenge)}”") from error
        except ScramException as error:
            raise self._unusable(error) from error

    def finish(self) -> None:
        """Raises RemoteProtocolError if the server has not proved that it knows the password."""
        if not self._proved:
            raise RemoteProtocolError(
                f"{self.name}: the server accepts the sign-in without its signature; "
                "it may not be the server that it claims to be"
            )

    def _answer(self, server_first: str) -> bytes:
        self._repeated = True
        self._client.set_server_first(server_first)
        return str(self._client.get_client_final()).encode()

    def _verify(self, server_final: str) -> bytes:
        self._client.set_server_final(server_final)
        self._proved = True
        return b""

    def _unusable(self, error: ScramException) -> RemoteProtocolError:
        reason = printable(str(error.args[0]))
        return RemoteProtocolError(
            f"{self.name}: the server's part is wrong ({reason}); it may not be the server that it claims to be"
        )
