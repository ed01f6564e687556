"""What happens in a run, as values. Screens, logs and metrics listen; nothing in the engine depends on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import IntEnum

from syncd.sources.base import SourceInfo


class ExitCode(IntEnum):
    """How a run ended, as the process says it."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    WAITING = 3  # done, but some messages wait for a person
    SIGN_IN_REFUSED = 4
    TEMPORARY = 5
    CONFIG_INVALID = 6
    STOPPED = 7  # by a brake, or for a confirmation
    DIFFERENCES = 8
    HELD = 10  # another run holds the job
    INTERRUPTED = 130


GRAVITY = (
    ExitCode.INTERRUPTED,
    ExitCode.CONFIG_INVALID,
    ExitCode.SIGN_IN_REFUSED,
    ExitCode.STOPPED,
    ExitCode.FAILED,
    ExitCode.DIFFERENCES,
    ExitCode.HELD,
    ExitCode.TEMPORARY,
    ExitCode.WAITING,
    ExitCode.DONE,
)


def gravest(codes: list[ExitCode]) -> ExitCode:
    """The one code that speaks for several jobs."""
    return min(codes, key=GRAVITY.index, default=ExitCode.DONE)


@dataclass(slots=True)
class RunReport:
    """One run of one job: counts of messages unless the name says otherwise."""

    job: str
    run_id: int = 0  # 0: a dry run leaves no row
    dry_run: bool = False
    exit_code: ExitCode = ExitCode.DONE
    seconds: float = 0.0
    reader_cpu_s: float = 0.0
    listed: int = 0
    listed_octets: int = 0
    new: int = 0
    unchanged: bool = False
    to_fetch: int = 0
    to_fetch_octets: int = 0
    to_pass_on: int = 0  # held by an archive, missing at another destination; told by a dry run alone
    to_make: list[str] = field(default_factory=list)  # archives that a dry run did not find, and a run makes
    fetched: int = 0
    fetched_octets: int = 0
    delivered: dict[str, int] = field(default_factory=dict)  # destination → deliveries committed
    from_archive: int = 0
    uncertain: int = 0  # outcomes that are not known, recorded for good: sent again or held, by the route's policy
    suspended: dict[str, datetime] = field(default_factory=dict)  # destination → when it goes on
    queued: dict[str, int] = field(default_factory=dict)  # mail server → deliveries that go on there by themselves
    recognised: int = 0  # known messages under new unique-ids
    waiting_time: int = 0  # tried again later, by themselves
    waiting_person: int = 0
    to_remove: int = 0
    removed: int = 0
    errors: list[str] = field(default_factory=list)  # one printable line each; the first is why the run ended

    def as_json(self) -> dict[str, object]:
        """The report as plain values."""
        return {**asdict(self), "exit_code": int(self.exit_code)}


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run has its leases."""

    job: str
    run_id: int


@dataclass(frozen=True, slots=True)
class PhaseBegan:
    """What the run does now: "connecting", "listing", "fetching", "removing", "reading the archive"."""

    job: str
    phase: str


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The source's session stands; `info` is what the server says of itself."""

    job: str
    info: SourceInfo


@dataclass(frozen=True, slots=True)
class Planned:
    """The listing is recorded and compared: what lies ahead."""

    job: str
    listed: int
    new: int
    messages: int  # to be fetched
    octets: int


@dataclass(frozen=True, slots=True)
class Committed:
    """A batch is durable: totals of this run so far."""

    job: str
    messages: int
    octets: int


@dataclass(frozen=True, slots=True)
class Noted:
    """Something a person should know; the run goes on."""

    job: str
    text: str


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The run is over, whatever came of it."""

    job: str
    report: RunReport


Event = RunStarted | PhaseBegan | SignedIn | Planned | Committed | Noted | RunFinished
Listener = Callable[[Event], None]
