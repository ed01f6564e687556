"""Signing in by a SASL mechanism (RFC 4954 §4). One attempt, because servers that lock accounts count attempts."""

from __future__ import annotations

import contextlib

from syncd.auth.sasl import Mechanism
from syncd.errors import AuthRefused, ProtocolError, SyncdError
from syncd.smtp.encoder import auth, response
from syncd.smtp.grammar import challenge
from syncd.smtp.refusals import refusal
from syncd.smtp.session import Session
from syncd.smtp.values import Reply, Verb

_CANCEL = b"*\r\n"


def sign_in(session: Session, mechanism: Mechanism) -> None:
    """AUTH, with the initial response if it fits. A server may ask for it again.

    Raises AuthRefused, Unsupported (no attempt: the mechanism is unknown, or TLS is lacking), Refused (try later),
    LocalProtocolError, RemoteProtocolError (the server fails to prove itself), TransportError. No message of these
    errors shows a secret, even if the server's answer repeats it.
    """
    line = auth(mechanism.name, mechanism.initial())
    _hide(session, mechanism, *line.split()[2:])
    reply = session.ask(Verb.AUTH, line)
    while reply.go_on:
        line = _respond(session, mechanism, reply)
        _hide(session, mechanism, *line.split())
        session.push(line)
        reply = session.answer().reply
    if not reply.ok:
        said = f" (“{mechanism.said}”)" if mechanism.said else ""
        what = f"the server refuses to sign us in by {mechanism.name}{said}"
        error = refusal(session.address, what, Verb.AUTH, reply, mechanism.advice)
        error.command = f"{Verb.AUTH.value} {mechanism.name}"
        raise error
    with session.naming():
        mechanism.finish()


def _respond(session: Session, mechanism: Mechanism, reply: Reply) -> bytes:
    """Returns the line that answers a challenge. A challenge that cannot be answered cancels the exchange."""
    with session.naming():
        try:
            answer = mechanism.respond(challenge(reply, session.connection.redaction.quote))
            if answer is not None:
                return response(answer)
        except ProtocolError:
            _cancel(session)
            raise
    _cancel(session)
    raise AuthRefused(
        f"{session.address}: the server asks for one more step than {mechanism.name} has", command=Verb.AUTH.value
    )


def _cancel(session: Session) -> None:
    """Cancel the exchange; the server answers 501. Errors are ignored, because the reason to cancel matters more."""
    with contextlib.suppress(SyncdError):
        session.push(_CANCEL)
        session.answer()


def _hide(session: Session, mechanism: Mechanism, *words: bytes) -> None:
    """Blank what is about to be sent, in case the server repeats it (B33)."""
    session.connection.redaction.learn(*mechanism.secrets)
    session.connection.redaction.add(*words)
