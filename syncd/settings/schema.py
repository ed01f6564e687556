"""The settings as types: accounts, archives, jobs, limits, time zone. Unknown keys are mistakes.

Each field has its meaning (`description`) and accepted values (`examples`): the JSON schema and the lines that report
mistakes are made from them. Checks that need several entries are in `checks.py`. Relative paths are made absolute
before they come here.
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
    DatabaseUrl,
    EhloName,
    Fingerprint,
    Folder,
    Host,
    Leave,
    Location,
    Name,
    Octets,
    ProxyUrl,
    Reference,
    Table,
    Text,
    TimeZone,
    When,
)

ENV_PREFIX: Final = "SYNCD_"
ENV_DELIMITER: Final = "__"
LEDGER_FILE: Final = "ledger.sqlite"
DEFAULT_MESSAGE_OCTETS: Final = 2 << 30  # more than any server takes, and the largest size below 2^31 + 1


class Protocol(StrEnum):
    """The protocol of an account's server."""

    POP3 = "pop3"
    IMAP = "imap"
    SMTP = "smtp"
    LMTP = "lmtp"


class Security(StrEnum):
    """The protection of the connection."""

    TLS = "tls"
    STARTTLS = "starttls"
    NONE = "none"


class Mechanism(StrEnum):
    """The way to sign in. `user` is POP3's USER and PASS; `auto` is the strongest offered one that takes a password."""

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
    """The format in which an archive stores messages."""

    PACKS = "packs"
    MAILDIR = "maildir"
    MBOX = "mbox"


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

    protocol: Protocol = Field(description="the protocol of the server", examples=["pop3"])
    host: Host = Field(description="name or address of the server", examples=["pop.example.net"])
    security: Security = Field(
        default=Security.TLS,
        description="protection of the connection; none sends the password in clear and needs allow_insecure",
    )
    port: int = Field(
        default_factory=lambda earlier: PORTS[earlier["protocol"]][earlier["security"]],
        ge=1,
        le=65535,
        description="port of the server; by default the usual one for protocol and security",
        examples=[995],
    )
    username: Text | None = Field(default=None, description="name to sign in with", examples=["me@example.net"])
    password: Reference | None = Field(
        default=None,
        description="reference to the place of the password, never the password itself",
        examples=["env:PASSWORD", "file:/run/secrets/mail", "command:pass show mail", "keyring:mail/me"],
    )
    auth: Mechanism = Field(
        default=Mechanism.AUTO, description="auto (the strongest offered), or the only mechanism to use"
    )
    connections: int = Field(
        default=1, ge=1, le=100, description="largest number of connections at a time", examples=[1]
    )
    pipelining: bool = Field(
        default=True,
        description="pop3: send several commands at once if the server announces PIPELINING; false: one at a time",
        examples=[True, False],
    )
    pipeline_messages: bool | None = Field(
        default=None,
        description="smtp, lmtp: send a message before the last is answered; by default with servers known to take it",
        examples=[True, False],
    )
    allow_insecure: bool = Field(
        default=False, description="accept a connection that anyone on the way can read", examples=[False]
    )
    ca_file: Location | None = Field(
        default=None, description="trust these certificates instead of the system's", examples=["ca.pem"]
    )
    fingerprint: Fingerprint | None = Field(
        default=None,
        description="trust only the certificate with this SHA-256",
        examples=["sha256:9f86d081…(64 digits)"],
    )
    certificate: Location | None = Field(
        default=None,
        description='client certificate for the server; auth = "external" signs in by it',
        examples=["me.pem"],
    )
    key: Location | None = Field(
        default=None, description="private key of the certificate, if it is in another file", examples=["me.key"]
    )
    tls_name: Host | None = Field(
        default=None,
        description="name that the server's certificate must have, if it is not the host's",
        examples=["pop.example.net"],
    )
    proxy: ProxyUrl | None = Field(
        default=None,
        description="proxy on the way to the server: socks5://HOST:PORT or http://HOST:PORT (CONNECT)",
        examples=["socks5://localhost:1080", "http://proxy.example.net:3128"],
    )
    ehlo_name: EhloName | None = Field(
        default=None,
        description="smtp, lmtp: our name in EHLO; by default this machine's full name, or its address",
        examples=["laptop.example.org", "[192.0.2.1]"],
    )


class Archive(Table):
    """A local store of messages that syncd writes."""

    path: Folder = Field(description="folder of the archive", examples=["~/mail/home"])
    format: ArchiveFormat = Field(default=ArchiveFormat.PACKS, description="format in which messages are stored")
    line_ends: LineEnds = Field(
        default=LineEnds.LF, description="maildir only: lf, as mail readers expect, or verbatim, as received"
    )


class Job(Table):
    """A source, destinations, policy and schedule."""

    source: Text = Field(description="account or archive that mail is read from", examples=["road"])
    destinations: list[JobDestination] = Field(
        min_length=1, description="archives and accounts that mail is delivered to", examples=[["home"]]
    )
    schedule: When | None = Field(
        default=None, description="times at which the job runs by itself", examples=["every 15 minutes", "0 3 * * *"]
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
    duplicates: Duplicates = Field(
        default=Duplicates.OFF, description="rule by which further copies of a message are skipped"
    )
    enabled: bool = Field(default=True, description="false: the job does not run", examples=[True])
    timezone: TimeZone | None = Field(
        default=None, description="time zone of the schedule, instead of the general one", examples=["UTC"]
    )

    @model_validator(mode="before")
    @classmethod
    def _move_leaves_nothing(cls, value: object) -> object:
        if isinstance(value, dict) and value.get("mode") == Mode.MOVE:
            return {"leave_on_server": False, **value}
        return value

    @property
    def removes(self) -> bool:
        """Returns whether the job removes mail at the source, now or later."""
        return self.mode is not Mode.COPY

    @property
    def kept_for(self) -> timedelta:
        """Returns how long a delivered message stays at the source, if the job removes mail."""
        return self.leave_on_server if isinstance(self.leave_on_server, timedelta) else timedelta()


class Limits(Table):
    """Limits of a run."""

    message_octets: Octets = Field(
        default=DEFAULT_MESSAGE_OCTETS,
        description="largest message; larger messages are reported and not fetched",
        examples=["2 GiB"],
    )


def default_state_directory() -> Path:
    """Returns the XDG state directory, for the ledger and large messages in flight.

    Without a home directory it stays ~/.local/state/syncd, which is refused where a state directory is needed.
    """
    from platformdirs import user_state_path

    try:
        return user_state_path("syncd", appauthor=False)
    except RuntimeError:
        return Path("~/.local/state/syncd")


class Settings(BaseSettings):
    """Everything a configuration can say."""

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
    accounts: dict[Name, Account] = Field(default={}, description="servers and credentials", examples=[{}])
    archives: dict[Name, Archive] = Field(default={}, description="local stores of messages", examples=[{}])
    jobs: dict[Name, Job] = Field(default={}, description="sources, destinations and schedules", examples=[{}])
    limits: Limits = Field(default=Limits(), description="limits of a run")

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
