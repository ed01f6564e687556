"""The shapes of the API that the command line does not have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from syncd.services.overview import RunSummary
from syncd.services.panel import JobLine
from syncd.services.selection import Why


class ProblemDetails(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


class Asked(BaseModel):
    """A run that was asked for, or is open already."""

    run_id: int


class Changed(BaseModel):
    """The answer to a change of a job. `changed` is False where it was so before."""

    job: str
    changed: bool


class Ended(BaseModel):
    """A run that was cancelled: `closed` at once, or its worker was asked to stop."""

    run_id: int
    closed: bool


class Begun(BaseModel):
    """Work that takes longer than an answer may; its address tells how it stands."""

    at: str


class ErrandEnded(BaseModel):
    """The answer to a wish to cancel. `cancelled` is False where nothing was under way."""

    cancelled: bool


class VerifyHow(BaseModel):
    """How a job is to be verified."""

    model_config = ConfigDict(extra="forbid")

    read: bool = Field(default=False, description="read every message at both ends, and compare its SHA-256")


class Resumed(BaseModel):
    """The answer to a suspended account that is to be contacted again."""

    account: str
    changed: bool


class Selection(BaseModel):
    """Waiting messages. All that is given must match; nothing given selects all that wait."""

    model_config = ConfigDict(extra="forbid")

    job: str | None = Field(default=None, max_length=200)
    numbers: list[Annotated[int, Field(ge=1, lt=1 << 63)]] = Field(default=[], max_length=1000)
    why: list[Why] = Field(default=[], max_length=20)
    to: str | None = Field(default=None, max_length=1000, description="a destination, or one of its recipients")
    all: bool = Field(default=False, description="must be true where neither numbers nor why are given")


class Decided(BaseModel):
    """The number of messages that a decision was made about."""

    messages: int


@dataclass(frozen=True, slots=True)
class Runs:
    """A part of the history, the newest first."""

    items: list[RunSummary]
    next: str | None


@dataclass(frozen=True, slots=True)
class Jobs:
    """A part of the jobs."""

    items: list[JobLine]
    next: str | None


class Rows(BaseModel):
    """A part of a list."""

    items: list[dict[str, Any]]
    next: str | None
