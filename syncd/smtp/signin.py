"""Signing in by a SASL mechanism (RFC 4954 §4). One attempt: attempts are counted by servers that lock accounts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

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
    sent = [line]
    reply = session.ask(Verb.AUTH, line)
    while reply.go_on:
        sent.append(_respond(session, mechanism, reply))
        session.push(sent[-1])
        reply = session.answer().reply
    if not reply.ok:
        said = f" (“{mechanism.said}”)" if mechanism.said else ""
        what = f"the server refuses to sign us in by {mechanism.name}{said}"
        raise refusal(session.address, what, Verb.AUTH, _without(reply, sent), mechanism.advice)
    with session.naming():
        mechanism.finish()


def _respond(session: Session, mechanism: Mechanism, reply: Reply) -> bytes:
    """The line to answer a challenge with; what cannot be answered cancels the exchange."""
    with session.naming():
        try:
            answer = mechanism.respond(challenge(reply))
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


def _without(reply: Reply, sent: Iterable[bytes]) -> Reply:
    """The reply, without what it repeats of the exchange ("unknown command: …", says a server that is out of step)."""
    secrets = [word for line in sent for word in line.split()[-1:] if len(word) > 1]
    text = reply.text
    for secret in secrets:
        text = tuple(line.replace(secret, "…".encode()) for line in text)
    return reply._replace(text=text)
