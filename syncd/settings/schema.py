"""The settings as types: archives, jobs and the whole; `account.py` and `service.py` have the rest.

Each field has its meaning (`description`) and accepted values (`examples`): the JSON schema and the lines that report
mistakes are made from them. Checks that need several entries are in `checks.py`. Relative paths are made absolute
before they come here. Unknown keys are mistakes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Final

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from syncd.formats.maildir.layout import Layout
from syncd.mail.patterns import EVERYTHING, Selection
from syncd.secret import Secret
from syncd.settings.account import PORTS, Account, Mechanism, Protocol, Security
from syncd.settings.delivery import JobDestination
from syncd.settings.fields import (
    BrokerUrl,
    DatabaseUrl,
    Folder,
    Jitter,
    Leave,
    Name,
    Quiet,
    Span,
    Table,
    Text,
    TimeZone,
    When,
)
from syncd.settings.mailboxes import Mailboxes
from syncd.settings.service import EMail, HostLimits, Limits, LogFormat, Notify, Service
from syncd.settings.urls import MEMORY, HiddenUrl

__all__ = (  # the whole schema can be imported from here
    "PORTS",
    "Account",
    "Archive",
    "ArchiveFormat",
    "DeletedRule",
    "Duplicates",
    "EMail",
    "FlagsRule",
    "HostLimits",
    "Job",
    "LabelsRule",
    "Layout",
    "Limits",
    "LineEnds",
    "LogFormat",
    "Mechanism",
    "Mode",
    "Notify",
    "Protocol",
    "Security",
    "Service",
    "ServiceSettings",
    "Settings",
)

ENV_PREFIX: Final = "SYNCD_"
ENV_DELIMITER: Final = "__"
LEDGER_FILE: Final = "ledger.sqlite"


class ArchiveFormat(StrEnum):
    """The format in which an archive stores messages."""

    PACKS = "packs"
    MAILDIR = "maildir"
    MBOX = "mbox"
    EML = "eml"


class LineEnds(StrEnum):
    """The line ends of messages in a Maildir: LF, or as received."""

    LF = "lf"
    VERBATIM = "verbatim"


class Mode(StrEnum):
    """The treatment of mail at the source after its delivery."""

    COPY = "copy"
    MOVE = "move"
    MIRROR = "mirror"


class Duplicates(StrEnum):
    """The rule by which further copies of a message are skipped."""

    OFF = "off"
    MESSAGE_ID = "message-id"


class FlagsRule(StrEnum):
    """The treatment of flags at a destination: copied with the message, or followed afterwards."""

    ONCE = "once"
    FOLLOW = "follow"


class DeletedRule(StrEnum):
    """The treatment of messages that are marked as deleted at the source."""

    COPY = "copy"
    SKIP = "skip"
    KEEP_FLAG = "keep-flag"


class LabelsRule(StrEnum):
    """The mailboxes that a message of Gmail goes into: that of its first label, or one for each label."""

    FIRST = "first"
    EACH = "each"


# The part of the schema that this version cannot do. A value goes from here when the work is done.
UNAVAILABLE: Final[Mapping[type[StrEnum], frozenset[str]]] = {
    Mechanism: frozenset({Mechanism.NTLM}),
    Mode: frozenset({Mode.MIRROR}),
    Duplicates: frozenset({Duplicates.MESSAGE_ID}),
    FlagsRule: frozenset({FlagsRule.FOLLOW}),
}


def available(choices: type[StrEnum]) -> list[str]:
    """Returns the values that this version accepts, in their order."""
    return [choice.value for choice in choices if choice not in UNAVAILABLE.get(choices, ())]


class Archive(Table):
    """A local store of messages that syncd writes."""

    path: Folder = Field(description="folder of the archive", examples=["~/mail/home"])
    format: ArchiveFormat = Field(default=ArchiveFormat.PACKS, description="format in which messages are stored")
    line_ends: LineEnds = Field(
        default=LineEnds.LF, description="maildir only: lf, as mail readers expect, or verbatim, as received"
    )
    layout: Layout = Field(
        default=Layout.PLUS_PLUS,
        description="maildir only: maildir++ has a folder .Name.Sub for a mailbox, nested has Name/Sub",
    )
    site: Name | None = Field(
        default=None,
        description="machine that has the folder: the workers with this site write the archive; needed with a broker",
        examples=["host-a"],
    )


class Job(Table):
    """A source, destinations, policy and schedule."""

    source: Text = Field(description="account or archive that mail is read from", examples=["road"])
    destinations: list[JobDestination] = Field(
        min_length=1, description="archives and accounts that mail is delivered to", examples=[["home"]]
    )
    mailboxes: Mailboxes | None = Field(
        default=None,
        description="imap, archives: the mailboxes of the source that the job reads; by default all of them",
        examples=[{"include": ["*"], "exclude": ["Trash", "Junk/**"]}],
    )
    schedule: When | None = Field(
        default=None,
        description="times at which the job runs by itself",
        examples=["every 15 minutes", "at 02:00, 14:30", "0 3 * * *"],
    )
    jitter: Jitter | None = Field(
        default=None,
        description="each time of the schedule is put off by up to this long, so that jobs do not begin together",
        examples=["10 minutes"],
    )
    quiet_hours: Quiet | None = Field(
        default=None, description="time of the day in which the schedule starts nothing", examples=["22:00-06:00"]
    )
    late_after: Span | None = Field(
        default=None, description="time since the last success after which the job is late", examples=["6 hours"]
    )
    leave_on_server: Leave = Field(
        default=True,
        description="true: keep delivered mail at the source; false: remove it; a duration: remove it after that time",
        examples=[True, False, "30 days"],
    )
    mode: Mode = Field(
        default_factory=lambda earlier: Mode.COPY if earlier["leave_on_server"] is True else Mode.MOVE,
        description="copy or move; by default it follows from leave_on_server",
    )
    confirm_removal: bool = Field(
        default=False, description="confirms that this job may remove delivered mail at the source", examples=[True]
    )
    flags: FlagsRule = Field(
        default=FlagsRule.ONCE, description="once: flags and keywords are copied with a message, and not afterwards"
    )
    deleted: DeletedRule = Field(
        default=DeletedRule.COPY,
        description="imap: messages marked as deleted are put into mailboxes without the mark, left out, or keep it",
        examples=[*DeletedRule],
    )
    labels: LabelsRule = Field(
        default=LabelsRule.FIRST,
        description="Gmail: a message goes into the mailbox of its first label, or into one for each label",
        examples=[*LabelsRule],
    )
    duplicates: Duplicates = Field(
        default=Duplicates.OFF, description="rule by which further copies of a message are skipped"
    )
    enabled: bool = Field(default=True, description="false: the job does not run", examples=[True])
    timezone: TimeZone | None = Field(
        default=None, description="time zone of schedule and quiet hours, instead of the general one", examples=["UTC"]
    )

    @model_validator(mode="before")
    @classmethod
    def _move_leaves_nothing(cls, value: object) -> object:
        if isinstance(value, dict) and value.get("mode") == Mode.MOVE:
            return {"leave_on_server": False, **value}
        return value

    @property
    def selection(self) -> Selection:
        """Returns which mailboxes of the source the job reads."""
        return EVERYTHING if self.mailboxes is None else self.mailboxes.selection

    @property
    def removes(self) -> bool:
        """Returns whether the job removes mail at the source, now or later."""
        return self.mode is not Mode.COPY

    @property
    def kept_for(self) -> timedelta:
        """Returns how long a delivered message stays at the source, if the job removes mail."""
        return self.leave_on_server if isinstance(self.leave_on_server, timedelta) else timedelta()


def default_state_directory() -> Path:
    """Returns the XDG state directory, for the ledger and large messages in flight.

    Without a home directory it stays ~/.local/state/syncd, which is refused where a state directory is needed.
    """
    from platformdirs import user_state_path

    try:
        return user_state_path("syncd", appauthor=False)
    except RuntimeError:
        return Path("~/.local/state/syncd")


class ServiceSettings(BaseSettings):
    """The settings that a worker and a scheduler need from a file; what its jobs are, the database tells them."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=ENV_PREFIX, env_nested_delimiter=ENV_DELIMITER
    )

    name: Text | None = Field(
        default=None,
        description="name of this configuration in the ledger; by default the path of its file",
        examples=["home"],
    )
    timezone: TimeZone = Field(default="UTC", description="time zone of schedules", examples=["Europe/Berlin"])
    state_directory: Folder = Field(
        default_factory=default_state_directory,
        validate_default=True,
        description="folder of the ledger and of temporary files",
        examples=["~/.local/state/syncd", "/var/lib/syncd"],
    )
    database_url: DatabaseUrl = Field(
        default_factory=lambda earlier: f"sqlite:///{earlier['state_directory']}/{LEDGER_FILE}",
        description="address of the ledger's database",
        examples=["sqlite:////var/lib/syncd/ledger.sqlite"],
    )
    broker_url: BrokerUrl = Field(
        default_factory=lambda: HiddenUrl(MEMORY, Secret(MEMORY)),
        description="address of the broker that wakes workers on other machines; memory:// for a single process",
        examples=["redis://localhost:6379/0", "amqp://localhost", MEMORY],
    )
    service: Service = Field(default=Service(), description="settings of serve, worker and scheduler", examples=[{}])
    limits: Limits = Field(default=Limits(), description="limits of a run, and of all runs together", examples=[{}])
    notify: Notify = Field(default=Notify(), description="ways in which people are told of trouble", examples=[{}])

    @property
    def is_cluster(self) -> bool:
        """Returns whether workers on other machines may belong to this configuration."""
        return self.broker_url.scheme + "://" != MEMORY

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 (the signature is the library's)
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Use only the tables that `load` has merged, because it must know the source of each value."""
        return (init_settings,)


class Settings(ServiceSettings):
    """Everything a configuration can say."""

    accounts: dict[Name, Account] = Field(default={}, description="servers and credentials", examples=[{}])
    archives: dict[Name, Archive] = Field(default={}, description="local stores of messages", examples=[{}])
    jobs: dict[Name, Job] = Field(default={}, description="sources, destinations and schedules", examples=[{}])

    @cached_property
    def filled_from(self) -> Mapping[str, Collection[str]]:
        """The sources of the jobs that deliver to each account or archive."""
        return _pairs((to.to, job.source) for job in self.jobs.values() for to in job.destinations)

    @cached_property
    def read_into(self) -> Mapping[str, Collection[str]]:
        """The destinations of the jobs that read each account or archive."""
        return _pairs((job.source, to.to) for job in self.jobs.values() for to in job.destinations)

    def site_of(self, job: Job) -> str:
        """Returns the site whose workers run a job: that of its archives; "" if any worker can run it."""
        if not self.is_cluster:
            return ""
        names = (job.source, *(destination.to for destination in job.destinations))
        sites = (self.archives[name].site for name in names if name in self.archives)
        return next((site for site in sites if site is not None), "")


def _pairs(pairs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for key, value in pairs:
        found.setdefault(key, set()).add(value)
    return found
