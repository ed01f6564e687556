"""Signing in by a SASL mechanism (RFC 4954 §4). One attempt: attempts are counted by servers that lock accounts."""

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
    """AUTH with or without initial response; a server may ask for it all the same.

    Raises AuthRefused, Unsupported (the mechanism, or the lack of TLS), Refused (later), LocalProtocolError,
    RemoteProtocolError (a server that fails to prove itself), TransportError. None of them shows a secret, nor does a
    server's answer that repeats one.
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
        raise refusal(session.address, what, Verb.AUTH, reply, mechanism.advice)
    with session.naming():
        mechanism.finish()


def _respond(session: Session, mechanism: Mechanism, reply: Reply) -> bytes:
    """The line to answer a challenge with; what cannot be answered cancels the exchange."""
    with session.naming():
        try:
            answer = mechanism.respond(challenge(reply, session.connection.redaction.quote))
            if answer is not None:
                return response(answer)
        except ProtocolError:
            _cancel(session)
            raise
    _cancel(session)
    raise AuthRefused(f"{session.address}: the server asks for more than {mechanism.name} has", command=Verb.AUTH.value)


def _cancel(session: Session) -> None:
    """Tell the server, which says 501. If it cannot be told, the reason to cancel is still what matters."""
    with contextlib.suppress(SyncdError):
        session.push(_CANCEL)
        session.answer()


def _hide(session: Session, mechanism: Mechanism, *words: bytes) -> None:
    """What is about to be sent is not to be shown, whatever the server makes of it (B33)."""
    session.connection.redaction.learn(*mechanism.secrets)
    session.connection.redaction.add(*words)
