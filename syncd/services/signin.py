"""Signing in once to see that it works: nothing is listed, fetched or removed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from syncd.errors import SyncdError
from syncd.sources.base import Source, SourceInfo, Totals

if TYPE_CHECKING:
    from syncd.destinations.smtp.relay import RelayOptions
    from syncd.net.transport import Transport


def try_out(source: Source) -> tuple[SourceInfo, Totals]:
    """Sign in, ask how much there is, say goodbye. Raises what `source.connect` raises; `source.cancel` ends it."""
    session = source.connect()
    try:
        totals = session.totals()
        session.finish()
    finally:
        session.close()
    return session.info, totals


def try_out_relay(options: RelayOptions, adopt: Callable[[Transport], None]) -> SourceInfo:
    """Sign in to a mail server, say goodbye. `adopt` gets the transport, whose `cancel` ends it.

    Raises what `Relay.take` raises.
    """
    from syncd.destinations.smtp.relay import connect
    from syncd.smtp.quirks import Quirks

    connection = connect(options, adopt, Quirks())
    client = connection.client
    with contextlib.suppress(SyncdError):  # a farewell changes nothing of what was seen
        client.quit()
    client.close()
    transport = client.transport
    return SourceInfo(transport.address, transport.tls, connection.mechanism, client.capabilities.lines)
