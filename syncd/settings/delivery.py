"""Where a job's mail goes, and on what terms: these, where nothing is written.

    sender      "account" where the username is an address, else "empty"
    uncertain   "resend"        trace   true        resent      false
    long_lines  "send"          rate, per_day: none
    eight_bit   "refuse"; for lmtp "send", as mail that is put into a mailbox goes no further

Archives have none of them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import (
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic_core.core_schema import CoreSchema

from syncd.settings import values
from syncd.settings.fields import SENDERS, Rate, Recipients, Sender, Table, Text


class Uncertain(StrEnum):
    """What becomes of a message that was sent and whose reply was lost."""

    RESEND = "resend"
    HOLD = "hold"


class AsItIs(StrEnum):
    """Whether a message that a server may not like is sent as it is."""

    SEND = "send"
    REFUSE = "refuse"


class JobDestination(Table):
    """An archive, or an account with its options; plain text stands for `{ to = text }`.

    All but `to` are for SMTP and LMTP.
    """

    to: Text = Field(description="the name of an archive or account", examples=["home"])
    recipient: Recipients | None = Field(
        default=None, description="who gets it; several each get a copy", examples=["me@example.org"]
    )
    sender: Sender | None = Field(
        default=None,
        description="who is told of trouble: nobody, the account's owner, the writer, or an address",
        examples=[*SENDERS, "me@example.org"],
    )
    uncertain: Uncertain | None = Field(
        default=None, description="a message whose reply was lost: sent again, or held", examples=[*Uncertain]
    )
    trace: bool | None = Field(
        default=None, description="put Received and X-Syncd-Id before it", examples=[True, False]
    )
    resent: bool | None = Field(default=None, description="put a Resent- block before it", examples=[True, False])
    long_lines: AsItIs | None = Field(
        default=None, description="lines over 998 octets, where the server lacks CHUNKING", examples=[*AsItIs]
    )
    eight_bit: AsItIs | None = Field(
        default=None, description="8-bit messages, where the server lacks 8BITMIME", examples=[*AsItIs]
    )
    rate: Rate | None = Field(default=None, description="at most so many messages a time", examples=["20/minute"])
    per_day: int | None = Field(
        default=None, ge=1, le=10_000_000, description="at most so many messages in any 24 hours", examples=[2000]
    )

    @model_validator(mode="before")
    @classmethod
    def _plain_name(cls, value: object) -> object:
        return {"to": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> Any:
        """As it was written: what follows from the account is left out."""
        written = {key: value for key, value in handler(self).items() if value is not None}
        return written["to"] if len(written) == 1 else written

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Tell editors of the short form too."""
        return {"anyOf": [{"type": "string", "examples": ["home"]}, handler(core)]}

    @property
    def limits(self) -> list[values.Rate]:
        """How many messages may leave in how long."""
        day = None if self.per_day is None else values.Rate(f"{self.per_day:,}/day", self.per_day, 86_400)
        return [rate for rate in (self.rate, day) if rate is not None]

    @property
    def options(self) -> list[str]:
        """The keys besides `to` that are set."""
        return [key for key in type(self).model_fields if key != "to" and getattr(self, key) is not None]
