"""Destinations that are mail servers: what they need, what must not be, and who the envelope's sender is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address

from syncd.mail.addresses import is_address
from syncd.settings.delivery import JobDestination
from syncd.settings.mistakes import KeyPath, Mistake
from syncd.settings.schema import Account, Job, Mechanism, Protocol, Settings

POP3_ONLY = frozenset({Mechanism.USER, Mechanism.APOP})
_SERVICE = re.compile(r"(?:pop3?|imap|smtp|mail|mx)s?\d*\.")  # as in pop.example.net, which sends by smtp.example.net


def sender_choice(destination: JobDestination, account: Account) -> str:
    """The `sender` in force: as written, else "account" where the username is an address, else "empty"."""
    if destination.sender is not None:
        return destination.sender
    return "account" if is_address(account.username or "") else "empty"


def contradictions(at: KeyPath, job: Job, destination: JobDestination, settings: Settings) -> Iterator[Mistake]:
    """What is wrong with a destination (at the key path `at`) that is an SMTP or LMTP account."""
    name, account = destination.to, settings.accounts[destination.to]
    if destination.recipient is None:
        yield Mistake((*at, "recipient"), 'is missing; for example "me@example.org"')
    for source, address in come_back(job, destination, settings):
        if _same_server(settings.accounts[source], account):
            text = (
                f'"{address}" is the mailbox that "{source}" reads, on the same server as far as can be told: all that '
                "is delivered there would come back; accepted: another address"
            )
            yield Mistake((*at, "recipient"), text)
    if destination.sender == "account" and not is_address(account.username or ""):
        text = f'"account" needs an address as the username of "{name}"; accepted: "empty", "original", or an address'
        yield Mistake((*at, "sender"), text)
    if account.auth in POP3_ONLY:
        text = f'"{account.auth}" is for pop3; accepted: "auto", "plain", "login", "scram-sha-256" and others'
        yield Mistake(("accounts", name, "auth"), text)


def twice(at: KeyPath, job: Job, accounts: Mapping[str, Account]) -> Iterator[Mistake]:
    """Recipients that a job names in more than one destination of the same account."""
    seen: set[tuple[str, str]] = set()
    for index, destination in enumerate(job.destinations):
        if destination.to not in accounts:
            continue
        mine = {(destination.to, address.lower()) for address in destination.recipient or ()}
        for _, address in sorted(mine & seen):
            text = f'"{address}" gets it from another destination of this job already; leave one out'
            yield Mistake((*at, index, "recipient"), text)
        seen |= mine


def come_back(job: Job, destination: JobDestination, settings: Settings) -> Iterator[tuple[str, str]]:
    """The source and the recipient, where both are called the same: either a mailbox that moves, or a loop."""
    for source, account in _read(job, settings):
        for address in destination.recipient or ():
            if _names(account, address):
                yield source, address


def _names(account: Account, address: str) -> bool:
    """Whether it is the address of the mailbox that an account signs in to."""
    username, host = (account.username or "").lower(), account.host.lower()
    local, _, domain = address.lower().rpartition("@")
    return address.lower() == username or (local == username and f".{host}".endswith(f".{domain}"))


def _same_server(source: Account, account: Account) -> bool:
    """Whether mail for a mailbox of `source` that goes to `account` ends in that same mailbox.

    Of this machine it cannot be told: what listens there may be a tunnel. LMTP goes to the very server that is named;
    a provider's SMTP server mostly has a name of its own beside that of the mailboxes.
    """
    one, other = (it.host.lower().rstrip(".") for it in (source, account))
    if account.protocol is Protocol.SMTP:
        one, other = (_SERVICE.sub("", host, count=1) if _SERVICE.match(host) else host for host in (one, other))
    return one == other and not _is_here(one)


def _is_here(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _read(job: Job, settings: Settings) -> Iterator[tuple[str, Account]]:
    """The accounts whose mail a job delivers: its source, or those whose mail comes into the archive that it reads."""
    sources, seen = [job.source], {job.source}
    while sources:
        source = sources.pop()
        if source in settings.accounts:
            yield source, settings.accounts[source]
        fillers = {other.source for other in settings.jobs.values() for to in other.destinations if to.to == source}
        sources += fillers - seen
        seen |= fillers
