"""Signing in: AUTH by a SASL mechanism, USER and PASS, or APOP (RFC 1939 §7, RFC 5034).

`auto` takes the mechanism that `auth.sasl` chooses of those announced, else USER and PASS, never APOP: its MD5
proves little (CVE-2007-1558), and TLS protects the others better. One attempt, no second guess: attempts are
counted by servers that lock accounts. Whatever shows the password goes over a clear line only with `allow_insecure`.
"""

from __future__ import annotations

from syncd.auth.sasl import CHOICES as SASL_CHOICES
from syncd.auth.sasl import Credentials, Mechanism, choose
from syncd.errors import AuthRefused, Refused, Unsupported
from syncd.pop3.client import Client
from syncd.pop3.encoder import apop_digest, auth, base64
from syncd.pop3.grammar import timestamp
from syncd.pop3.refusals import refusal
from syncd.pop3.values import APOP, AUTH, PASS, USER, Challenge, Status, Verb

CHOICES = SASL_CHOICES | {"user", "apop"}


def sign_in(client: Client, choice: str, credentials: Credentials, *, allow_insecure: bool) -> str:
    """Sign in by one of CHOICES; gives the name of what was used.

    Raises AuthRefused, Unsupported, MailboxRefused (in use), Refused (come later), LocalProtocolError,
    RemoteProtocolError (a server that fails to prove itself). None of them shows a secret, nor does a server's
    answer that repeats one.
    """
    if choice == "apop":
        _apop(client, credentials)
        return "APOP"
    mechanism = None if choice == "user" else _mechanism(client, choice, credentials, allow_insecure=allow_insecure)
    if mechanism is not None:
        _exchange(client, mechanism, credentials)
        return f"AUTH {mechanism.name}"
    if not (_encrypted(client) or allow_insecure):
        raise Unsupported(
            f"{client.address}: USER and PASS would show the password to anyone on the way; "
            'set security = "tls" or "starttls", or allow_insecure = true',
            command=PASS.name,
        )
    _user_pass(client, credentials)
    return "USER/PASS"


def _encrypted(client: Client) -> bool:
    return client.transport.tls != "none"


def _mechanism(client: Client, choice: str, credentials: Credentials, *, allow_insecure: bool) -> Mechanism | None:
    """None: by USER and PASS. Where none are announced, the owner's choice is taken for what the server can."""
    capabilities = client.capabilities
    if choice == "auto" and not capabilities.mechanisms:
        return None
    offered = capabilities.mechanisms or (choice,)
    try:
        return choose(offered, choice, credentials, encrypted=_encrypted(client), allow_insecure=allow_insecure)
    except Unsupported:
        if choice == "auto" and "USER" in capabilities:
            return None
        raise


def _user_pass(client: Client, credentials: Credentials) -> None:
    password = credentials.secret.reveal()
    client.redaction.learn(password.encode())
    client.ask(USER, credentials.username)
    client.ask(PASS, password)
    user = client.status()
    if not user.ok:
        client.drop_unsent()
        if client.in_flight:  # PASS left together with USER
            client.status()
        raise _refused(client, credentials, USER, user)
    answer = client.status()
    if not answer.ok:
        raise _refused(client, credentials, PASS, answer)


def _apop(client: Client, credentials: Credentials) -> None:
    stamp = timestamp(client.greeting.text)
    if stamp is None:
        raise AuthRefused(f'{client.address}: the server does not offer APOP; set auth = "auto"', command=APOP.name)
    digest = apop_digest(stamp, credentials.secret)
    client.redaction.learn(credentials.secret.reveal().encode(), digest.encode())
    client.ask(APOP, credentials.username, digest)
    answer = client.status()
    if not answer.ok:
        raise _refused(client, credentials, APOP, answer)


def _exchange(client: Client, mechanism: Mechanism, credentials: Credentials) -> None:
    """AUTH with or without initial response; a server may ask for it all the same (RFC 5034 §4)."""
    initial = mechanism.initial()
    _hide(client, mechanism, initial)
    client.ask_line(AUTH, auth(mechanism.name, initial))
    while isinstance(event := client.event(), Challenge):
        with client.naming():
            response = mechanism.respond(event.octets)
        if response is None:
            raise AuthRefused(
                f"{client.address}: the server asks for more than {mechanism.name} has", command=AUTH.name
            )
        _hide(client, mechanism, response)
        client.respond(AUTH, base64(response).encode())
    assert isinstance(event, Status), event
    if not event.ok:
        raise _refused(client, credentials, AUTH, event, mechanism)
    with client.naming():
        mechanism.finish()


def _hide(client: Client, mechanism: Mechanism, response: bytes | None) -> None:
    """What is about to be sent is not to be shown, whatever the server makes of it (B33)."""
    client.redaction.learn(*mechanism.secrets)
    client.redaction.add(base64(response or b"").encode())


def _refused(
    client: Client, credentials: Credentials, verb: Verb, answer: Status, mechanism: Mechanism | None = None
) -> Refused:
    said, hint = (mechanism.said, mechanism.advice) if mechanism is not None else ("", "")
    reason = f" (“{said}”)" if said else ""
    what = f"the server refuses to sign {credentials.username!r} in{reason}"
    return refusal(client.address, what, verb, answer, hint)
