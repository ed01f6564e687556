"""Checks of schedules, sites and notifications: settings that have no meaning together, or are hardly meant."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from syncd.settings.account import Protocol
from syncd.settings.mistakes import KeyPath, Mistake
from syncd.settings.schedules import SHORTEST_FOR_SERVERS
from syncd.settings.schema import Job, ServiceSettings, Settings

_SENDS = frozenset({Protocol.SMTP, Protocol.LMTP})


def whole(settings: Settings) -> Iterator[Mistake]:
    """Yields the mistakes of broker, sites and notifications."""
    if (mistake := broker_without_database(settings)) is not None:
        yield mistake
    if settings.is_cluster:
        for name, archive in settings.archives.items():
            if archive.site is None:
                text = "is missing: with a broker, each archive names the machine that has its folder"
                yield Mistake(("archives", name, "site"), f'{text}; for example "host-a"')
    if (email := settings.notify.email) is not None:
        account = settings.accounts.get(email.through)
        if account is None or account.protocol not in _SENDS:
            text = f'"{email.through}" is not the name of an account that sends mail; accepted: an smtp or lmtp account'
            yield Mistake(("notify", "email", "through"), text)


def odd(settings: Settings) -> Iterator[Mistake]:
    """Yields warnings: limits of hosts that no account has, and notifications that go over the network in clear."""
    hosts = {account.host.lower().rstrip(".") for account in settings.accounts.values()}
    for host in settings.limits.hosts:
        if host.lower().rstrip(".") not in hosts:
            yield Mistake(("limits", "hosts", host), "limits no account: none has this host")
    for key in ("webhook", "ping_url"):
        url = getattr(settings.notify, key)
        if url is not None and url.scheme == "http" and not is_here(url.host):
            text = "is called without TLS, so others on the way can read it; accepted: https://…"
            yield Mistake(("notify", key), text)


def broker_without_database(settings: ServiceSettings) -> Mistake | None:
    """Returns the mistake of a broker beside SQLite, which other machines cannot use."""
    if not settings.is_cluster or not settings.database_url.startswith("sqlite:"):
        return None
    text = "needs a database that other machines can use, too; accepted: with"
    return Mistake(("broker_url",), f'{text} database_url = "postgresql://…", or "memory://"')


def contradictions(at: KeyPath, job: Job, settings: Settings) -> Iterator[Mistake]:
    """Yields the mistakes of a job's schedule and sites; the job is at the key path `at`."""
    if job.schedule is None:
        for key in ("jitter", "quiet_hours"):
            if getattr(job, key) is not None:
                yield Mistake((*at, key), "has no meaning without a schedule; leave it out")
    elif job.schedule.every is not None and job.schedule.every < SHORTEST_FOR_SERVERS:
        names = (job.source, *(destination.to for destination in job.destinations))
        hosts = (settings.accounts[name].host for name in names if name in settings.accounts)
        if (far := next((host for host in hosts if not is_here(host)), None)) is not None:
            text = (
                f'"{job.schedule}" is more frequent than every minute, which is only for servers on this machine, '
                f'not for "{far}"; accepted: "every minute", or a longer time'
            )
            yield Mistake((*at, "schedule"), text)
    if settings.is_cluster:
        yield from _sites(at, job, settings)


def _sites(at: KeyPath, job: Job, settings: Settings) -> Iterator[Mistake]:
    """Yields a mistake for each archive that is not on the machine of the job's first archive."""
    paths: list[tuple[KeyPath, str]] = [((*at, "source"), job.source)]
    paths += [((*at, "destinations", index), to.to) for index, to in enumerate(job.destinations)]
    first = ""
    for path, name in paths:
        site = settings.archives[name].site if name in settings.archives else None
        if site is not None and first and site != settings.archives[first].site:
            text = (
                f'"{name}" is at the site "{site}" and "{first}" at "{settings.archives[first].site}"; '
                "accepted: archives of one site in a job"
            )
            yield Mistake(path, text)
        first = first or (name if site is not None else "")


def is_here(host: str) -> bool:
    """Returns whether a host is this machine by its loopback name or address."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
