"""Destinations that are mail servers: required settings, contradictions, and the choice of the envelope sender."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from syncd.db.fingerprints import fingerprint
from syncd.mail.addresses import is_address
from syncd.settings.alike import identity
from syncd.settings.delivery import JobDestination, Uncertain
from syncd.settings.mistakes import KeyPath, Mistake
from syncd.settings.scheduled import is_here
from syncd.settings.schema import Account, Job, Protocol, Settings

_SERVICE = re.compile(
    r"(?:pop3?|imap|smtp|mail|mx)s?\d*\."
)  # as in pop.example.net, whose SMTP server is smtp.example.net


def sender_choice(destination: JobDestination, account: Account) -> str:
    """Returns the `sender` in force: as written, else "account" if the username is an address, else "empty"."""
    if destination.sender is not None:
        return destination.sender
    return "account" if is_address(account.username or "") else "empty"


def contradictions(at: KeyPath, job: Job, destination: JobDestination, settings: Settings) -> Iterator[Mistake]:
    """Yields the mistakes of a destination (at the key path `at`) that is an SMTP or LMTP account."""
    name, account = destination.to, settings.accounts[destination.to]
    if destination.mapping:
        text = f'has no meaning for "{name}", which has no mailboxes; leave it out'
        yield from (Mistake((*at, key), text) for key in destination.mapping)
    if destination.recipient is None:
        yield Mistake((*at, "recipient"), 'is missing; for example "me@example.org"')
    yield from _probe(at, destination, settings)
    for source, address in come_back(job, destination, settings):
        if _same_server(settings.accounts[source], account):
            text = (
                f'"{address}" seems to be the mailbox that "{source}" reads, on the same server: every message would '
                "come back; accepted: another address"
            )
            yield Mistake((*at, "recipient"), text)
    if destination.sender == "account" and not is_address(account.username or ""):
        text = f'"account" needs an address as the username of "{name}"; accepted: "empty", "original", or an address'
        yield Mistake((*at, "sender"), text)


def _probe(at: KeyPath, destination: JobDestination, settings: Settings) -> Iterator[Mistake]:
    probes, name = destination.uncertain is Uncertain.PROBE, destination.probe
    if not probes and name is None:
        return
    known = sorted(key for key, account in settings.accounts.items() if account.protocol is Protocol.IMAP)
    if not probes:
        yield Mistake((*at, "probe"), 'is for uncertain = "probe" alone; set that too, or leave probe out')
    elif name is None:
        yield Mistake((*at, "probe"), 'is missing; accepted: the imap account of the recipient, such as "mailbox"')
    elif name not in known:
        text = (
            f'"{name}" is not an imap account; accepted: {", ".join(known) or "none, as there is no imap account yet"}'
        )
        yield Mistake((*at, "probe"), text)
    if probes and destination.trace is False:
        yield Mistake((*at, "trace"), 'false leaves out X-Syncd-Id, by which uncertain = "probe" knows a message')
    if probes and len(destination.recipient or ()) > 1:
        text = (
            'has several addresses, and uncertain = "probe" looks into the account of one; name each in its own entry'
        )
        yield Mistake((*at, "recipient"), text)


def twice(at: KeyPath, job: Job, accounts: Mapping[str, Account]) -> Iterator[Mistake]:
    """Yields a mistake for each recipient that a job names in several destinations of the same account.

    Accounts of the same identity are the same, whatever their names are.
    """
    seen: set[tuple[str, str]] = set()
    for index, destination in enumerate(job.destinations):
        if destination.to not in accounts:
            continue
        mark = fingerprint(*identity(accounts[destination.to]))
        mine = {(mark, address.lower()) for address in destination.recipient or ()}
        for _, address in sorted(mine & seen):
            text = f'"{address}" is a recipient of another destination of this job already; remove one of them'
            yield Mistake((*at, index, "recipient"), text)
        seen |= mine


def come_back(job: Job, destination: JobDestination, settings: Settings) -> Iterator[tuple[str, str]]:
    """Yields source and recipient if both name the same mailbox: either the mailbox moves, or there is a loop."""
    for source, account in _read(job, settings):
        for address in destination.recipient or ():
            if _names(account, address):
                yield source, address


def _names(account: Account, address: str) -> bool:
    """Returns whether `address` is the mailbox that an account signs in to."""
    username, host = (account.username or "").lower(), account.host.lower()
    local, _, domain = address.lower().rpartition("@")
    return address.lower() == username or (local == username and f".{host}".endswith(f".{domain}"))


def _same_server(source: Account, account: Account) -> bool:
    """Returns whether `account` delivers to the server that `source` reads from.

    False for this machine, where a tunnel may listen. LMTP goes to exactly the server that is named; a provider's SMTP
    server mostly has another name than the server of the mailboxes.
    """
    one, other = (it.host.lower().rstrip(".") for it in (source, account))
    if account.protocol is Protocol.SMTP:
        one, other = (_SERVICE.sub("", host, count=1) if _SERVICE.match(host) else host for host in (one, other))
    return one == other and not is_here(one)


def _read(job: Job, settings: Settings) -> Iterator[tuple[str, Account]]:
    """Yields the accounts whose mail a job delivers: its source, or the sources of the archive that it reads."""
    sources, seen = [job.source], {job.source}
    while sources:
        source = sources.pop()
        if source in settings.accounts:
            yield source, settings.accounts[source]
        fillers = set(settings.filled_from.get(source, ())) - seen
        sources += fillers
        seen |= fillers
