"""The settings of an account: a server and the credentials to sign in to it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pydantic import Field

from syncd.settings.fields import EhloName, Fingerprint, Host, Location, Octets, ProxyUrl, Reference, Table, Text


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


# RFC 8314 §7.1-7.3 (implicit TLS), RFC 1939 §3, RFC 3501 §2.1, RFC 6409 §3.1. LMTP has none of its own (RFC 2033 §5
# only forbids 25); 24, IANA's "any private mail system", is what mail servers use in their examples.
PORTS: Final[dict[Protocol, dict[Security, int]]] = {
    Protocol.POP3: {Security.TLS: 995, Security.STARTTLS: 110, Security.NONE: 110},
    Protocol.IMAP: {Security.TLS: 993, Security.STARTTLS: 143, Security.NONE: 143},
    Protocol.SMTP: {Security.TLS: 465, Security.STARTTLS: 587, Security.NONE: 587},
    Protocol.LMTP: {Security.TLS: 24, Security.STARTTLS: 24, Security.NONE: 24},
}


class OctetsPerDay(Table):
    """Limits of what an account gives and takes in any 24 hours."""

    up: Octets | None = Field(default=None, description="imap: put into its mailboxes", examples=["500 MB"])
    down: Octets | None = Field(default=None, description="read from it", examples=["2,500 MB"])


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
    authzid: Text | None = Field(
        default=None,
        description="imap: the user whose mail it is, where username is a master user who signs in for others",
        examples=["someone"],
    )
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
    share_mailboxes: bool = Field(
        default=False,
        description="imap: several connections of a run fill one mailbox together; the order of its messages changes",
        examples=[False],
    )
    octets_per_day: OctetsPerDay = Field(
        default=OctetsPerDay(),
        description="imap, pop3: octets of messages in any 24 hours; a run that comes to it goes on when it may",
        examples=[{"up": "500 MB", "down": "2,500 MB"}],
    )
    pipelining: bool = Field(
        default=True,
        description="pop3, imap: send several commands at once (pop3: if the server announces PIPELINING); "
        "false: one at a time",
        examples=[True, False],
    )
    pipeline_messages: bool | None = Field(
        default=None,
        description="smtp, lmtp: send a message before the last is answered; by default with servers known to take it",
        examples=[True, False],
    )
    expunge_without_uidplus: bool = Field(
        default=False,
        description="imap: remove mail although the server lacks UIDPLUS; nobody else may use the account meanwhile",
        examples=[False],
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
