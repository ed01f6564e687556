"""The one place that turns settings into live sources, archives and the ledger.

Nothing is connected here: a source connects when a run asks it to, an archive opens when a run opens it.
Use cases take a Database; a command opens it here, once. Imports are lazy so that a command loads what it uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn, TypeVar

from syncd.errors import ConfigError, StateError, SyncdError
from syncd.mail.mailbox import Path as MailboxPath
from syncd.mail.patterns import EVERYTHING, Selection
from syncd.secret import Secret
from syncd.services.archives import uuid_to_read
from syncd.settings import alike
from syncd.settings.delivery import AsItIs, JobDestination
from syncd.settings.fields import path_levels
from syncd.settings.loaded import Loaded, LoadedService
from syncd.settings.relayed import sender_choice
from syncd.settings.schema import (
    Account,
    Archive,
    ArchiveFormat,
    DeletedRule,
    Job,
    LabelsRule,
    Mechanism,
    Protocol,
)

if TYPE_CHECKING:
    from syncd.auth.credentials import Secrets
    from syncd.db.database import Database
    from syncd.db.ledger import Ledger
    from syncd.db.names import Owner
    from syncd.destinations.imap.account import ImapAccount
    from syncd.destinations.smtp.pace import Limit
    from syncd.destinations.smtp.relay import Relay, RelayOptions
    from syncd.destinations.smtp.route import SmtpOptions
    from syncd.engine.mapping import Paths
    from syncd.imap.quirks import Quirks as ImapQuirks
    from syncd.mail.allowance import Allowance, Direction
    from syncd.net.endpoint import Endpoint
    from syncd.pop3.quirks import Quirks as Pop3Quirks
    from syncd.sources.archive import ArchiveSource
    from syncd.sources.base import Source

TOKENS = frozenset({Mechanism.XOAUTH2, Mechanism.OAUTHBEARER})  # take an access token, which does not last
Known = dict[str, "Pop3Quirks | ImapQuirks"]
Q = TypeVar("Q", "Pop3Quirks", "ImapQuirks")
NO_USES: Mapping[str, MailboxPath] = MappingProxyType({})
BODIES = "bodies"  # where large messages in flight lie, inside the state directory


def open_ledger(loaded: LoadedService, *, threads: int | None = None) -> Database:
    """Open the ledger, its schema up to date; for a worker with so many `threads`, with a pool of connections for them.

    Raises LedgerError, StorageError, ConfigError.
    """
    from syncd.db.database import POOL_SPARE, Database
    from syncd.engine.budget import SESSIONS

    settings = loaded.settings
    pool_size = None if threads is None else threads + SESSIONS + POOL_SPARE
    return Database.open(settings.database_url, settings.state_directory, pool_size=pool_size)


@contextmanager
def existing_ledger(loaded: Loaded) -> Iterator[Database | None]:
    """Open the ledger; None before the first run, because looking must not make one. Raises as `open_ledger`."""
    from syncd.db.database import Database

    settings = loaded.settings
    database = Database.find(settings.database_url, settings.state_directory)
    with database or nullcontext():
        yield database


def read_only(database: Database) -> Ledger:
    """Returns the ledger for looking: writing raises StateError."""
    from syncd.db.ledger import Ledger

    return Ledger(database, _never_writes)


def _never_writes(_: object) -> NoReturn:
    raise StateError("this ledger was opened for looking only")


def is_local(loaded: Loaded) -> bool:
    """Returns whether the ledger is a file on this machine."""
    return loaded.settings.database_url.startswith("sqlite")


def owner(loaded: Loaded) -> Owner:
    """Returns the configuration as the ledger knows it: by its name, else by the path of its file."""
    from syncd.db.names import Owner

    return Owner(loaded.settings.name or _path(loaded), partial(_speaks_for, loaded))


def _path(loaded: Loaded) -> str:
    return "" if loaded.file is None else str(loaded.file.resolve())


def _speaks_for(loaded: Loaded, configuration: str) -> bool:
    """Returns whether a configuration is this one, by its name or its file, or is over because its file is gone.

    In a database that several machines share, a file that is not here may be another machine's.
    """
    if configuration in {"", loaded.settings.name, _path(loaded)}:
        return True
    return configuration.startswith("/") and is_local(loaded) and not Path(configuration).exists()


@contextmanager
def copied_ledger(loaded: Loaded, jobs: Iterable[str]) -> Iterator[Database]:
    """Copy what the ledger knows of the sources of these jobs, to be thrown away; empty before the first run."""
    from syncd.db.fingerprints import fingerprint
    from syncd.db.rehearsal import rehearsal

    settings = loaded.settings
    sources = {settings.jobs[job].source for job in jobs}
    marks = {}
    for source in sources:
        with suppress(SyncdError):  # an archive that cannot be read: its jobs say so, the others go on
            marks[source] = fingerprint(*identity(loaded, source))
    with existing_ledger(loaded) as ledger, rehearsal(ledger, settings.state_directory, marks) as copy:
        yield copy


def identity(loaded: Loaded, source: str) -> tuple[str, str, str]:
    """Returns protocol, place and username, which tell an account from all others. An archive's place is its UUID.

    Raises ArchiveMissing, FormatDamaged, StorageError where an archive cannot say which one it is.
    """
    from syncd.db.fingerprints import ARCHIVE

    archive = loaded.settings.archives.get(source)
    if archive is None:
        return alike.identity(loaded.settings.accounts[source])
    return ARCHIVE, str(uuid_to_read(source, archive)), ""


def reached(loaded: Loaded) -> dict[str, set[tuple[str, str]]]:
    """Returns each enabled job with fingerprint and recipient ("" for IMAP) of every mail server it delivers to."""
    from syncd.db.fingerprints import fingerprint

    settings = loaded.settings
    return {
        name: {
            (fingerprint(*identity(loaded, to.to)), recipient)
            for to in job.destinations
            if to.to in settings.accounts
            for recipient in to.recipient or _no_recipient(settings.accounts[to.to])
        }
        for name, job in settings.jobs.items()
        if job.enabled
    }


def _no_recipient(account: Account) -> tuple[str, ...]:
    """Returns the target of the one route to an account that has mailboxes."""
    return ("",) if account.protocol is Protocol.IMAP else ()


def open_source(
    loaded: Loaded,
    name: str,
    known: Known | None = None,
    selection: Selection = EVERYTHING,
    *,
    sizes: bool = False,
    job: Job | None = None,
) -> Source:
    """Returns the account or archive `name` as a source. Raises ConfigError where there is none.

    `known`: what servers have shown themselves to do, by protocol, host, port and username; kept up to date.
    `selection`: the mailboxes that a job reads. With `sizes=True` the list of mailboxes has their octets, where the
    server tells them. `job` reads the source, and says which messages of a mailbox it leaves out.
    """
    settings = loaded.settings
    archive, spool = settings.archives.get(name), settings.state_directory / BODIES
    if archive is not None:
        return _archive_source(archive, spool, 1 if job is None else _filled_by(loaded, job))
    account = settings.accounts.get(name)
    if account is None:
        raise ConfigError(f"there is no account {name!r}; the configuration has {listed(settings.accounts)}")
    endpoint, most = _endpoint(account, name, loaded.secrets), settings.limits.message_octets
    if account.protocol is Protocol.IMAP:
        from syncd.imap import quirks as imap
        from syncd.sources.imap.account import ImapSource
        from syncd.sources.imap.options import ImapOptions

        options = ImapOptions(
            endpoint,
            spool,
            most,
            selection,
            sizes,
            connections=_sessions(loaded, account),
            expunge_without_uidplus=account.expunge_without_uidplus,
            pipelining=account.pipelining,
            skip_deleted=job is not None and job.deleted is DeletedRule.SKIP,
            each_label=job is not None and job.labels is LabelsRule.EACH,
        )
        return ImapSource(options, _quirks(account, known, imap.Quirks))
    from syncd.pop3 import quirks as pop3
    from syncd.sources.pop3.account import Pop3Options, Pop3Source

    return Pop3Source(
        Pop3Options(endpoint, spool, most, pipelining=account.pipelining), _quirks(account, known, pop3.Quirks)
    )


def allowance(loaded: Loaded, name: str, database: Database, account_id: int, direction: Direction) -> Allowance | None:
    """Returns the daily limit of an account in one direction; None where it has none."""
    from syncd.db.ledger.traffic import passed_since
    from syncd.mail.allowance import Allowance, Direction

    account = loaded.settings.accounts.get(name)
    if account is None:
        return None
    limits, key = account.octets_per_day, direction.name.lower()
    octets = limits.up if direction is Direction.UP else limits.down
    if octets is None:
        return None
    limit = f'octets_per_day.{key} = {octets:,} octets of account "{name}"'
    return Allowance(octets, limit, partial(passed_since, database, account_id, direction))


def _sessions(loaded: Loaded, account: Account) -> int:
    """Returns how many sessions a run may have: its permit is for one, where the host has a limit for all workers."""
    return 1 if loaded.settings.limits.connections_to(account.host) is not None else account.connections


def _quirks(account: Account, known: Known | None, kind: type[Q]) -> Q:
    key = f"{account.protocol} {account.host} {account.port} {account.username}"
    found = kind() if known is None else known.setdefault(key, kind())
    assert isinstance(found, kind), key
    return found


def _filled_by(loaded: Loaded, job: Job) -> int:
    """Returns how many mailboxes a job may fill side by side."""
    accounts = (loaded.settings.accounts.get(to.to) for to in job.destinations)
    imap = [account.connections for account in accounts if account is not None and account.protocol is Protocol.IMAP]
    return max(imap, default=1)


def _archive_source(archive: Archive, spool: Path, sessions: int) -> Source:
    """Returns an archive as a source; with `sessions` at a time where it has an index, so that opening it is cheap."""
    source: ArchiveSource
    if archive.format is ArchiveFormat.MAILDIR:
        from syncd.sources.maildir import MaildirSource

        source = MaildirSource(archive.path, spool, archive.layout)
        source.connections = sessions
        return source
    if archive.format is ArchiveFormat.MBOX:
        from syncd.sources.mbox import MboxSource

        return MboxSource(archive.path, spool)
    if archive.format is ArchiveFormat.EML:
        from syncd.sources.eml import EmlSource

        return EmlSource(archive.path, spool)
    from syncd.sources.packs import PacksSource

    source = PacksSource(archive.path, spool)
    source.connections = sessions
    return source


def make_relay(loaded: Loaded, name: str) -> Relay:
    """Returns the connections to the SMTP or LMTP account `name`, none of them open."""
    from syncd.destinations.smtp.relay import Relay, RelayOptions

    account = loaded.settings.accounts[name]
    return Relay(
        RelayOptions(
            _endpoint(account, name, loaded.secrets),
            lmtp=account.protocol is Protocol.LMTP,
            connections=account.connections,
            pipeline_messages=account.pipeline_messages,
            ehlo_name=account.ehlo_name or "",
        )
    )


def make_imap_accounts(loaded: Loaded, name: str) -> list[ImapAccount]:
    """Returns the connections to the IMAP account `name` as a destination, none of them open."""
    from syncd.destinations.imap.account import ImapAccount, ImapAccountOptions
    from syncd.destinations.imap.claims import Claims
    from syncd.imap.quirks import Quirks

    settings, account = loaded.settings, loaded.settings.accounts[name]
    endpoint, claims, quirks = _endpoint(account, name, loaded.secrets), Claims(), Quirks()
    spool, most = settings.state_directory / BODIES, settings.limits.message_octets
    options = ImapAccountOptions(endpoint, spool, most, pipelining=account.pipelining)
    return [ImapAccount(options, quirks, claims) for _ in range(account.connections)]


def smtp_options(loaded: Loaded, job: str, to: JobDestination, recipient: str, relay: RelayOptions) -> SmtpOptions:
    """Returns the options for a recipient of a job's destination; what it does not set follows from its account."""
    from syncd.destinations.smtp.route import SmtpOptions

    source = loaded.settings.accounts.get(loaded.settings.jobs[job].source)
    account = loaded.settings.accounts[to.to]
    choice = sender_choice(to, account)
    sender = {"empty": "", "account": account.username or ""}.get(choice, choice)
    return SmtpOptions(
        relay=relay,
        recipient=recipient,
        sender=sender,
        trace=to.trace is not False,
        resent=to.resent is True,
        resent_from="" if sender == "original" else sender,
        send_eight_bit=to.eight_bit is AsItIs.SEND or (relay.lmtp and to.eight_bit is None),
        refuse_long_lines=to.long_lines is AsItIs.REFUSE,
        source=source.host if source is not None else "",
        protocol=source.protocol.value.upper() if source is not None else "",
    )


