"""Signing in: USER and PASS, APOP, or AUTH PLAIN (RFC 1939 §7, RFC 5034).

`auto` takes AUTH PLAIN where it is announced (one round trip, any characters), else USER and PASS, never
APOP: its MD5 proves little (CVE-2007-1558), and TLS protects the others better. One attempt, no second guess:
attempts are counted by servers that lock accounts.
"""

from __future__ import annotations

from syncd.auth.sasl import Mechanism, Plain
from syncd.errors import AuthRefused, Refused
from syncd.pop3.client import Client
from syncd.pop3.encoder import apop_digest, auth, base64
from syncd.pop3.grammar import timestamp
from syncd.pop3.refusals import refusal
from syncd.pop3.values import APOP, AUTH, PASS, USER, Challenge, Status, Verb
from syncd.secret import Secret

CHOICES = frozenset({"auto", "plain", "user", "apop"})


def sign_in(client: Client, choice: str, username: str, password: Secret) -> str:
    """Sign in by one of CHOICES; gives the name of what was used.

    Raises AuthRefused, MailboxRefused (in use), Refused (come later), LocalProtocolError.
    """
    if choice == "auto":
        choice = _choose(client)
    if choice == "plain":
        _exchange(client, Plain(username, password), username)
        return "AUTH PLAIN"
    if choice == "apop":
        _apop(client, username, password)
        return "APOP"
    _user_pass(client, username, password)
    return "USER/PASS"


def _choose(client: Client) -> str:
    capabilities = client.capabilities
    if "PLAIN" in capabilities.mechanisms:
        return "plain"
    if capabilities.mechanisms and "USER" not in capabilities:
        offered = " ".join(capabilities.mechanisms)
        raise AuthRefused(
            f"{client.address}: the server offers only {offered} to sign in, none of which is known here; "
            'if it takes a password all the same, set auth = "user"',
            command=AUTH.name,
        )
    return "user"


def _user_pass(client: Client, username: str, password: Secret) -> None:
    client.ask(USER, username)
    client.ask(PASS, password.reveal())
    user = client.status()
    if not user.ok:
        client.drop_unsent()
        if client.in_flight:  # PASS left together with USER
            client.status()
        raise _refused(client, username, USER, user)
    answer = client.status()
    if not answer.ok:
        raise _refused(client, username, PASS, answer)


def _apop(client: Client, username: str, password: Secret) -> None:
    stamp = timestamp(client.greeting.text)
    if stamp is None:
        raise AuthRefused(f'{client.address}: the server does not offer APOP; set auth = "auto"', command=APOP.name)
    client.ask(APOP, username, apop_digest(stamp, password))
    answer = client.status()
    if not answer.ok:
        raise _refused(client, username, APOP, answer)


def _exchange(client: Client, mechanism: Mechanism, username: str) -> None:
    """AUTH with or without initial response; a server may ask for it all the same (RFC 5034 §4)."""
    line = auth(mechanism.name, mechanism.initial())
    client.ask_line(AUTH, line)
    while isinstance(event := client.event(), Challenge):
        response = mechanism.respond(event.octets)
        if response is None:
            raise AuthRefused(
                f"{client.address}: the server asks for more than {mechanism.name} has", command=AUTH.name
            )
        client.respond(AUTH, base64(response).encode())
    assert isinstance(event, Status), event
    if not event.ok:
        raise _refused(client, username, AUTH, event)


def _refused(client: Client, username: str, verb: Verb, answer: Status) -> Refused:
    return refusal(client.address, f"the server refuses to sign {username!r} in", verb, answer)
