"""Signing in: AUTH by a SASL mechanism, USER and PASS, or APOP (RFC 1939 §7, RFC 5034).

`auto` takes the mechanism that `auth.sasl` chooses of those announced, else USER and PASS, never APOP: its MD5
proves little (CVE-2007-1558), and TLS protects the others better. There is one attempt and no second guess, because
servers that lock accounts count attempts. A mechanism that shows the password is used without TLS only with
`allow_insecure`.

A server that does not know the command, or takes no password without TLS, has made no attempt (P54): `auto` goes on
with the next mechanism in the same session, and last with USER and PASS.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from syncd.auth.sasl import CHOICES as SASL_CHOICES
from syncd.auth.sasl import Credentials, Mechanism, candidates
from syncd.errors import AuthRefused, Refused, Unsupported
from syncd.pop3.encoder import apop_digest, auth, base64
from syncd.pop3.grammar import timestamp
from syncd.pop3.refusals import refusal
from syncd.pop3.session import Session
from syncd.pop3.values import APOP, AUTH, PASS, USER, Challenge, Status, Verb

CHOICES = SASL_CHOICES | {"user", "apop"}

_Way = Callable[[], str]  # signs in; returns the name of the mechanism


def sign_in(session: Session, choice: str, credentials: Credentials, *, allow_insecure: bool) -> str:
    """Sign in by `choice`, one of CHOICES. Returns the name of the mechanism.

    Raises AuthRefused, Unsupported (no attempt was made: the server knows none of the commands), MailboxRefused (in
    use), Refused (come later), LocalProtocolError, RemoteProtocolError (a server that fails to prove itself). No
    message of these errors shows a secret, even if the server's answer repeats it.
    """
    unknown: list[Unsupported] = []
    for way in _ways(session, choice, credentials, allow_insecure=allow_insecure):
        try:
            return way()
        except Unsupported as error:
            unknown.append(error)
    raise _nothing_left(session, choice, unknown, allow_insecure=allow_insecure) from unknown[-1]


def _ways(session: Session, choice: str, credentials: Credentials, *, allow_insecure: bool) -> list[_Way]:
    """Returns the ways to sign in, in the order in which to try them. Raises Unsupported if there is none."""
    user_pass = partial(_user_pass, session, credentials)
    shown = _encrypted(session) or allow_insecure
    if choice == "apop":
        stamp = timestamp(session.greeting.text)
        if stamp is None:
            raise Unsupported(
                f'{session.address}: the server does not offer APOP; set auth = "auto"', command=APOP.name
            )
        return [partial(_apop, session, stamp, credentials)]
    if choice == "user" or (choice == "auto" and not session.capabilities.mechanisms):
        if not shown:
            raise _would_show(session)
        plain = ("PLAIN",) if choice == "auto" else ()
        return [user_pass, *_exchanges(session, plain, choice, credentials, allow_insecure=allow_insecure)]
    try:
        offered = session.capabilities.mechanisms or (choice,)  # if it announces none, the user's choice is tried
        ways = _exchanges(session, offered, choice, credentials, allow_insecure=allow_insecure)
    except Unsupported:
        if choice != "auto" or "USER" not in session.capabilities:
            raise
        if not shown:
            raise _would_show(session) from None
        ways = []
    return [*ways, user_pass] if choice == "auto" and shown else ways


def _exchanges(
    session: Session, offered: tuple[str, ...], choice: str, credentials: Credentials, *, allow_insecure: bool
) -> list[_Way]:
    if not offered:
        return []
    encrypted = _encrypted(session)
    makers = candidates(offered, choice, credentials, encrypted=encrypted, allow_insecure=allow_insecure)
    return [partial(_exchange, session, make, credentials) for make in makers]


def _encrypted(session: Session) -> bool:
    return session.transport.tls != "none"


def _would_show(session: Session) -> Unsupported:
    return Unsupported(
        f"{session.address}: USER and PASS would show the password to anyone on the way; "
        'set security = "tls" or "starttls", or allow_insecure = true',
        command=PASS.name,
    )


def _nothing_left(session: Session, choice: str, unknown: list[Unsupported], *, allow_insecure: bool) -> Unsupported:
    """Returns the error when the server knows none of the commands, with the settings that may help."""
    said = "; ".join(f"{error.command}: “{error.text}”" for error in unknown)
    advice = []
    if choice not in {"auto", "user"}:
        advice.append('auth = "auto" or "user"')
    if choice == "user":
        advice.append('auth = "auto"')
    if choice != "apop" and timestamp(session.greeting.text) is not None:
        advice.append('auth = "apop"')
    if not _encrypted(session):
        advice.append('security = "tls" or "starttls"' + ("" if allow_insecure else ", or allow_insecure = true"))
    other = f"set {', or '.join(advice)}" if advice else "set auth to a mechanism that the server knows"
    message = f"{session.address}: the server does not know how to sign in so ({said}), and nothing was tried; {other}"
    return Unsupported(message, command=unknown[-1].command, code=unknown[-1].code, text=unknown[-1].text)


def _user_pass(session: Session, credentials: Credentials) -> str:
    password = credentials.secret.reveal()
    session.redaction.learn(credentials.secret.octets())
    session.ask(USER, credentials.username)
    session.ask(PASS, password)
    user = session.status()
    if not user.ok:
        session.drop_unsent()
        if session.in_flight:  # PASS left together with USER
            session.status()
        raise _refused(session, credentials, USER, user)
    answer = session.status()
    if not answer.ok:
        raise _refused(session, credentials, PASS, answer)
    return "USER/PASS"


def _apop(session: Session, stamp: bytes, credentials: Credentials) -> str:
    digest = apop_digest(stamp, credentials.secret)
    session.redaction.learn(credentials.secret.octets(), digest.encode())
    session.ask(APOP, credentials.username, digest)
    answer = session.status()
    if not answer.ok:
        raise _refused(session, credentials, APOP, answer)
    return "APOP"


def _exchange(session: Session, make: Callable[[], Mechanism], credentials: Credentials) -> str:
    """AUTH, with the initial response if it fits. A server may ask for it again (RFC 5034 §4)."""
    mechanism = make()
    initial = mechanism.initial()
    _hide(session, mechanism, initial)
    session.ask_line(AUTH, auth(mechanism.name, initial))
    while isinstance(event := session.event(), Challenge):
        with session.naming():
            response = mechanism.respond(event.octets)
        if response is None:
            raise AuthRefused(
                f"{session.address}: the server asks for one more step than {mechanism.name} has", command=AUTH.name
            )
        _hide(session, mechanism, response)
        session.respond(AUTH, base64(response).encode())
    assert isinstance(event, Status), event
    if not event.ok:
        raise _refused(session, credentials, AUTH, event, mechanism)
    with session.naming():
        mechanism.finish()
    return f"AUTH {mechanism.name}"


def _hide(session: Session, mechanism: Mechanism, response: bytes | None) -> None:
    """Blank what is about to be sent, in case the server repeats it (B33)."""
    session.redaction.learn(*mechanism.secrets)
    session.redaction.add(base64(response or b"").encode())


def _refused(
    session: Session, credentials: Credentials, verb: Verb, answer: Status, mechanism: Mechanism | None = None
) -> Refused:
    said, hint = (mechanism.said, mechanism.advice) if mechanism is not None else ("", "")
    reason = f" (“{said}”)" if said else ""
    what = f"the server refuses to sign {credentials.username!r} in{reason}"
    error = refusal(session.address, what, verb, answer, hint)
    if mechanism is not None:
        error.command = f"AUTH {mechanism.name}"
    return error
