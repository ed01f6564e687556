"""Finds the command by whose answer a server shows, between RETRs, that it is in step (P52).

Each candidate is tried alone before it is trusted: servers are known that answer LIST n with the whole listing, or with
the size alone. STAT behind it, which the server has just answered, shows where the answer ends, however long it is. One
round trip, once for each account and process.
"""

from __future__ import annotations

from collections.abc import Callable

from syncd.errors import LostStep, RemoteProtocolError, TransportError
from syncd.mail.listing import Wanted
from syncd.pop3.grammar import is_scan_listing, is_unique_id
from syncd.pop3.quirks import Quirks
from syncd.pop3.session import Session
from syncd.pop3.values import LIST_ONE, STAT, UIDL_ONE, Check, Status, Verb

VERBS = {Check.LIST: LIST_ONE, Check.UIDL: UIDL_ONE, Check.STAT: STAT}
_FITS: dict[Check, Callable[[Status, Wanted], bool]] = {
    Check.LIST: lambda status, one: is_scan_listing(status, one.number),
    Check.UIDL: lambda status, one: is_unique_id(status, one.number, one.uid),
    Check.STAT: lambda status, one: True,  # noqa: ARG005  nothing but its place is known of this answer
}


def fits(check: Check, status: Status, one: Wanted) -> bool:
    """Returns whether `status` is the answer to the check behind message `one`."""
    return _FITS[check](status, one)


def find_check(session: Session, quirks: Quirks, one: Wanted) -> Check:
    """Returns the strongest check that the server answers well; tries them on message `one`. Nothing may be in flight.

    Raises LostStep when the session breaks off at a trial: a new session does with STAT.
    """
    if quirks.check is None:
        try:
            found = next((check for check in (Check.LIST, Check.UIDL) if _serves(session, check, one)), Check.STAT)
        except (TransportError, RemoteProtocolError) as error:
            quirks.note_check(Check.STAT, session.address)
            raise LostStep(f"{error}; the server was asked for one line of its listing") from error
        quirks.note_check(found, session.address)
    assert quirks.check is not None
    return quirks.check


def _serves(session: Session, check: Check, one: Wanted) -> bool:
    verb: Verb = VERBS[check]
    session.ask(verb, str(one.number))
    session.ask(STAT)
    answer = session.status()
    _, more = session.status_behind()
    return not more and fits(check, answer, one)
