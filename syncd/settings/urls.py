"""Addresses that may have a secret in them: of a broker, a database, a web hook. What is shown of them has none."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from syncd.secret import Secret

MEMORY: Final = "memory://"
BROKERS: Final = ("redis", "rediss", "amqp", "amqps")
_HOST_AND_PORT: Final = re.compile(r"(?:\[(?P<literal>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]/\s]+)):(?P<port>[0-9]{1,5})\Z")


@dataclass(frozen=True, slots=True)
class HiddenUrl:
    """An address whose text has no secret; `secret` has the whole. Two are equal if the whole is."""

    shown: str
    secret: Secret

    def __str__(self) -> str:
        return self.shown

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HiddenUrl) and self.reveal() == other.reveal()

    def __hash__(self) -> int:
        return hash(self.shown)

    @property
    def scheme(self) -> str:
        """Returns what stands before "://", in small letters."""
        return self.shown.partition("://")[0]

    @property
    def host(self) -> str:
        """Returns the host; "" if the address has none."""
        return urlsplit(self.reveal()).hostname or ""

    def reveal(self) -> str:
        """Returns the whole address, for the one line that connects to it."""
        return self.secret.reveal()


def without_password(url: str) -> str:
    """Returns an address with its password blanked, in each place that a password may have."""
    return re.sub(r"([?&][a-z_]*password=)[^&]*", r"\1…", re.sub(r"(://[^:/@]*:).*@", r"\1…@", url))


def parse_broker(text: str) -> HiddenUrl:
    """Read "memory://", or the address of a Redis or RabbitMQ server. The words of a ValueError never show `text`."""
    if text == MEMORY:
        return HiddenUrl(MEMORY, Secret(MEMORY))
    parts = _split(text, "is not the address of a broker")
    if parts.scheme not in BROKERS:
        raise ValueError(f'is not the address of a broker that syncd uses ({", ".join(BROKERS)}, or "{MEMORY}")')
    return HiddenUrl(without_password(text), Secret(text))


def parse_hook(text: str) -> HiddenUrl:
    """Read the address of a web hook. Only scheme and host are shown, because the path is often the secret."""
    parts = _split(text, "is not the address of a web page")
    if parts.scheme not in {"https", "http"}:
        raise ValueError("is not the address of a web page: it begins neither with https:// nor with http://")
    host = parts.netloc.rpartition("@")[2]
    more = text.partition("://")[2].rpartition("@")[2].removeprefix(host).strip("/")
    return HiddenUrl(f"{parts.scheme}://{host}/{'…' if more else ''}", Secret(text))


def _split(text: str, reason: str) -> SplitResult:
    advice = f"{reason}; in a password, write %40 for @, %2F for /, %3A for : and %23 for #"
    try:
        parts = urlsplit(text)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError as error:  # the port is not a number, or brackets are unbalanced
        raise ValueError(advice) from error
    if not usable or any(c.isspace() or not c.isprintable() for c in text):
        raise ValueError(advice)
    return parts


def parse_listen(text: str) -> tuple[str, int]:
    """Returns host and port of "127.0.0.1:8425" or "[::1]:8425"; port 0 is any free one."""
    match = _HOST_AND_PORT.match(text)
    if match is None or int(match["port"]) > 65535:
        raise ValueError("is not an address and a port")
    return match["literal"] or match["host"], int(match["port"])


def parse_base_url(text: str) -> str:
    """Returns scheme, host and port of "https://mail.example.org": the origin of the page (RFC 6454)."""
    parts = _split(text, "is not the address of a web page")
    if parts.scheme not in {"https", "http"} or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("must be https:// or http:// with a host, and perhaps a port, and nothing after it")
    if "@" in parts.netloc:
        raise ValueError("must have no user name and no password")
    return f"{parts.scheme}://{parts.netloc.lower()}"
