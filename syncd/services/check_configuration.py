"""The configuration judged as a run judges it: files, secrets, archives on disk, what the ledger knows of their names.

`settings.load` has found the mistakes that the settings show by themselves. The rest comes from where a run would find
it: the policy for TLS, the reader of secrets, and the registry on a copy of the ledger, which is thrown away.
No server is contacted, no program is run and no keyring is unlocked.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from syncd.auth.credentials import SecretKind, SecretReference
from syncd.errors import ArchiveMissing, ConfigError, SecretUnavailable, SyncdError
from syncd.net.tls import TlsPolicy
from syncd.services.check_schedules import odd_schedules
from syncd.services.proxies import in_file
from syncd.services.registry import Registry
from syncd.services.wiring import copied_ledger, identity, is_local
from syncd.settings import alike, scheduled
from syncd.settings.mistakes import Mistake
from syncd.settings.ports import odd_ports
from syncd.settings.schema import Account, Archive, Mechanism, Security

if TYPE_CHECKING:
    from syncd.db.database import Database
    from syncd.settings.load import Loaded

LATER: Final = ("/run/", "/dev/")  # where secrets are only while a service or a shell has put them there
CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"  # systemd: the same, a folder for each service
NO_JOB: Final = "there is no enabled job, so `syncd run` has nothing to do; add one under [jobs.NAME]"


@dataclass(frozen=True, slots=True)
class Findings:
    """Lines: `mistakes` that a run refuses, and `warnings` about what may be meant so, or may be so for now only."""

    mistakes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def judge(loaded: Loaded) -> Findings:
    """Returns everything about a configuration that `load` does not say. Raises nothing that a mistake causes."""
    found = Findings()
    settings = loaded.settings
    found.warnings.extend([loaded.line(warning) for warning in odd_ports(settings)])
    found.warnings.extend([loaded.line(warning) for warning in alike.accounts(settings)])
    found.warnings.extend([loaded.line(warning) for warning in scheduled.odd(settings)])
    found.warnings.extend([loaded.line(warning) for warning in odd_schedules(settings)])
    found.warnings.extend([loaded.line(warning) for warning in in_file(loaded)])
    for name, account in settings.accounts.items():
        _judge_account(loaded, name, account, found)
    if not settings.is_cluster:  # else the folders may be on other machines
        for name, archive in settings.archives.items():
            found.warnings.extend([loaded.line(warning) for warning in _parents(name, archive)])
    if any(job.enabled for job in settings.jobs.values()):
        _judge_jobs(loaded, found)
    else:
        found.mistakes.append(loaded.line(Mistake(("jobs",), NO_JOB)))
    return Findings(list(dict.fromkeys(found.mistakes)), list(dict.fromkeys(found.warnings)))


# --- accounts ----------------------------------------------------------------------------------------


def _judge_account(loaded: Loaded, name: str, account: Account, found: Findings) -> None:
    at = ("accounts", name)
    if account.security is not Security.NONE and (account.ca_file or account.certificate):
        from syncd.net.tls_stream import context_for

        policy = TlsPolicy(account.ca_file, account.fingerprint, account.certificate, account.key)
        try:
            context_for(policy, account.host)
        except ConfigError as error:
            found.mistakes.append(loaded.line(Mistake(at, str(error))))
    if account.password is None or account.auth is Mechanism.EXTERNAL:
        return
    try:
        _judge_secret(loaded, account.password)
    except SecretUnavailable as error:
        lines = found.warnings if _may_come(loaded, account.password) else found.mistakes
        lines.append(loaded.line(Mistake((*at, "password"), str(error))))


def _judge_secret(loaded: Loaded, reference: SecretReference) -> None:
    """Look at the place of a secret. Raises SecretUnavailable as a sign-in does."""
    if reference.kind is SecretKind.KEYRING:
        if find_spec("keyring") is None:
            loaded.secrets.read(reference)  # which says how to install it
    elif reference.kind is SecretKind.COMMAND:
        program = reference.target.split()[0].strip("'\"")
        if shutil.which(program, path=loaded.environment.get("PATH")) is None:
            raise SecretUnavailable(f"cannot run the password command {program}: there is no such program")
    elif reference.kind is SecretKind.ENV or not _is_pipe(reference.target):
        loaded.secrets.read(reference)


def _is_pipe(path: str) -> bool:
    """Returns whether reading would take away what is in there."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (a Path would drop a final slash)
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _may_come(loaded: Loaded, reference: SecretReference) -> bool:
    """Returns whether a secret that is not there now may be there when the job runs."""
    if reference.kind is SecretKind.ENV:
        return reference.target not in loaded.environment
    places = tuple(filter(None, (*LATER, loaded.environment.get(CREDENTIALS))))
    return (
        reference.kind is SecretKind.FILE
        and reference.target.startswith(places)
        and not Path(reference.target).exists()
    )


# --- archives and jobs -------------------------------------------------------------------------------


def _parents(name: str, archive: Archive) -> Iterator[Mistake]:
    """Yields a warning if the folder around an archive is not there: its disk may not be mounted."""
    parent = archive.path.parent
    with suppress(OSError):
        if not archive.path.exists() and not parent.exists():
            text = f"{parent} is not there; mount its disk if it has one, otherwise the first run makes the folder"
            yield Mistake(("archives", name, "path"), text)


def _judge_jobs(loaded: Loaded, found: Findings) -> None:
    """Register the enabled jobs with a copy of the ledger, as a run would."""
    if not is_local(loaded) and find_spec("psycopg") is None:
        text = "PostgreSQL needs its driver: pip install 'syncd[postgresql]'"
        found.mistakes.append(loaded.line(Mistake(("database_url",), text)))
        return
    try:
        with _copy(loaded) as database:
            registry = Registry(loaded, database)
            registry.retire()
            for name, job in loaded.settings.jobs.items():
                if job.enabled:
                    _judge_job(loaded, registry, name, found)
    except ConfigError as error:
        found.mistakes.extend([f"{loaded.file}: {line}" for line in error.lines])
    except SyncdError as error:
        found.warnings.append(f"{loaded.file}: a run would fail: {error}")


@contextmanager
def _copy(loaded: Loaded) -> Iterator[Database]:
    """Copy what the ledger knows of names; a ledger on another machine is not asked."""
    if is_local(loaded):
        with copied_ledger(loaded, ()) as copy:
            yield copy
    else:
        from syncd.db.rehearsal import rehearsal

        with rehearsal(None, loaded.settings.state_directory, {}) as empty:
            yield empty


def _is_there(loaded: Loaded, source: str) -> bool:
    """Returns whether a source can say what it is; another job may have to fill an archive first."""
    try:
        identity(loaded, source)
    except ArchiveMissing:
        return False
    return True


def _judge_job(loaded: Loaded, registry: Registry, name: str, found: Findings) -> None:
    at, source = ("jobs", name), loaded.settings.jobs[name].source
    try:
        if _is_there(loaded, source):
            registry.job(name, registry.account(source))
    except ConfigError as error:
        found.mistakes.extend([loaded.line(Mistake(at, line)) for line in error.lines])
    except SyncdError as error:
        found.warnings.append(loaded.line(Mistake(at, f"a run would stop: {error}")))
