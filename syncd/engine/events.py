"""Events of a run, as values, and its report. Screens, logs and metrics listen; the engine depends on none of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from syncd.engine.exit_codes import ExitCode
from syncd.engine.mapping import Why
from syncd.engine.plan import Would
from syncd.errors import printable
from syncd.mail.mailbox import Path
from syncd.sources.base import SourceInfo

NO_COUNTS: Final[Mapping[str, int]] = MappingProxyType({})
DELIVERED_TO: Final = "delivered to {}"  # the name of a count: deliveries to one destination


class Basis(StrEnum):
    """The basis of an estimate of time."""

    JOB = "as earlier runs tell"
    ACCOUNT = "as other jobs with the same source tell"
    GUESS = "a cautious guess: 20 messages or 1 MiB a second"
    LIMIT = "at least that long because of octets_per_day"


@dataclass(frozen=True, slots=True)
class PlannedPlace:
    """The mailbox that a mailbox of the source becomes at a destination, and the rule that says so."""

    to: str
    path: Path
    why: Why


@dataclass(frozen=True, slots=True)
class MailboxPlan:
    """The plan for one mailbox of the source, told by a dry run alone. None: nobody knows.

    `messages` and `octets` are what is in it, `to_fetch` what a run would fetch. `places` are those at destinations
    that have mailboxes. `seconds` is an estimate from earlier runs.
    """

    path: Path
    use: str
    would: Would
    messages: int | None = None
    octets: int | None = None
    to_fetch: int = 0
    to_fetch_octets: int = 0
    places: tuple[PlannedPlace, ...] = ()
    seconds: float | None = None

    def as_json(self) -> dict[str, object]:
        """Returns plain values."""
        places = [{"to": it.to, "path": _shown(it.path), "why": it.why.name.lower()} for it in self.places]
        facts = {"path": _shown(self.path), "would": self.would.name.lower(), "places": places}
        return {**asdict(self), **facts}


def _shown(path: Path) -> list[str]:
    return [printable(level) for level in path]


@dataclass(slots=True)
class RunReport:
    """One run of one job: counts of messages unless the name says otherwise. Changed by the run's own thread alone."""

    job: str
    run_id: int = 0  # 0: a dry run leaves no row
    dry_run: bool = False
    exit_code: ExitCode = ExitCode.DONE
    seconds: float = 0.0
    reader_cpu_s: float = 0.0
    mailboxes: int = 0  # that the source lists
    mailboxes_opened: int = 0  # the others were as before
    listed: int = 0
    listed_octets: int = 0  # of the mailboxes that were opened
    new: int = 0
    unchanged: bool = False
    to_fetch: int = 0
    to_fetch_octets: int = 0
    to_backfill: int = 0  # an archive has them, another destination lacks them; told by a dry run alone
    mapping: tuple[MailboxPlan, ...] = ()  # told by a dry run alone, as the next one
    seconds_ahead: float | None = None  # that a run would take; told by a dry run alone
    seconds_from: Basis = Basis.GUESS
    to_make: list[str] = field(default_factory=list)  # archives that a dry run did not find, and a run makes
    fetched: int = 0
    fetched_octets: int = 0
    delivered: dict[str, int] = field(default_factory=dict)  # destination → deliveries committed
    backfilled: int = 0  # deliveries
    uncertain: int = 0  # outcomes that are not known, recorded for good: sent again or held, by the route's policy
    suspended: dict[str, datetime] = field(default_factory=dict)  # destination → when it goes on
    queued: dict[str, int] = field(default_factory=dict)  # mail server → deliveries that go on there by themselves
    recognised: int = 0  # known messages under new ids
    waiting_time: int = 0  # tried again later, by themselves
    waiting_person: int = 0
    to_remove: int = 0
    removed: int = 0
    removals_put_off: int = 0  # messages that the next slice removes first: the server wants a pause before that
    removal_unknown: int = 0  # marked for removal, and the server did not say whether it removed them
    more: bool = False  # the slice ended before the work did: the run is to be queued again
    not_before: datetime | None = None  # when its next slice may begin; None: at once
    poll_from: datetime | None = None  # only destinations wait for `not_before`: the source may be asked from then on
    news: str = ""  # of its trouble: "began", "changed", "same", "ended", or "" where there is and was none
    trouble_since: datetime | None = None
    errors: list[str] = field(default_factory=list)  # one printable line each; the first is why the run ended

    def as_json(self) -> dict[str, object]:
        """Returns the report as plain values."""
        mapping = [plan.as_json() for plan in self.mapping]
        plain = {"exit_code": int(self.exit_code), "mapping": mapping, "seconds_from": self.seconds_from.name.lower()}
        return {**asdict(self), **plain}

    def counts(self, before: Mapping[str, int] = NO_COUNTS) -> dict[str, int]:
        """Returns the counts by name, as they stand in the run's row. `before` has those of earlier slices of the run.

        What was done is added up over slices; what was found (listed, waiting, to do) is as this slice found it. What
        is to be fetched has what earlier slices fetched in it, so that it can be compared with what was fetched.
        """
        counts = {name: getattr(self, name) for name in _COUNTS}
        counts.update({DELIVERED_TO.format(name): number for name, number in self.delivered.items()})
        for name, number in before.items():
            if name not in _FOUND:
                counts[name] = counts.get(name, 0) + number
        for name, planned in (("fetched", "to_fetch"), ("fetched_octets", "to_fetch_octets")):
            if counts[planned]:
                counts[planned] += before.get(name, 0)
        return counts


