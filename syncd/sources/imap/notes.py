"""Notes for the owner of an IMAP account about its server; `syncd check` shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from syncd.imap.client import Client
from syncd.sources.imap.mailboxes import GMAIL


def notes(client: Client, identity: Mapping[str, str]) -> Iterator[str]:
    """Yields a line for each note. `identity` is what the server says of itself (RFC 2971)."""
    capabilities = client.capabilities
    if not capabilities.known:
        return
    name = identity.get("name", "").lower()
    if GMAIL in capabilities:
        yield (
            "Gmail: All Mail is read once, with the labels of each message; Spam and Trash only if the job names them. "
            "About 2,500 MB a day can be fetched; docs/imap-backup.md says more"
        )
    if "exchange" in name or "office365" in client.address or "outlook" in client.address:
        yield "Exchange does not list mailboxes with / in their names, nor what is in them: rename them before (I127)"
    if "yahoo" in client.address:
        yield "Yahoo shows the newest 10,000 messages of a mailbox; docs/imap-backup.md says how to get the others"
    if not capabilities.has_list_status:
        yield "the server has no LIST-STATUS: a run asks for each mailbox by itself, which takes longer"
    if "CONDSTORE" not in capabilities and "OBJECTID" not in capabilities:
        yield "the server counts no changes (CONDSTORE): each mailbox is listed in full once a day"
