"""Checks that need several settings: names, contradictions, values that this version cannot use yet."""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Final

from syncd.settings import alike, filed, relayed, scheduled, staged
from syncd.settings.delivery import MAPPING, JobDestination
from syncd.settings.mistakes import KeyPath, Mistake
from syncd.settings.schema import (
    Account,
    Archive,
    ArchiveFormat,
    DeletedRule,
    Duplicates,
    FlagsRule,
    Job,
    LabelsRule,
    Layout,
    LineEnds,
    Mechanism,
    Mode,
    Protocol,
    Security,
    Settings,
    available,
)

DESTINATIONS: Final = frozenset({Protocol.SMTP, Protocol.LMTP})  # that mail is sent to
FILED: Final = frozenset({ArchiveFormat.MAILDIR, ArchiveFormat.MBOX})  # a mailbox has a place of its own
ACTS_FOR: Final = frozenset({Mechanism.AUTO, Mechanism.PLAIN, Mechanism.OAUTHBEARER, Mechanism.EXTERNAL})
POP3_ONLY: Final = frozenset({Mechanism.USER, Mechanism.APOP})
MAX_DESTINATIONS: Final = 31  # of a job in its life, each recipient counted: `db.models` has a bit for each
MAX_COMPARED: Final = 20  # wrong names; each takes some 0.3 s where 20,000 are right
MAX_NAMED: Final = 20  # accepted names in a line
NOT_YET: Final = "is not available in this version"


class Names:
    """Every name in the configuration, also the names of entries that are wrong themselves."""

    def __init__(self, accounts: Iterable[str], archives: Iterable[str]) -> None:
        self.accounts = frozenset(accounts)
        self.archives = frozenset(archives)
        self.known = self.accounts | self.archives
        self._near: dict[str, str | None] = {}

    def quoted(self, without: str | None = None) -> str:
        """Returns the names but for one as a list for people, cut where there are many."""
        return _listed([name for name in self._first if name != without], len(self.known) - (without in self.known))

    @cached_property
    def _first(self) -> list[str]:
        return heapq.nsmallest(MAX_NAMED + 1, self.known)

    def near(self, name: str) -> str | None:
        """Returns the name that is most like a wrong one; None for further ones, as each is compared with all."""
        if name not in self._near and len(self._near) < MAX_COMPARED:
            self._near[name] = next(iter(difflib.get_close_matches(name, sorted(self.known), 1)), None)
        return self._near.get(name)


def contradictions(settings: Settings, names: Names) -> Iterator[Mistake]:
    """Yields every mistake that single values do not show."""
    for name in sorted(names.accounts & names.archives):
        yield Mistake(("archives", name), "is also the name of an account; an archive needs a name of its own")
    for name, account in settings.accounts.items():
        yield from _account(("accounts", name), account)
    yield from alike.folders(settings)
    yield from _archives(settings)
    yield from scheduled.whole(settings)
    circles = staged.in_circles(settings)
    for name, job in settings.jobs.items():
        yield from _job(("jobs", name), job)
        yield from scheduled.contradictions(("jobs", name), job, settings)
        yield from _source(("jobs", name, "source"), job, settings, names)
        if job.source in names.archives and job.source not in settings.accounts:
            yield from staged.contradictions(("jobs", name), job, settings, circles)
        yield from _destinations(("jobs", name, "destinations"), job, settings, names)


