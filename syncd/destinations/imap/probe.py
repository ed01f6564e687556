"""Looks for mail that was sent by SMTP or LMTP in the IMAP account of its recipient (`uncertain = "probe"`).

A message is known by its X-Syncd-Id, which stands for its place at the source, its octets and its recipient. Every
mailbox is searched, as a filter may have filed the message anywhere: messages that came since the day before the
delivery began (servers have zones and clocks of their own), and are not much larger than what was sent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from syncd.destinations.imap.account import ImapAccount
from syncd.destinations.imap.ask import hint_of
from syncd.destinations.smtp.trace import route_tag, trace_id
from syncd.errors import MailboxRefused, SyncdError
from syncd.imap.client import Client
from syncd.imap.sets import UidSet
from syncd.imap.stream import Answered
from syncd.imap.values import FetchItems
from syncd.mail.body import BodyWriter
from syncd.mail.mailbox import INBOX
from syncd.mail.message import Key
from syncd.mail.outcome import Sought

SLACK: Final = timedelta(days=2)
MORE_OCTETS: Final = 256 << 10  # that servers on the way put before a message
_ID: Final = re.compile(rb"^X-Syncd-Id:[ \t]*([!-~]+)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class ImapProbe:
    """The account of one recipient (`destinations.base.Probe`). Signs in for each search, and only for that."""

    def __init__(self, account: ImapAccount, recipient: str) -> None:
        self._account = account
        self._recipient = recipient
        self._failed: SyncdError | None = None

    def find(self, sought: Sequence[Sought]) -> dict[Key, str]:
        """See `destinations.base.Probe`. An account that could not be searched is not asked again in this run."""
        if self._failed is not None:
            raise self._failed
        try:
            return self._find(sought)
        except SyncdError as error:
            self._failed = error
            raise
        finally:
            self._account.close()

    def stop(self) -> None:
        """See `destinations.base.Probe`."""
        self._account.cancel()

    # --- inside --------------------------------------------------------------------------------------

    def _find(self, sought: Sequence[Sought]) -> dict[Key, str]:
        wanted: dict[bytes, Key] = {}
        for one in sought:
            tag = route_tag(one.ref.origin.account, self._recipient)
            wanted[trace_id(one.ref, one.sha256, tag).encode()] = one.key
        found: dict[Key, str] = {}
        client = self._account.client()
        since = min(one.since for one in sought) - SLACK
        most = max(one.octets for one in sought) + MORE_OCTETS
        for name in sorted(self._account.names, key=lambda name: (name != INBOX, name)):
            try:
                validity = client.examine(name).wait().uid_validity or 0
            except MailboxRefused as error:
                if error.code != "NOPERM":
                    raise
                continue  # a folder of others: nothing that its owner may not read was delivered to him
            for uid, value in _ids(client, since, most):
                key = wanted.pop(value, None)
                if key is not None:
                    found[key] = hint_of(name, validity, uid)
            if not wanted:
                break
        return found


def _ids(client: Client, since: datetime, most: int) -> list[tuple[int, bytes]]:
    """Returns UID and X-Syncd-Id of the messages in the open mailbox that came since then. Raises Refused."""
    came = client.uid_search(f"SINCE {since.day}-{_MONTHS[since.month - 1]}-{since.year}".encode()).wait()
    if not came.ranges:
        return []
    uids = [row.uid for rows in client.rows(came, FetchItems(size=True)) for row in rows if (row.size or 0) <= most]
    found: list[tuple[int, bytes]] = []
    stream = client.bodies(FetchItems(header=True), _no_body)
    try:
        if uids:
            stream.ask(UidSet.of(uids))
        while stream.in_flight:
            event = stream.next()
            if isinstance(event, Answered):
                if event.refused is not None:
                    raise event.refused
            elif event.row.header:
                found += [(event.row.uid, value) for value in _ID.findall(event.row.header)]
    finally:
        stream.close()
    return found


def _no_body(uid: int, octets: int) -> BodyWriter:
    raise AssertionError(f"no body was asked for, and UID {uid} has one of {octets} octets")
