"""The settings as types: accounts, archives, jobs, limits, time zone. Unknown keys are mistakes.

Each field says what it means (`description`) and shows values it accepts (`examples`): the JSON schema,
`config show` and the line that reports a mistake are made from them. What can only be judged by looking
at several entries stands in `checks.py`. Relative paths have been made absolute before they come here.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from syncd.settings.delivery import JobDestination
from syncd.settings.fields import (
    Fingerprint,
    Host,
    Leave,
    Location,
    Name,
    Octets,
    Reference,
    Table,
    Text,
    TimeZone,
    When,
)

ENV_PREFIX: Final = "SYNCD_"
ENV_DELIMITER: Final = "__"
LEDGER_FILE: Final = "ledger.sqlite"
DEFAULT_MESSAGE_OCTETS: Final = 2 << 30  # larger than any server takes, and still fits a signed 32-bit count


class Protocol(StrEnum):
    """What an account's server speaks."""

    POP3 = "pop3"
    IMAP = "imap"
    SMTP = "smtp"
    LMTP = "lmtp"


class Security(StrEnum):
    """How the connection is protected."""

    TLS = "tls"
    STARTTLS = "starttls"
    NONE = "none"


class Mechanism(StrEnum):
    """How to sign in; `user` is POP3's USER and PASS, `auto` the strongest offered that takes a password."""

    AUTO = "auto"
    USER = "user"
    APOP = "apop"
    PLAIN = "plain"
    LOGIN = "login"
    CRAM_MD5 = "cram-md5"
    SCRAM_SHA_1 = "scram-sha-1"
    SCRAM_SHA_256 = "scram-sha-256"
    XOAUTH2 = "xoauth2"
    OAUTHBEARER = "oauthbearer"
    EXTERNAL = "external"
    NTLM = "ntlm"


class ArchiveFormat(StrEnum):
    """How an archive keeps messages."""

    PACKS = "packs"
    MAILDIR = "maildir"
    MBOX = "mbox"


class LineEnds(StrEnum):
    """What a Maildir does with messages whose line ends are all CRLF."""

    LF = "lf"
    VERBATIM = "verbatim"


class Mode(StrEnum):
    """What becomes of the source."""

    COPY = "copy"
    MOVE = "move"
    MIRROR = "mirror"


class Duplicates(StrEnum):
    """Which further copies of a message are skipped."""

    OFF = "off"
    MESSAGE_ID = "message-id"


# RFC 8314 §7.1-7.3 (implicit TLS), RFC 1939 §3, RFC 3501 §2.1, RFC 6409 §3.1. LMTP has none of its own (RFC 2033 §5
# only forbids 25); 24, IANA's "any private mail system", is what mail servers use in their examples.
PORTS: Final[dict[Protocol, dict[Security, int]]] = {
    Protocol.POP3: {Security.TLS: 995, Security.STARTTLS: 110, Security.NONE: 110},
    Protocol.IMAP: {Security.TLS: 993, Security.STARTTLS: 143, Security.NONE: 143},
    Protocol.SMTP: {Security.TLS: 465, Security.STARTTLS: 587, Security.NONE: 587},
    Protocol.LMTP: {Security.TLS: 24, Security.STARTTLS: 24, Security.NONE: 24},
}


class Account(Table):
    """A server and the credentials to sign in to it."""

    protocol: Protocol = Field(description="what the server speaks", examples=["pop3"])
    host: Host = Field(description="its name or address", examples=["pop.example.net"])
    security: Security = Field(
        default=Security.TLS, description="none sends the password in clear: it needs allow_insecure"
    )
    port: int = Field(
        default_factory=lambda earlier: PORTS[earlier["protocol"]][earlier["security"]],
        ge=1,
        le=65535,
        description="follows from protocol and security",
        examples=[995],
    )
    username: Text | None = Field(default=None, description="who signs in", examples=["me@example.net"])
    password: Reference | None = Field(
        default=None,
        description="where the password is, never the password",
        examples=["env:PASSWORD", "file:/run/secrets/mail", "command:pass show mail", "keyring:mail/me"],
    )
    auth: Mechanism = Field(default=Mechanism.AUTO, description="auto, or the one way to sign in that is allowed")
    connections: int = Field(default=1, ge=1, le=100, description="at most so many at a time", examples=[1])
    pipelining: bool = Field(
        default=True,
        description="pop3: several commands in flight where the server announces it; false: one at a time",
        examples=[True, False],
    )
    pipeline_messages: bool | None = Field(
        default=None,
        description="smtp and lmtp: send messages before the last is answered; where it is known to be borne",
        examples=[True, False],
    )
    allow_insecure: bool = Field(
        default=False, description="accept a connection that anyone can read", examples=[False]
    )
    ca_file: Location | None = Field(
        default=None, description="trust these certificates instead of the system's", examples=["ca.pem"]
    )
    fingerprint: Fingerprint | None = Field(
        default=None,
        description="trust exactly this certificate: its SHA-256",
        examples=["sha256:9f86d081…(64 digits)"],
    )
    certificate: Location | None = Field(
        default=None, description='our own, shown to the server: auth = "external" signs in by it', examples=["me.pem"]
    )
    key: Location | None = Field(
        default=None, description="its private key, where that stands in another file", examples=["me.key"]
    )


