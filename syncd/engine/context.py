"""The parts that the threads of one run share."""

from __future__ import annotations

from dataclasses import dataclass, field
from queue import SimpleQueue

from syncd.db.ledger import Ledger
from syncd.db.rows import RunScope
from syncd.engine.budget import RunRoom
from syncd.engine.events import Event, Listener, Noted, PhaseBegan, RunReport
from syncd.engine.exit_codes import ExitCode
from syncd.engine.job import Job
from syncd.engine.suspension import Pause


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of one run. `report` belongs to the run's own thread; readers say what happens by `tell`."""

    job: Job
    scope: RunScope
    ledger: Ledger
    room: RunRoom
    listen: Listener
    report: RunReport
    pause: Pause = field(default_factory=Pause)
    told: SimpleQueue[Event] = field(default_factory=SimpleQueue)  # `progress.Recorder` takes from it

    def tell(self, event: Event) -> None:
        """Tell who listens at once, and the run's own thread when it looks. From any thread."""
        self.listen(event)
        self.told.put(event)

    def begin(self, phase: str) -> None:
        """Tell what the run does from now on."""
        self.tell(PhaseBegan(self.job.name, phase))

    def note(self, text: str, exit_code: ExitCode = ExitCode.DONE) -> None:
        """Tell a person something, see `events.Noted`."""
        self.tell(Noted(self.job.name, text, exit_code))
