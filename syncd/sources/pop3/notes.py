"""Notes for the owner of a POP3 account about its server; `syncd check` shows them."""

from __future__ import annotations

from collections.abc import Iterator

from syncd.errors import printable
from syncd.pop3.client import Client
from syncd.pop3.quirks import Quirks, shows_pages


def pause_s(client: Client) -> float:
    """Seconds from one sign-in to the next (RFC 2449 §6.5); 0 where the server announces none, or no number."""
    delay = client.capabilities.arguments("LOGIN-DELAY")
    return float(delay[0]) if delay and delay[0].isdecimal() else 0.0


def notes(client: Client, quirks: Quirks) -> Iterator[str]:
    """One line each (RFC 2449 §6.5, §6.7; P12, P27, P31, P45)."""
    capabilities = client.capabilities
    expire, delay = capabilities.arguments("EXPIRE"), capabilities.arguments("LOGIN-DELAY")
    if expire and expire[0] == "0":
        yield "the server may remove messages as soon as they were retrieved (EXPIRE 0)"
    elif expire and expire[0] != "NEVER":
        yield f"the server removes messages after {printable(expire[0])} days (EXPIRE)"
    if delay and delay[0] != "0":
        yield f"the server wants {printable(delay[0])} s between sign-ins (LOGIN-DELAY)"
    if shows_pages(client.greeting.text, capabilities):
        yield (
            "Gmail shows a few hundred messages in a session and hides from the next what was fetched: a run signs in "
            "until nothing new appears; docs/road-mail.md says what to set there, and about the user name recent:…"
        )
    if "PIPELINING" not in capabilities:
        return
    if quirks.breaks_pipelining:
        yield "the server announces PIPELINING and does not bear it: set pipelining = false for this account"
    elif not client.may_pipeline:
        yield "the server announces PIPELINING, which is not used: pipelining = false"
