"""The types of single settings: what one value may be, and how it is shown again.

Each takes what a file or a variable holds and raises ValueError with a reason; `mistakes.py` adds the rest of the line.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema

from syncd.auth.credentials import SecretReference, parse_reference
from syncd.mail.addresses import is_address
from syncd.settings import values

NAME: Final = r"^[a-z0-9][a-z0-9._-]*$"
SENDERS: Final = ("empty", "account", "original")  # envelope senders that are no address


class Table(BaseModel):
    """A table of the file: nothing unknown in it, nothing changed after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _one_line(text: str) -> str:
    if any(not c.isprintable() for c in text):
        raise ValueError("has a control character")
    return text


def _host(text: str) -> str:
    """A name or an address, nothing around it: "pop.example.net", "192.0.2.1", "2001:db8::1"."""
    if "/" in text or "@" in text or (text.count(":") == 1 or "]" in text):
        raise ValueError("must be the bare name or address of the server; the port has a key of its own")
    if not text or any(c.isspace() or not c.isprintable() for c in text):
        raise ValueError("is not the name or address of a server")
    return text


def _absolute(path: Path) -> Path:
    """`load` has put the file's folder before relative paths, so only what it could not read is left relative."""
    if not str(path).isprintable():
        raise ValueError("has a control character")
    if not path.is_absolute():
        raise ValueError("is not a path (an empty one, or ~ with a user that this machine does not know)")
    return path


def _time_zone(name: str) -> str:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("is not a time zone of the IANA list") from None
    return name


def _fingerprint(text: str) -> str:
    """SHA-256 of the certificate in hex: any case, with or without colons (as openssl prints it) and "sha256:"."""
    digits = text.lower().removeprefix("sha256:").replace(":", "")
    if len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
        raise ValueError("is not a SHA-256 fingerprint: 64 hexadecimal digits, colons between them if you like")
    return digits


def _reference(value: object) -> SecretReference:
    return value if isinstance(value, SecretReference) else parse_reference(str(value))


def _schedule(value: object) -> values.Schedule:
    return value if isinstance(value, values.Schedule) else values.parse_schedule(value)


def _leave(value: object) -> bool | timedelta:
    if isinstance(value, bool | timedelta):
        return value
    if value in ("true", "false"):  # from the environment
        return value == "true"
    return values.parse_duration(value)


def _show_leave(value: bool | timedelta) -> bool | str:  # noqa: FBT001 (it is a value here, not a switch)
    return value if isinstance(value, bool) else values.show_duration(value)


def _address(text: object) -> str:
    """One mailbox as an envelope has it (RFC 5321 §4.1.2): no name, no angle brackets."""
    if not isinstance(text, str) or not is_address(text):
        raise ValueError("is not the address of a mailbox")
    return text


def _recipients(value: object) -> tuple[str, ...]:
    addresses = [value] if isinstance(value, str) else value
    if not isinstance(addresses, list | tuple) or not addresses:
        raise ValueError("is neither an address nor a list of addresses")
    for address in addresses:
        if not isinstance(address, str) or not is_address(address):
            raise ValueError(f"has {address!r}, which is not the address of a mailbox")
    if len({address.lower() for address in addresses}) < len(addresses):
        raise ValueError("names an address twice")
    return tuple(addresses)


def _show_recipients(value: tuple[str, ...]) -> str | list[str]:
    return value[0] if len(value) == 1 else list(value)


def _sender(value: object) -> str:
    return value if value in SENDERS and isinstance(value, str) else _address(value)


def _rate(value: object) -> values.Rate:
    return value if isinstance(value, values.Rate) else values.parse_rate(value)


def _text_schema(*examples: object) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "examples": list(examples)})


Name = Annotated[str, Field(pattern=NAME, max_length=100)]
Text = Annotated[str, Field(min_length=1), AfterValidator(_one_line)]
Location = Annotated[Path, AfterValidator(_absolute)]
Host = Annotated[str, AfterValidator(_host)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
Fingerprint = Annotated[str, AfterValidator(_fingerprint)]
Reference = Annotated[SecretReference, PlainValidator(_reference), PlainSerializer(str), _text_schema("env:PASSWORD")]
When = Annotated[values.Schedule, PlainValidator(_schedule), PlainSerializer(str), _text_schema("every 15 minutes")]
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
Sender = Annotated[str, PlainValidator(_sender), _text_schema(*SENDERS, "me@example.org")]
Rate = Annotated[values.Rate, PlainValidator(_rate), PlainSerializer(str), _text_schema("20/minute")]