_COUNTS: Final = tuple(it.name for it in fields(RunReport) if it.type == "int" and it.name != "run_id")
_FOUND: Final = frozenset(
    [
        "mailboxes",
        "listed",
        "listed_octets",
        "to_fetch",
        "to_fetch_octets",
        "to_backfill",
        "to_remove",
        "removals_put_off",
        "removal_unknown",
        "waiting_time",
        "waiting_person",
    ]
)


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run has its leases."""

    job: str
    run_id: int


@dataclass(frozen=True, slots=True)
class PhaseBegan:
    """The run begins a phase: "recovering", "connecting", "listing", "fetching", "backfilling", "removing".

    "recovering": a server is asked what became of mail that a run before left on its way; that may take some seconds.
    """

    job: str
    phase: str


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The source's session stands; `info` is what the server says of itself."""

    job: str
    info: SourceInfo


@dataclass(frozen=True, slots=True)
class Planned:
    """A mailbox is listed, recorded and compared: what lies ahead. Totals of this run so far."""

    job: str
    listed: int
    new: int
    messages: int  # fetched already, or to be fetched
    octets: int
    listed_octets: int = 0
    unchanged: bool = False  # nothing is new, missing or left to do
    mailboxes: int = 1
    mailboxes_opened: int = 1
    mailbox: str = ""  # the path of the one that is read now, where there are several


@dataclass(frozen=True, slots=True)
class Mapped:
    """A dry run has looked at every mailbox: what a run would do with each, and where it goes. For the report alone."""

    job: str
    mailboxes: tuple[MailboxPlan, ...]


@dataclass(frozen=True, slots=True)
class Committed:
    """A batch is durable: totals of this run so far."""

    job: str
    messages: int
    octets: int


@dataclass(frozen=True, slots=True)
class MessageFailed:
    """A message was not fetched, or not delivered: `number` is its number in `syncd errors`.

    `destination` is empty where it was not fetched; `why` is "unfetchable", or how its delivery ended.
    """

    job: str
    number: int
    destination: str
    why: str
    reason: str


@dataclass(frozen=True, slots=True)
class Advanced:
    """How far a phase is that fetches nothing: "backfilling" counts deliveries, "removing" messages.

    `total` is 0 where it is not known.
    """

    job: str
    phase: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Noted:
    """Something a person should know; the run goes on.

    With another `exit_code` than DONE it is one of the run's errors, and the run ends with that code or a graver one.
    """

    job: str
    text: str
    exit_code: ExitCode = ExitCode.DONE


@dataclass(frozen=True, slots=True)
class SliceEnded:
    """Work is left for another slice of the run, which may begin at `not_before`; None: at once."""

    job: str
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The run is over, whatever came of it."""

    job: str
    report: RunReport


Event = (
    RunStarted
    | PhaseBegan
    | SignedIn
    | Planned
    | Mapped
    | Committed
    | Advanced
    | MessageFailed
    | Noted
    | SliceEnded
    | RunFinished
)
Listener = Callable[[Event], None]