def paths(to: JobDestination, uses: Mapping[str, MailboxPath] = NO_USES) -> Paths:
    """Returns where the mailboxes of a job's source go in a destination that has mailboxes.

    `uses`: special use → the path that has it there; it may become known later.
    """
    from syncd.engine.mapping import Paths, Rules

    names = {name: path_levels(path) for name, path in to.map or ()}
    return Paths(Rules(names, path_levels(to.prefix) if to.prefix else (), uses, by_use=to.by_use))


def limits(to: JobDestination) -> list[Limit]:
    """Returns how many messages may leave for a destination in which time."""
    from syncd.destinations.smtp.pace import Limit

    return [Limit(limit.messages, limit.seconds) for limit in to.limits]


def listed(names: Iterable[str]) -> str:
    """Returns names for an error line."""
    return ", ".join(sorted(names)) or "none"


def _endpoint(account: Account, name: str, secrets: Secrets) -> Endpoint:
    from syncd.net.endpoint import Endpoint
    from syncd.net.tls import TlsPolicy

    return Endpoint(
        host=account.host,
        port=account.port,
        security=account.security.value,
        username=account.username or "",
        password=partial(_password, account, name, secrets),
        auth=account.auth.value,
        allow_insecure=account.allow_insecure,
        tls=TlsPolicy(account.ca_file, account.fingerprint, account.certificate, account.key, account.tls_name),
        proxy=account.proxy,
        authzid=account.authzid or "",
        account=f'account "{name}"' + (f', password = "{account.password}"' if account.password else ""),
    )


def _password(account: Account, name: str, secrets: Secrets) -> Secret:
    if account.auth is Mechanism.EXTERNAL:
        return Secret("")  # the certificate signs in
    if account.password is None:
        raise ConfigError(f'account "{name}" has no password; set password = "env:…", "file:…" or "command:…"')
    return secrets.read(account.password, token=account.auth in TOKENS)
