"""The destinations of a job and their options.

Defaults:

    sender      "account" if the username is an address, else "empty"
    uncertain   "resend"        trace   true        resent      false
    long_lines  "send"          rate, per_day: none
    eight_bit   "refuse"; for lmtp "send", because mail that is put into a mailbox goes no further

    special_use true, unless there is a `prefix`

Archives in the format maildir take `prefix` and `map`, other archives no options. IMAP accounts take `prefix`, `map`,
`special_use`, `skip_existing` and `uncertain`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic_core.core_schema import CoreSchema

from syncd.settings import values
from syncd.settings.fields import SENDERS, MailboxPath, PathMap, Rate, Recipients, Sender, Table, Text

MAPPING: Final = frozenset({"prefix", "map"})
IMAP_OPTIONS: Final = MAPPING | {"skip_existing", "special_use", "uncertain"}


class Uncertain(StrEnum):
    """The treatment of a message that was sent and whose reply was lost."""

    RESEND = "resend"
    HOLD = "hold"
    PROBE = "probe"


class AsItIs(StrEnum):
    """The treatment of a message that a server may not like."""

    SEND = "send"
    REFUSE = "refuse"


class JobDestination(Table):
    """An archive, or an account with options; plain text stands for `{ to = text }`.

    `prefix` and `map` are for destinations with mailboxes, `special_use` and `skip_existing` for IMAP, `uncertain` for
    all mail servers; the other options but `to` are for SMTP and LMTP.
    """

    to: Text = Field(description="name of an archive or account", examples=["home"])
    recipient: Recipients | None = Field(
        default=None,
        description="address of the recipient; several recipients each get a copy",
        examples=["me@example.org"],
    )
    sender: Sender | None = Field(
        default=None,
        description="envelope sender, who gets reports of trouble: empty (nobody), account, original, or an address",
        examples=[*SENDERS, "me@example.org"],
    )
    uncertain: Uncertain | None = Field(
        default=None,
        description="a message whose reply was lost is sent again, held for a person, or first looked for (probe)",
        examples=[*Uncertain],
    )
    probe: Text | None = Field(
        default=None,
        description="imap account of the recipient, where messages are looked for whose reply was lost",
        examples=["mailbox"],
    )
    trace: bool | None = Field(
        default=None, description="put Received and X-Syncd-Id before each message", examples=[True, False]
    )
    resent: bool | None = Field(
        default=None, description="put a Resent- block before each message", examples=[True, False]
    )
    long_lines: AsItIs | None = Field(
        default=None,
        description="messages with lines over 998 octets, if the server lacks CHUNKING",
        examples=[*AsItIs],
    )
    eight_bit: AsItIs | None = Field(
        default=None, description="messages with 8-bit octets, if the server lacks 8BITMIME", examples=[*AsItIs]
    )
    rate: Rate | None = Field(
        default=None, description="largest number of messages in a second, minute, hour or day", examples=["20/minute"]
    )
    per_day: int | None = Field(
        default=None, ge=1, le=10_000_000, description="largest number of messages in any 24 hours", examples=[2000]
    )

    prefix: MailboxPath | None = Field(
        default=None, description="mailbox that all mailboxes of the source are put below", examples=["Old mail"]
    )
    map: PathMap | None = Field(
        default=None,
        description="mailbox of the source = its mailbox here; what is below it follows",
        examples=[{"Gesendet": "Sent"}],
    )

    special_use: bool | None = Field(
        default=None,
        description="Sent, Drafts, Junk, Trash and Archive become the mailboxes that have this use here",
        examples=[True, False],
    )

    skip_existing: bool | None = Field(
        default=None,
        description="recognise messages that another program has copied before, by octets and header",
        examples=[True, False],
    )

    @model_validator(mode="before")
    @classmethod
    def _plain_name(cls, value: object) -> object:
        return {"to": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> Any:
        """Returns the options as they were written, without defaults that follow from the account."""
        written = {key: value for key, value in handler(self).items() if value is not None}
        return written["to"] if len(written) == 1 else written

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Returns a schema that has the short form too, for editors."""
        return {"anyOf": [{"type": "string", "examples": ["home"]}, handler(core)]}

    @property
    def limits(self) -> list[values.Rate]:
        """Returns the limits of `rate` and `per_day`."""
        day = None if self.per_day is None else values.Rate(f"{self.per_day:,}/day", self.per_day, 86_400)
        return [rate for rate in (self.rate, day) if rate is not None]

    @property
    def mapping(self) -> list[str]:
        """Returns the keys that are set of those that say where mailboxes go."""
        return [key for key in self.options if key in IMAP_OPTIONS - {"uncertain"}]

    @property
    def by_use(self) -> bool:
        """Returns whether mailboxes are found by their special use."""
        return not self.prefix if self.special_use is None else self.special_use

    @property
    def options(self) -> list[str]:
        """Returns the keys besides `to` that are set."""
        return [key for key in type(self).model_fields if key != "to" and getattr(self, key) is not None]
