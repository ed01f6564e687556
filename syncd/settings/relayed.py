"""Destinations that are mail servers: what they need, what must not be, and who the envelope's sender is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from syncd.mail.addresses import is_address
from syncd.settings.delivery import JobDestination
from syncd.settings.mistakes import KeyPath, Mistake
from syncd.settings.schema import Account, Job, Mechanism, Settings

POP3_ONLY = frozenset({Mechanism.USER, Mechanism.APOP})


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
    read = {account.username.lower(): source for source, account in _read(job, settings) if account.username}
    for address in destination.recipient or ():
        if address.lower() in read:
            text = (
                f'"{address}" is the mailbox that "{read[address.lower()]}" reads: all that is delivered there would '
                "come back; accepted: another address"
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
