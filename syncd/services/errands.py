"""Work that takes longer than an answer of the page may: a dry run, a check of an archive.

A process does one at a time, in a thread, and keeps the newest result of each in its memory. All of it only looks, so
nothing is lost when the process ends.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from syncd import clock, crash
from syncd.engine.events import Event, Noted, RunReport
from syncd.errors import Cancelled, SyncdError, UsageError
from syncd.formats.view import Figures, Finding
from syncd.services import archive, places
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions

if TYPE_CHECKING:
    from pathlib import Path

    from syncd.settings.load import Loaded

KEPT: Final = 50  # results
MAX_FINDINGS: Final = 1000  # of an archive; more are counted
STOP_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class DryRun:
    """The result of a dry run: what a run would do, and what it noted."""

    report: RunReport
    notes: Sequence[str]


@dataclass(frozen=True, slots=True)
class ArchiveChecked:
    """The result of reading every octet of an archive again. `wrong` counts what is not harmless."""

    figures: Figures
    wrong: int
    findings: Sequence[Finding]


@dataclass(slots=True)
class Errand:
    """One piece of work. `result` is None until it has ended, and where `error` says why there is none."""

    began_at: datetime
    ended_at: datetime | None = None
    octets: int = 0  # read so far, where it reads an archive
    of_octets: int = 0  # 0: not known
    error: str = ""
    result: DryRun | ArchiveChecked | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    cancel: Callable[[], None] | None = None  # ends it sooner than it looks at `cancelled`

    def as_json(self) -> dict[str, object]:
        """Returns plain values but for the instants."""
        result: dict[str, object] = {}
        match self.result:
            case DryRun(report, notes):
                result = {"report": report.as_json(), "notes": list(notes)}
            case ArchiveChecked(figures, wrong, findings):
                result = {"figures": asdict(figures), "wrong": wrong, "findings": [it._asdict() for it in findings]}
        facts = {name: getattr(self, name) for name in ("began_at", "ended_at", "octets", "of_octets", "error")}
        return {**facts, "result": result or None}


Work = Callable[[Errand], DryRun | ArchiveChecked]


class Errands:
    """The errands of one process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], Errand] = {}
        self._thread: threading.Thread | None = None
        self._current: Errand | None = None

    def find(self, kind: str, name: str) -> Errand | None:
        """Returns the newest errand of this kind, under way or ended."""
        return self._known.get((kind, name))

    def start(self, kind: str, name: str, work: Work, state_directory: Path) -> bool:
        """Begin an errand. Returns False where this one or another one is under way."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return False
            self._current = errand = Errand(clock.now())
            self._known.pop((kind, name), None)
            self._known[kind, name] = errand
            for known in list(self._known)[:-KEPT]:
                del self._known[known]
            arguments = (errand, work, f'{kind} of "{name}"', state_directory)
            self._thread = threading.Thread(target=_do, args=arguments, name="errand", daemon=True)
            self._thread.start()
            return True

    def stop(self) -> None:
        """End what is under way, within STOP_S. Repeatable."""
        with self._lock:
            errand, thread = self._current, self._thread
        if errand is None or thread is None:
            return
        errand.cancelled.set()
        if errand.cancel is not None:
            errand.cancel()
        thread.join(STOP_S)


def dry_run(loaded: Loaded, job: str) -> Work:
    """Returns the work that signs in, lists and compares as a run of `job` would, and changes nothing."""
    apart = replace(loaded)  # with secrets of its own: a cancelled errand ends those commands, and no others

    def work(errand: Errand) -> DryRun:
        notes: list[str] = []

        def listen(event: Event) -> None:
            if isinstance(event, Noted):
                notes.append(event.text)

        runner = RunsByHand(apart, [job], RunOptions(dry_run=True), listen)
        errand.cancel = runner.cancel
        if errand.cancelled.is_set():
            raise Cancelled("the service ended")
        (report,) = runner.execute()
        return DryRun(report, notes)

    return work


def check_archive(loaded: Loaded, name: str) -> Work:
    """Returns the work that reads every octet of an archive again, and compares the archive with the ledger."""

    def work(errand: Errand) -> ArchiveChecked:
        def progress(octets: int, whole: int) -> None:
            errand.octets, errand.of_octets = octets, whole
            if errand.cancelled.is_set():
                raise Cancelled("the service ended")

        if not loaded.settings.archives[name].path.is_dir():
            raise UsageError(places.NOT_HERE)
        with closing(archive.open_view(loaded, name)) as view:
            found: list[Finding] = []
            wrong = 0
            for finding in archive.check(loaded, view, progress):
                wrong += not finding.harmless
                if len(found) < MAX_FINDINGS:
                    found.append(finding)
            return ArchiveChecked(view.figures(), wrong, found)

    return work


def _do(errand: Errand, work: Work, what: str, state_directory: Path) -> None:
    try:
        errand.result = work(errand)
    except SyncdError as error:
        errand.error = str(error)
    except Exception as error:  # noqa: BLE001 (a bug is told where the result would stand)
        errand.error = crash.line(error, crash.keep(error, state_directory, what))
    finally:
        errand.ended_at = clock.now()
