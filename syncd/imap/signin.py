"""Signing in: AUTHENTICATE by a SASL mechanism, or LOGIN (RFC 3501 §6.2.2, §6.2.3; RFC 4959).

`auto` takes the mechanism that `auth.sasl` chooses of those announced, else LOGIN, which LOGINDISABLED forbids (I05). A
mechanism that shows the password is used without TLS only with `allow_insecure`.

Some servers announce mechanisms that cannot succeed, because they have only a hash of the password (I100). So a no to a
challenge-response mechanism does not prove the password wrong: `auto` then tries PLAIN, and LOGIN, once each, in the
same session. A no to PLAIN that says it is about the credentials (RFC 5530 §3) is the last; so is any no to LOGIN. A
server that does not know a mechanism has made no attempt, and the next one is used. The way that has worked is
remembered for the account.
"""

from __future__ import annotations

import binascii
import contextlib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from syncd.auth.sasl import CHOICES, Credentials, Mechanism, named_candidates
from syncd.errors import (
    AuthRefused,
    ConnectionLost,
    ProtocolError,
    Refused,
    RemoteProtocolError,
    SyncdError,
    Unsupported,
)
from syncd.imap.encoder import authenticate, base64
from syncd.imap.events import Continuation
from syncd.imap.session import Command, Session
from syncd.imap.values import Capabilities, Verb

__all__ = ["CHOICES", "sign_in"]

_LOGIN = "LOGIN"
_AGAIN = ("PLAIN", _LOGIN)  # what may follow a no
_CANCEL = b"*"


class _Way(NamedTuple):
    name: str  # of the mechanism
    run: Callable[[], str]  # signs in; returns the command


def sign_in(session: Session, choice: str, credentials: Credentials, *, allow_insecure: bool) -> str:
    """Sign in by `choice`, one of CHOICES. Returns the command that succeeded, such as "AUTHENTICATE PLAIN".

    Afterwards `session.capabilities` is what the server has told with its answer, or not known (I101, I102).

    Raises AuthRefused, Unsupported (no attempt was made: the server knows none of the commands), Refused (come later),
    LocalProtocolError, RemoteProtocolError (a server that fails to prove itself). No message of these errors shows a
    secret, even if the server's answer repeats it.
    """
    _ask_capabilities(session)
    unknown: list[Unsupported] = []
    refused: AuthRefused | None = None
    for way in _ways(session, choice, credentials, allow_insecure=allow_insecure):
        if refused is not None and way.name not in _AGAIN:
            continue
        before = session.capabilities
        try:
            command = way.run()
        except Unsupported as error:
            unknown.append(error)
        except AuthRefused as error:
            if choice != "auto" or way.name == _LOGIN or (way.name == "PLAIN" and error.code):
                raise
            refused = error
        except (ConnectionLost, Refused) as error:
            if refused is not None and (session.over or isinstance(error, ConnectionLost)):  # it hangs up after a no
                raise refused from error
            raise
        else:
            _signed_in(session, before, way, after_a_no=refused is not None)
            return command
    raise refused or _nothing_left(session, unknown)


def _ask_capabilities(session: Session) -> None:
    """Ask what the server takes, if it has not told. A server that refuses to tell takes what all servers take."""
    if not session.capabilities.known:
        session.finish(session.ask(Verb.CAPABILITY))


def _signed_in(session: Session, before: Capabilities, way: _Way, *, after_a_no: bool) -> None:
    if session.capabilities is before:
        session.capabilities = Capabilities()
    if after_a_no:
        session.quirks.note("I100", session.address)
    session.quirks.way = way.name


# --- the ways --------------------------------------------------------------------------------------


def _ways(session: Session, choice: str, credentials: Credentials, *, allow_insecure: bool) -> list[_Way]:
    """Returns the ways to sign in, in the order in which to try them. Raises Unsupported if there is none."""
    capabilities = session.capabilities
    shown = session.transport.tls != "none" or allow_insecure
    may_login = "LOGINDISABLED" not in capabilities and not credentials.authzid
    login = _Way(_LOGIN, partial(_login, session, credentials))
    if choice == "login" and "LOGIN" not in capabilities.mechanisms and may_login:
        if not shown:
            raise _would_show(session)
        return [login]
    offered = capabilities.mechanisms or (() if choice == "auto" else (choice,))
    try:
        ways = _exchanges(session, offered, choice, credentials, allow_insecure=allow_insecure)
    except Unsupported:
        if choice != "auto" or not may_login:
            raise
        if not shown:
            raise _would_show(session) from None
        ways = []
    if choice == "auto" and shown and may_login:
        ways.append(login)
    return sorted(ways, key=lambda way: way.name != session.quirks.way)  # I100; the order is kept otherwise


