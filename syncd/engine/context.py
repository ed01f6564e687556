"""The parts that the threads of one run share, and how long the run may work."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from queue import SimpleQueue
from typing import Final

from syncd import clock
from syncd.db.ledger import Ledger
from syncd.db.rows import RunScope
from syncd.engine.budget import RunRoom
from syncd.engine.events import Event, Listener, Noted, PhaseBegan, RunReport, SliceEnded
from syncd.engine.exit_codes import ExitCode
from syncd.engine.job import Job
from syncd.engine.suspension import Pause

SHORT_WAIT_S: Final = 5.0  # a thread of a worker waits so long for a server; the run is queued again for longer


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Slice:
    """The time that a run has before it is queued again; without arguments it has no end.

    The run looks at `over` before each message, mailbox, page and batch that is read back from an archive. From then on
    it asks for nothing more: what is under way is delivered and committed, the session ends by QUIT, and the report has
    `more` where work is left. The end of a slice never cuts a message, so a run may take longer than its slice.

    A run that is not `patient` does not wait for what takes longer than SHORT_WAIT_S (LOGIN-DELAY, a limit, a
    suspension): then the report has `more`, and `not_before` says when to go on. That is no failure.
    """

    deadline: float = math.inf  # by `clock.monotonic`
    stop: Callable[[], bool] = _never  # asked often and from any thread, such as `threading.Event.is_set`
    patient: bool = True

    @classmethod
    def lasting(cls, seconds: float, stop: Callable[[], bool] = _never) -> Slice:
        """Returns a worker's slice: it begins now and ends after so many seconds, or when `stop` returns True."""
        return cls(clock.monotonic() + seconds, stop, patient=False)

    @property
    def over(self) -> bool:
        """Returns whether nothing more is to be begun."""
        return self.stop() or clock.monotonic() >= self.deadline

    def waits(self, seconds: float) -> bool:
        """Returns whether the run's thread may wait so long."""
        return self.patient or seconds <= SHORT_WAIT_S


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of one run. `report` belongs to the run's own thread; readers say what happens by `tell`."""

    job: Job
    scope: RunScope
    ledger: Ledger
    room: RunRoom
    listen: Listener
    report: RunReport
    slice: Slice = field(default_factory=Slice)
    pause: Pause = field(default_factory=Pause)
    told: SimpleQueue[Event] = field(default_factory=SimpleQueue)  # `progress.Recorder` takes from it

    def tell(self, event: Event) -> None:
        """Tell who listens at once, and the run's own thread when it looks. From any thread."""
        self.listen(event)
        self.told.put(event)

    def begin(self, phase: str) -> None:
        """Tell what the run does from now on."""
        self.tell(PhaseBegan(self.job.name, phase))

    def leave_more(self, not_before: datetime | None = None) -> None:
        """Tell that work is left for another slice, which may begin at `not_before`; None: at once."""
        self.tell(SliceEnded(self.job.name, not_before))

    def note(self, text: str, exit_code: ExitCode = ExitCode.DONE) -> None:
        """Tell a person something, see `events.Noted`."""
        self.tell(Noted(self.job.name, text, exit_code))
