"""The types of single settings: how a value is read, checked and shown.

Each takes the value of a file or variable and raises ValueError with a reason; `mistakes.py` adds the rest of the line.
"""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema

from syncd.auth.credentials import SecretKind, SecretReference, parse_reference
from syncd.mail.addresses import is_address
from syncd.net.proxy import Proxy, parse_proxy
from syncd.settings import values
from syncd.settings.paths import absolute, folder, path_reason
from syncd.settings.quiet import QuietHours, parse_quiet_hours
from syncd.settings.schedules import Schedule, parse_schedule
from syncd.settings.urls import HiddenUrl, parse_base_url, parse_broker, parse_hook, parse_listen
from syncd.smtp.names import is_full_name, is_literal

NAME: Final = r"^[a-z0-9][a-z0-9._-]*$"
MAX_LABEL_CHARACTERS: Final = 63  # of a host name, between two dots (RFC 1035 §2.3.4)
_DATABASE: Final = re.compile(
    r"sqlite:///(?P<path>.+)"
    r"|postgresql(?:\+psycopg)?://(?:[^:/@]*(?::[^@]*)?@)?(?:\[[^/?\]]+\]|[^/:?@]*)(?::[0-9]+)?/[^?]+(?:\?.*)?"
)
MAX_JITTER: Final = timedelta(days=1)  # of a schedule: more would mix up its days
SENDERS: Final = ("empty", "account", "original")  # choices of the envelope sender besides an address


class Table(BaseModel):
    """A table of the file. Unknown keys are refused; values do not change after they were read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _one_line(text: str) -> str:
    if any(not c.isprintable() for c in text):
        raise ValueError(
            "has a control character; in double quotes a backslash begins an escape, and single quotes keep it"
            " ('DOMAIN\\user')"
        )
    return text


def _host(text: str) -> str:
    """Check a bare name or address: "pop.example.net", "192.0.2.1", "2001:db8::1"."""
    if "/" in text or "@" in text or (text.count(":") == 1 or "]" in text):
        raise ValueError("must be the name or address of the server alone; the port has its own key")
    if not text or any(c.isspace() or not c.isprintable() for c in text):
        raise ValueError("is not the name or address of a server")
    if not _is_host_name(text):
        raise ValueError("cannot be the name of a host: a part between dots is empty, too long, or not of letters")
    return text


def _is_host_name(text: str) -> bool:
    """Returns whether a name can be looked up: its parts have 1 to 63 characters, in ASCII or as IDNA writes them."""
    if text.isascii():
        return all(0 < len(label) <= MAX_LABEL_CHARACTERS for label in text.removesuffix(".").split("."))
    try:
        text.encode("idna")
    except UnicodeError:
        return False
    return True


def _database(url: str) -> str:
    match = _DATABASE.fullmatch(url)
    if match is None:
        raise ValueError("is not the address of a database")
    if match["path"] is not None and (reason := path_reason(match["path"])):
        raise ValueError(reason)
    return url


def _ehlo_name(name: str) -> str:
    if not (is_full_name(name) or is_literal(name)):
        raise ValueError("is neither a full host name nor an address in brackets")
    return name


def _proxy(value: object) -> Proxy:
    return value if isinstance(value, Proxy) else parse_proxy(str(value))


def _time_zone(name: str) -> str:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("is not a time zone of the IANA list") from None
    return name


def _fingerprint(text: str) -> str:
    """Returns the digits of a SHA-256 fingerprint, written in any case, with or without colons and "sha256:"."""
    digits = text.lower().removeprefix("sha256:").replace(":", "")
    if len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
        raise ValueError("is not a SHA-256 fingerprint of 64 hexadecimal digits, with or without colons")
    return digits


def _reference(value: object) -> SecretReference:
    if isinstance(value, SecretReference):
        return value
    reference = parse_reference(_one_line(str(value)))
    if reference.kind is SecretKind.FILE and (reason := path_reason(reference.target)):
        raise ValueError(reason)
    return reference


def _schedule(value: object) -> Schedule:
    return value if isinstance(value, Schedule) else parse_schedule(value)


def _span(value: object) -> timedelta:
    return value if isinstance(value, timedelta) else values.parse_duration(value)


def _jitter(value: object) -> timedelta:
    span = _span(value)
    if span > MAX_JITTER:
        raise ValueError("is longer than a day")
    return span


def _quiet_hours(value: object) -> QuietHours:
    return value if isinstance(value, QuietHours) else parse_quiet_hours(value)


def _broker(value: object) -> HiddenUrl:
    return value if isinstance(value, HiddenUrl) else parse_broker(str(value))


def _hook(value: object) -> HiddenUrl:
    return value if isinstance(value, HiddenUrl) else parse_hook(str(value))


def _listen(text: str) -> str:
    if text:
        parse_listen(text)
    return text


def _network(text: str) -> str:
    """Check an IP address or a network of them: "127.0.0.1", "10.0.0.0/8", "::1"."""
    try:
        return str(ip_network(text)) if "/" in text else str(ip_address(text))
    except ValueError as error:
        raise ValueError("is neither an IP address nor a network of them") from error


def _leave(value: object) -> bool | timedelta:
    if isinstance(value, bool | timedelta):
        return value
    if value in ("true", "false"):  # from the environment
        return value == "true"
    return values.parse_duration(value)


def _show_leave(value: bool | timedelta) -> bool | str:  # noqa: FBT001 (it is a value here, not a switch)
    return value if isinstance(value, bool) else values.show_duration(value)


def _address(text: object) -> str:
    """Check an address as it stands in an envelope (RFC 5321 §4.1.2), without name and angle brackets."""
    if not isinstance(text, str) or not is_address(text):
        raise ValueError("is not a mail address")
    return text


def _recipients(value: object) -> tuple[str, ...]:
    addresses = [value] if isinstance(value, str) else value
    if not isinstance(addresses, list | tuple) or not addresses:
        raise ValueError("is neither an address nor a list of addresses")
    for address in addresses:
        if not isinstance(address, str) or not is_address(address):
            raise ValueError(f"has {address!r}, which is not a mail address")
    if len({address.lower() for address in addresses}) < len(addresses):
        raise ValueError("has an address twice")
    return tuple(addresses)


def _show_recipients(value: tuple[str, ...]) -> str | list[str]:
    return value[0] if len(value) == 1 else list(value)


def path_levels(text: str) -> tuple[str, ...]:
    """Returns the levels of a mailbox's path, which stand between "/"."""
    return tuple(text.split("/"))