def _exchanges(
    session: Session, offered: tuple[str, ...], choice: str, credentials: Credentials, *, allow_insecure: bool
) -> list[_Way]:
    encrypted = session.transport.tls != "none"
    makers = named_candidates(offered, choice, credentials, encrypted=encrypted, allow_insecure=allow_insecure)
    return [_Way(name, partial(_exchange, session, name, make, credentials)) for name, make in makers]


def _would_show(session: Session) -> Unsupported:
    return Unsupported(
        f"{session.address}: LOGIN would show the password to anyone on the way; "
        'set security = "tls" or "starttls", or allow_insecure = true',
        command=_LOGIN,
    )


def _nothing_left(session: Session, unknown: list[Unsupported]) -> Unsupported:
    """Returns the error when the server knows none of the commands; at least one was tried."""
    last = unknown[-1]
    said = "; ".join(f"{error.command}: “{error.text}”" for error in unknown)
    return Unsupported(
        f"{session.address}: the server does not know how to sign in so ({said}), and nothing was tried; "
        "set auth to a mechanism that the server knows",
        command=last.command,
        code=last.code,
        text=last.text,
    )


# --- the commands ----------------------------------------------------------------------------------


def _login(session: Session, credentials: Credentials) -> str:
    session.redaction.learn(credentials.secret.octets())
    command = session.ask(Verb.LOGIN, credentials.username.encode(), credentials.secret.octets())
    if not session.finish(command).ok:
        raise _refused(session, command, credentials, _LOGIN)
    return _LOGIN


def _exchange(session: Session, name: str, make: Callable[[], Mechanism], credentials: Credentials) -> str:
    """AUTHENTICATE, with the initial response where the server takes one (RFC 4959)."""
    mechanism = make()
    initial = mechanism.initial()
    _hide(session, mechanism, initial)
    parts = authenticate(name, initial, sasl_ir="SASL-IR" in session.capabilities)
    command = session.ask_parts(Verb.AUTHENTICATE, parts)
    while (challenge := session.challenge(command)) is not None:
        response = _response(session, command, mechanism, challenge)
        _hide(session, mechanism, response)
        session.respond(base64(response))
    assert command.status is not None, "it has ended"
    if not command.status.ok:
        raise _refused(session, command, credentials, f"{Verb.AUTHENTICATE.value} {name}", mechanism)
    with session.naming():
        mechanism.finish()
    return f"{Verb.AUTHENTICATE.value} {name}"


def _response(session: Session, command: Command, mechanism: Mechanism, challenge: Continuation) -> bytes:
    """Returns the answer to a challenge. A challenge that cannot be answered cancels the exchange (RFC 3501 §6.2.2)."""
    with session.naming():
        try:
            response = mechanism.respond(_decoded(session, challenge))
        except ProtocolError:
            _cancel(session, command)
            raise
    if response is not None:
        return response
    _cancel(session, command)
    raise AuthRefused(
        f"{session.address}: the server asks for one more step than {mechanism.name} has",
        command=Verb.AUTHENTICATE.value,
    )


def _decoded(session: Session, challenge: Continuation) -> bytes:
    try:
        return binascii.a2b_base64(challenge.text, strict_mode=True) if challenge.text else b""
    except binascii.Error as error:
        raise RemoteProtocolError(
            f"a challenge that is no base64: “{session.redaction.quote(challenge.text)}”"
        ) from error


def _cancel(session: Session, command: Command) -> None:
    """Cancel the exchange; the server answers BAD, or NO. Errors are ignored: the reason to cancel matters more."""
    with contextlib.suppress(SyncdError):
        session.respond(_CANCEL)
        session.finish(command)


def _hide(session: Session, mechanism: Mechanism, response: bytes | None) -> None:
    """Blank what is about to be sent, in case the server repeats it (B33)."""
    session.redaction.learn(*mechanism.secrets)
    session.redaction.add(base64(response or b""))


def _refused(
    session: Session, command: Command, credentials: Credentials, name: str, mechanism: Mechanism | None = None
) -> Refused:
    said, hint = (mechanism.said, mechanism.advice) if mechanism is not None else ("", "")
    reason = f" (“{said}”)" if said else ""
    who = f"{credentials.username!r}" + (f" for {credentials.authzid!r}" if credentials.authzid else "")
    error = session.refused(command, f"the server refuses to sign {who} in{reason}", hint)
    error.command = name
    return error
