"""Documents: what the service has to know of one job, as canonical JSON, and back to settings.

A document has the job with its accounts and archives, and the general settings that it depends on. Secrets stand in it
as references, which are resolved where the work is done. It says nothing of the process that works on it: state
directory, database and environment are that process's own.

The document of a job that removes mail also has the other jobs that read the same account: nothing may be removed that
one of them has not delivered.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from syncd.db.definitions import Definition
from syncd.db.fingerprints import ARCHIVE, fingerprint
from syncd.errors import ConfigError
from syncd.services.proxies import with_password
from syncd.settings import alike
from syncd.settings.loaded import Loaded, LoadedService
from syncd.settings.schema import Job, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

_OWN: Final = ("state_directory", "database_url")  # of the process that works on a document


class Documents:
    """Makes the definitions of a configuration; each account, archive and job is written as JSON once."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._settings = loaded.settings
        self._accounts = _plain(self._settings.accounts)
        self._archives = _plain(self._settings.archives)
        self._jobs = _plain(self._settings.jobs)
        self._readers = self._by_source()

    def definitions(self) -> Iterator[Definition]:
        """Yields the definition of each enabled job, in the order of the file."""
        for name, job in self._settings.jobs.items():
            if job.enabled:
                yield self._definition(name, job)

    def digest(self, name: str) -> bytes:
        """Returns the digest of one job's definition."""
        return self._definition(name, self._settings.jobs[name]).digest

    def _definition(self, name: str, job: Job) -> Definition:
        text = canonical(self._document(name, job))
        return Definition(
            job=name,
            digest=hashlib.sha256(text.encode()).digest(),
            text=text,
            source=job.source,
            identity=self._identity(job.source),
            removes=job.removes,
            site=self._settings.site_of(job),
            schedule=str(job.schedule or ""),
            timezone=job.timezone or self._settings.timezone,
            jitter_s=0 if job.jitter is None else int(job.jitter.total_seconds()),
            quiet_hours=str(job.quiet_hours or ""),
            late_after_s=None if job.late_after is None else int(job.late_after.total_seconds()),
        )

    def _document(self, name: str, job: Job) -> dict[str, Any]:
        together = [name]
        if job.removes and job.source in self._settings.accounts:
            together += [other for other in self._readers[self._mark(job.source)] if other != name]
        named = {place for each in together for place in self._named(self._settings.jobs[each])}
        document: dict[str, Any] = {
            "name": self._loaded.name,
            "timezone": self._settings.timezone,
            "limits": {
                "message_octets": self._settings.model_dump(mode="json", include={"limits"})["limits"]["message_octets"]
            },
            "accounts": {key: self._accounts[key] for key in named if key in self._accounts},
            "archives": {key: self._archives[key] for key in named if key in self._archives},
            "jobs": {each: self._jobs[each] for each in together},
        }
        return {key: value for key, value in document.items() if value}

    def _named(self, job: Job) -> Iterator[str]:
        yield job.source
        for destination in job.destinations:
            yield destination.to

    def _by_source(self) -> Mapping[str, Sequence[str]]:
        """Returns the enabled jobs that read each account, by its fingerprint."""
        found = defaultdict(list)
        for name, job in self._settings.jobs.items():
            if job.enabled and job.source in self._settings.accounts:
                found[self._mark(job.source)].append(name)
        return found

    def _mark(self, source: str) -> str:
        return fingerprint(*self._identity(source))

    def _identity(self, source: str) -> tuple[str, str, str]:
        """An archive is known by its place here, which may be another machine's; its first run learns its UUID."""
        archive = self._settings.archives.get(source)
        if archive is not None:
            return ARCHIVE, f"{archive.site or ''}:{archive.path}", ""
        return alike.identity(self._settings.accounts[source])


def canonical(document: Mapping[str, Any]) -> str:
    """Returns the one text of a document: equal documents have equal texts."""
    return json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def settings_of(text: str, process: LoadedService) -> Loaded:
    """Returns the settings of a document, to be worked on by a process with its own settings and environment.

    Raises ConfigError where this version cannot read it: another version of syncd may have written it.
    """
    own = {key: getattr(process.settings, key) for key in _OWN}
    try:
        document = json.loads(text)
        for name, account in document.get("accounts", {}).items():
            if "proxy" in account:
                account["proxy"] = with_password(name, account["proxy"], process)
        settings = Settings(**document, **own)
    except ValueError as error:  # pydantic's ValidationError is one
        raise ConfigError(
            f"the definition of this job cannot be read by this version of syncd ({type(error).__name__}): write it"
            " again with syncd apply, and let all workers have the same version"
        ) from error
    return Loaded(settings, None, process.environment, ())


def _plain(table: Mapping[str, Any]) -> dict[str, Any]:
    """Returns entries as they can be written as JSON, each with the keys that its file has, not with defaults."""
    return {name: entry.model_dump(mode="json", exclude_unset=True) for name, entry in table.items()}