def _account(at: KeyPath, account: Account) -> Iterator[Mistake]:
    if account.security is Security.NONE and not account.allow_insecure:
        text = (
            '"none" sends password and mail in clear; accepted: "tls", "starttls", or "none" with allow_insecure = true'
        )
        yield Mistake((*at, "security"), text)
    if account.pipeline_messages is not None and account.protocol not in DESTINATIONS:
        text = f'has no meaning for protocol = "{account.protocol}"; leave it out'
        yield Mistake((*at, "pipeline_messages"), text)
    mailbox = account.protocol in {Protocol.POP3, Protocol.IMAP}
    if not account.pipelining and not mailbox:
        yield Mistake((*at, "pipelining"), f'has no meaning for protocol = "{account.protocol}"; leave it out')
    for key in account.octets_per_day.model_fields_set:
        if account.protocol in DESTINATIONS or (key == "up" and account.protocol is Protocol.POP3):
            text = f'has no meaning for protocol = "{account.protocol}"; leave it out'
            yield Mistake((*at, "octets_per_day", key), text)
    if account.protocol is Protocol.POP3 and account.connections > 1:
        yield Mistake((*at, "connections"), "a POP3 server allows one session for a mailbox; accepted: 1")
    if account.share_mailboxes and account.protocol is not Protocol.IMAP:
        text = f'has no meaning for protocol = "{account.protocol}"; leave it out'
        yield Mistake((*at, "share_mailboxes"), text)
    elif account.share_mailboxes and account.connections == 1:
        yield Mistake((*at, "share_mailboxes"), "needs several connections; set connections = 4, or leave it out")
    if account.expunge_without_uidplus and account.protocol is not Protocol.IMAP:
        text = f'has no meaning for protocol = "{account.protocol}"; leave it out'
        yield Mistake((*at, "expunge_without_uidplus"), text)
    if account.username is None and (mailbox or account.password is not None):
        yield Mistake((*at, "username"), 'is missing; for example "me@example.net"')
    if account.auth not in (able := available(Mechanism)):
        yield Mistake((*at, "auth"), f'"{account.auth}" {NOT_YET}; accepted: {_quoted(able)}')
    external = account.auth is Mechanism.EXTERNAL
    if account.password is None and not external and (mailbox or account.username is not None):
        yield Mistake((*at, "password"), 'is missing; for example "env:PASSWORD" or "file:/run/secrets/mail"')
    if external and (account.certificate is None or account.security is Security.NONE):
        yield Mistake(
            (*at, "auth"),
            '"external" signs in by a certificate in TLS; set certificate = "FILE.pem", and security = "tls"',
        )
    if account.key is not None and account.certificate is None:
        yield Mistake((*at, "key"), "belongs to a certificate; set certificate too, or leave key out")
    if account.auth in POP3_ONLY and account.protocol is not Protocol.POP3:
        text = f'"{account.auth}" is only for pop3; accepted: "auto", "plain", "login", "scram-sha-256" and others'
        yield Mistake((*at, "auth"), text)
    yield from _authzid(at, account)
    if account.tls_name is not None and account.security is Security.NONE:
        yield Mistake((*at, "tls_name"), 'has no meaning for security = "none", which has no certificate; leave it out')
    if account.ehlo_name is not None and account.protocol not in DESTINATIONS:
        yield Mistake((*at, "ehlo_name"), f'has no meaning for protocol = "{account.protocol}"; leave it out')


def _authzid(at: KeyPath, account: Account) -> Iterator[Mistake]:
    if account.authzid is None:
        return
    if account.protocol is not Protocol.IMAP:
        yield Mistake((*at, "authzid"), f'has no meaning for protocol = "{account.protocol}"; leave it out')
    elif account.auth not in ACTS_FOR:
        text = f'"{account.auth}" cannot sign in for another user, as authzid wants; accepted: {_quoted(ACTS_FOR)}'
        yield Mistake((*at, "auth"), text)


def _archives(settings: Settings) -> Iterator[Mistake]:
    for name, archive in settings.archives.items():
        if archive.format is ArchiveFormat.MAILDIR:
            continue
        for key, is_set in (
            ("line_ends", archive.line_ends is not LineEnds.LF),
            ("layout", archive.layout is not Layout.PLUS_PLUS),
        ):
            if is_set:
                text = f'has no meaning for format = "{archive.format}", it is for "maildir"; leave it out'
                yield Mistake(("archives", name, key), text)


def _job(at: KeyPath, job: Job) -> Iterator[Mistake]:
    if job.mode not in (modes := available(Mode)):
        yield Mistake((*at, "mode"), f'"{job.mode}" {NOT_YET}; accepted: {_quoted(modes)}')
    elif (job.mode is Mode.COPY) != (job.leave_on_server is True):
        does, leaves = ("keeps", "removes") if job.mode is Mode.COPY else ("removes", "keeps")
        text = f'"{job.mode}" {does} mail at the source and leave_on_server {leaves} it; leave one of the two out'
        yield Mistake((*at, "mode"), text)
    if job.flags not in (flags := available(FlagsRule)):
        yield Mistake((*at, "flags"), f'"{job.flags}" {NOT_YET}; accepted: {_quoted(flags)}')
    if job.labels is LabelsRule.EACH and job.removes:
        text = '"each" reads a message in several mailboxes, and Gmail would remove it from all of them at once'
        yield Mistake((*at, "labels"), f'{text}; accepted: "first", or mode = "copy"')
    if job.duplicates not in (rules := available(Duplicates)):
        text = f'"{job.duplicates}" {NOT_YET}; accepted: {_quoted(rules)} (packs store equal messages once anyway)'
        yield Mistake((*at, "duplicates"), text)