class Archive(Table):
    """A local store of messages that syncd writes."""

    path: Location = Field(description="its folder", examples=["~/mail/home"])
    format: ArchiveFormat = Field(default=ArchiveFormat.PACKS, description="how messages are kept")
    line_ends: LineEnds = Field(
        default=LineEnds.LF, description="maildir only: lf as mail readers expect, or as received"
    )


class Job(Table):
    """One source, one or more destinations, policy, schedule."""

    source: Text = Field(description="the account or archive that mail is read from", examples=["road"])
    destinations: list[JobDestination] = Field(
        min_length=1, description="the archives and accounts it goes to", examples=[["home"]]
    )
    schedule: When | None = Field(
        default=None, description="when it runs by itself", examples=["every 15 minutes", "0 3 * * *"]
    )
    leave_on_server: Leave = Field(
        default=True, description="how long the source keeps what was delivered", examples=[True, False, "30 days"]
    )
    mode: Mode = Field(
        default_factory=lambda earlier: Mode.COPY if earlier["leave_on_server"] is True else Mode.MOVE,
        description="what becomes of the source; follows from leave_on_server",
    )
    confirm_removal: bool = Field(
        default=False, description="yes, remove at the source what was delivered", examples=[True]
    )
    duplicates: Duplicates = Field(default=Duplicates.OFF, description="which further copies of a message are skipped")
    enabled: bool = Field(default=True, description="whether it runs", examples=[True])
    timezone: TimeZone | None = Field(
        default=None, description="for its schedule, instead of the one above", examples=["UTC"]
    )

    @model_validator(mode="before")
    @classmethod
    def _move_leaves_nothing(cls, value: object) -> object:
        if isinstance(value, dict) and value.get("mode") == Mode.MOVE:
            return {"leave_on_server": False, **value}
        return value

    @property
    def removes(self) -> bool:
        """Whether mail goes from the source at some time."""
        return self.mode is not Mode.COPY

    @property
    def kept_for(self) -> timedelta:
        """How long a delivered message stays at a source that the job removes from."""
        return self.leave_on_server if isinstance(self.leave_on_server, timedelta) else timedelta()


class Limits(Table):
    """Bounds on what a run takes in."""

    message_octets: Octets = Field(
        default=DEFAULT_MESSAGE_OCTETS, description="larger messages are not fetched but reported", examples=["2 GiB"]
    )


def default_state_directory() -> Path:
    """Where the ledger and large messages in flight are kept: the XDG state directory (~/.local/state/syncd)."""
    from platformdirs import user_state_path

    return user_state_path("syncd", appauthor=False)


class Settings(BaseSettings):
    """Everything a configuration can say."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=ENV_PREFIX, env_nested_delimiter=ENV_DELIMITER
    )

    timezone: TimeZone = Field(default="UTC", description="for schedules", examples=["Europe/Berlin"])
    state_directory: Location = Field(
        default_factory=default_state_directory,
        description="ledger and temporary files",
        examples=["~/.local/state/syncd"],
    )
    database_url: str = Field(
        default_factory=lambda earlier: f"sqlite:///{earlier['state_directory']}/{LEDGER_FILE}",
        pattern=r"^(sqlite|postgresql)(\+[a-z0-9]+)?://",
        description="the ledger",
        examples=["sqlite:////var/lib/syncd/ledger.sqlite"],
    )
    accounts: dict[Name, Account] = Field(default={}, description="servers and credentials", examples=[{}])
    archives: dict[Name, Archive] = Field(default={}, description="local stores", examples=[{}])
    jobs: dict[Name, Job] = Field(default={}, description="what goes where, and when", examples=[{}])
    limits: Limits = Field(default=Limits(), description="bounds on what a run takes in")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 (the signature is the library's)
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load` has merged: it must know which value came from where."""
        return (init_settings,)