def _mailbox_path(text: object) -> str:
    if not isinstance(text, str) or not text.isprintable() or "" in path_levels(text):
        raise ValueError("is not the path of a mailbox: names with / between them")
    return text


def _path_map(value: object) -> tuple[tuple[str, str], ...]:
    """Check a table of paths. It becomes a tuple, which can be hashed."""
    pairs = value.items() if isinstance(value, dict) else value if isinstance(value, tuple) else None
    if not pairs:
        raise ValueError("is not a table of paths")
    return tuple((_one_line(str(name)), _mailbox_path(path)) for name, path in pairs)


def _sender(value: object) -> str:
    return value if value in SENDERS and isinstance(value, str) else _address(value)


def _rate(value: object) -> values.Rate:
    return value if isinstance(value, values.Rate) else values.parse_rate(value)


def _text_schema(*examples: object) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "examples": list(examples)})


Name = Annotated[str, Field(pattern=NAME, max_length=100)]
Text = Annotated[str, Field(min_length=1), AfterValidator(_one_line)]
Location = Annotated[Path, AfterValidator(absolute)]
Folder = Annotated[Path, AfterValidator(absolute), AfterValidator(folder)]
DatabaseUrl = Annotated[str, AfterValidator(_database)]
Host = Annotated[str, AfterValidator(_host)]
EhloName = Annotated[str, AfterValidator(_ehlo_name)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
Fingerprint = Annotated[str, AfterValidator(_fingerprint)]
Reference = Annotated[SecretReference, PlainValidator(_reference), PlainSerializer(str), _text_schema("env:PASSWORD")]
ProxyUrl = Annotated[
    Proxy, PlainValidator(_proxy), PlainSerializer(str), _text_schema("socks5://localhost:1080", "http://proxy:3128")
]
BrokerUrl = Annotated[
    HiddenUrl, PlainValidator(_broker), PlainSerializer(str), _text_schema("memory://", "redis://localhost:6379/0")
]
Hook = Annotated[HiddenUrl, PlainValidator(_hook), PlainSerializer(str), _text_schema("https://example.org/hook")]
Network = Annotated[str, AfterValidator(_network)]
Listen = Annotated[str, AfterValidator(_listen)]
BaseUrl = Annotated[str, AfterValidator(parse_base_url)]
Proxies = Annotated[tuple[Network, ...], Field(max_length=64)]
When = Annotated[Schedule, PlainValidator(_schedule), PlainSerializer(str), _text_schema("every 15 minutes")]
Quiet = Annotated[QuietHours, PlainValidator(_quiet_hours), PlainSerializer(str), _text_schema("22:00-06:00")]
Span = Annotated[
    timedelta, PlainValidator(_span), PlainSerializer(values.show_duration), _text_schema("6 hours", "90 days")
]
Jitter = Annotated[timedelta, PlainValidator(_jitter), PlainSerializer(values.show_duration), _text_schema("2 minutes")]
Leave = Annotated[
    bool | timedelta,
    PlainValidator(_leave),
    PlainSerializer(_show_leave),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "string"}], "examples": [True, False, "30 days"]}),
]
Octets = Annotated[
    int,
    PlainValidator(values.parse_octets),
    PlainSerializer(values.show_octets),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string"}], "examples": ["2 GiB"]}),
]
Recipients = Annotated[
    tuple[str, ...],
    PlainValidator(_recipients),
    PlainSerializer(_show_recipients),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]
MailboxPath = Annotated[str, PlainValidator(_mailbox_path), _text_schema("Old mail")]
PathMap = Annotated[
    tuple[tuple[str, str], ...],
    PlainValidator(_path_map),
    PlainSerializer(dict),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": "string"}, "examples": [{"Gesendet": "Sent"}]}),
]
Sender = Annotated[str, PlainValidator(_sender), _text_schema(*SENDERS, "me@example.org")]
Rate = Annotated[values.Rate, PlainValidator(_rate), PlainSerializer(str), _text_schema("20/minute")]