def _source(at: KeyPath, job: Job, settings: Settings, names: Names) -> Iterator[Mistake]:
    account = settings.accounts.get(job.source)
    if account is None:
        if job.source not in names.known:
            yield Mistake(at, _unknown(job.source, names, "account", "archive"))
    elif account.protocol in {Protocol.SMTP, Protocol.LMTP}:
        text = f'"{job.source}" only takes mail, so it cannot be a source'
        yield Mistake(at, f"{text}; accepted: a pop3 or imap account, or an archive")
    if account is None or account.protocol is not Protocol.IMAP:
        kind = "an archive" if account is None else f"a {account.protocol} account"
        if job.labels is not LabelsRule.FIRST:
            yield Mistake((*at[:-1], "labels"), f'has no meaning for "{job.source}", {kind}; leave it out')
        if job.deleted is DeletedRule.SKIP:
            yield Mistake((*at[:-1], "deleted"), f'"skip" has no meaning for "{job.source}", {kind}; leave it out')
    if account is not None and account.protocol is Protocol.POP3 and job.mailboxes is not None:
        text = f'has no meaning for "{job.source}", a pop3 account, which has one mailbox; leave it out'
        yield Mistake((*at[:-1], "mailboxes"), text)


def _destinations(at: KeyPath, job: Job, settings: Settings, names: Names) -> Iterator[Mistake]:
    count = sum(len(destination.recipient or ("",)) for destination in job.destinations)
    if count > MAX_DESTINATIONS:
        text = (
            f"has {count} archives and recipients; accepted: at most {MAX_DESTINATIONS} in a job's life, "
            "so divide them among several jobs"
        )
        yield Mistake(at, text)
    seen: set[JobDestination] = set()
    for index, destination in enumerate(job.destinations):
        if destination in seen:
            yield Mistake((*at, index), f'"{destination.to}" is named twice; remove one of them')
        else:
            yield from _destination((*at, index), job, destination, settings, names)
        seen.add(destination)
    if len(seen) == len(job.destinations):
        yield from relayed.twice(at, job, settings.accounts)


def _destination(
    at: KeyPath, job: Job, destination: JobDestination, settings: Settings, names: Names
) -> Iterator[Mistake]:
    name = destination.to
    account = settings.accounts.get(name)
    if account is not None and account.protocol is Protocol.POP3:
        text = f'"{name}" is a pop3 account, which takes no mail; accepted: an archive, an imap, smtp or lmtp account'
        yield Mistake(at, text)
    elif account is not None and account.protocol is Protocol.IMAP:
        yield from filed.contradictions(at, job, destination, settings)
    elif account is not None:
        yield from relayed.contradictions(at, job, destination, settings)
    elif name in names.archives:
        yield from _archive_options(at, destination, settings.archives.get(name))
    elif name not in names.known:
        yield Mistake(at, _unknown(name, names, "archive", "account", without=job.source))


def _archive_options(at: KeyPath, destination: JobDestination, archive: Archive | None) -> Iterator[Mistake]:
    """`archive` is None where its own entry is wrong."""
    if archive is not None and archive.format is ArchiveFormat.EML:
        text = f'"{destination.to}" is a folder of eml files, which is only read; accepted: packs, maildir or mbox'
        yield Mistake(at, text)
        return
    has_mailboxes = archive is None or archive.format in FILED
    wrong = [key for key in destination.options if key not in MAPPING or not has_mailboxes]
    if wrong:
        takes = f"{' and '.join(sorted(MAPPING))}" if has_mailboxes else f'"{destination.to}" alone'
        kind = "an archive with mailboxes" if has_mailboxes else "an archive"
        yield Mistake(at, f'"{destination.to}" is {kind} and takes no {", ".join(wrong)}; accepted: {takes}')


def _unknown(name: str, names: Names, kind: str, other: str, *, without: str | None = None) -> str:
    """Returns a line about a name of neither kind. `without` is not accepted: the source, where mail is delivered."""
    text = f'"{name}" is not the name of an {kind} or {other}'
    near = names.near(name)
    if near and near != without:
        return f'{text}; did you mean "{near}"?'
    more = "other " if without in names.known else ""
    none = f"none, as there is no {more}[{kind}s.NAME] or [{other}s.NAME] yet"
    return f"{text}; accepted: {names.quoted(without) or none}"


def _quoted(names: Collection[str]) -> str:
    return _listed(heapq.nsmallest(MAX_NAMED, names), len(names))


def _listed(first: Sequence[str], number: int) -> str:
    """Returns the first of so many names."""
    more = f", and {number - MAX_NAMED} more" if number > MAX_NAMED else ""
    return ", ".join(f'"{name}"' for name in first[:MAX_NAMED]) + more
