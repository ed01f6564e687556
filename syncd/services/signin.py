"""Signing in once to see that it works: nothing is fetched or removed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from syncd.errors import SyncdError
from syncd.mail.listing import Totals
from syncd.sources.base import QuotaUse, Source, SourceInfo, TellsQuotas

if TYPE_CHECKING:
    from syncd.destinations.smtp.relay import RelayOptions
    from syncd.mail.mailbox import Mailbox
    from syncd.net.transport import Transport
    from syncd.sources.base import SourceSession


class TriedOut(NamedTuple):
    """Facts that a source showed. `totals` is None where counting would take a command for each mailbox."""

    info: SourceInfo
    mailboxes: tuple[Mailbox, ...]
    totals: Totals | None
    quotas: tuple[QuotaUse, ...] = ()


def try_out(source: Source) -> TriedOut:
    """Sign in, list the mailboxes, count messages, ask for quotas, end the session. `source.cancel` ends it.

    Raises what `Source.connect`, `SourceSession.mailboxes` and `SourceSession.open` raise.
    """
    session = source.connect()
    try:
        mailboxes = [mailbox for chunk in session.mailboxes() for mailbox in chunk]
        quotas = tuple(session.quotas()) if isinstance(session, TellsQuotas) else ()
        totals = _totals(session, mailboxes)
        session.finish()
    finally:
        session.close()
    return TriedOut(session.info, tuple(mailboxes), totals, quotas)


def _totals(session: SourceSession, mailboxes: list[Mailbox]) -> Totals | None:
    """Counts a POP3 maildrop, and all mailboxes of an archive, where nobody signs in and counting is quick.

    Of other sources it adds up what the list of mailboxes told, if that has all numbers.
    """
    if all(it.messages is not None and it.octets is not None for it in mailboxes):
        return Totals(sum(it.messages or 0 for it in mailboxes), sum(it.octets or 0 for it in mailboxes))
    if session.info.mechanism and len(mailboxes) != 1:
        return None
    found = [session.open(mailbox).totals() for mailbox in mailboxes]
    return Totals(sum(each.messages for each in found), sum(each.octets for each in found))


def try_out_relay(options: RelayOptions, adopt: Callable[[Transport], None]) -> SourceInfo:
    """Sign in to a mail server and end the session. `adopt` gets the transport, whose `cancel` ends it.

    Raises what `Relay.take` raises.
    """
    from syncd.destinations.smtp.relay import connect
    from syncd.smtp.quirks import Quirks

    connection = connect(options, adopt, Quirks())
    client = connection.client
    with contextlib.suppress(SyncdError):  # an error of QUIT changes nothing about the sign-in
        client.quit()
    client.close()
    transport = client.transport
    return SourceInfo(transport.address, transport.tls, connection.mechanism, client.capabilities.lines)
