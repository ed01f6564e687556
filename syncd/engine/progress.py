"""Progress of a run: events become its report, and stand in its row for whoever looks.

Counts, phase and notes ride in the transactions that the run makes anyway. Only a run that commits nothing for
WRITE_S gets a transaction for them, so a quick poll that finds nothing writes nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from operator import itemgetter
from typing import Final, NamedTuple

from syncd import clock
from syncd.db.ledger import Stored
from syncd.db.ledger.traffic import Traffic
from syncd.db.rows import Progress
from syncd.engine.context import Context
from syncd.engine.events import DELIVERED_TO, NO_COUNTS, Mapped, MessageFailed, Noted, PhaseBegan, Planned, SliceEnded
from syncd.engine.exit_codes import ExitCode
from syncd.errors import SyncdError
from syncd.mail.message import Key
from syncd.mail.outcome import Outcome, Verdict

WRITE_S: Final = 1.0  # a person who looks from elsewhere does not notice a second


_FAILED: Final = frozenset({Verdict.DEFERRED, Verdict.REJECTED, Verdict.UNCERTAIN})


class Done(NamedTuple):
    """An addition to the counts, made by a commit. `delivered`: destination → deliveries."""

    fetched: int = 0
    fetched_octets: int = 0
    delivered: Mapping[str, int] = NO_COUNTS


class KeyRanges:
    """A set of keys, most of which follow one another: two numbers for each run of them."""

    def __init__(self) -> None:
        self._ranges: list[tuple[Key, Key]] = []  # first and last key
        self._sorted = True

    def update(self, keys: Iterable[Key]) -> None:
        """Add keys, each given once."""
        known = list(keys)
        if known and max(known) - min(known) == len(known) - 1:
            self._add(min(known), max(known))
        else:
            for key in known:
                self._add(key, key)

    def _add(self, begin: Key, end: Key) -> None:
        if self._ranges and begin == self._ranges[-1][1] + 1:
            self._ranges[-1] = self._ranges[-1][0], end
        else:
            self._ranges.append((begin, end))
            self._sorted = False

    def __contains__(self, key: Key) -> bool:
        if not self._sorted:
            self._ranges.sort()
            self._sorted = True
        at = bisect_right(self._ranges, key, key=itemgetter(0)) - 1
        return at >= 0 and self._ranges[at][1] >= key


class Recorder:
    """Keeps the report of a run and the progress in its row. Used by the run's own thread alone."""

    def __init__(self, context: Context, before: Mapping[str, int] = NO_COUNTS) -> None:
        """`before` has the counts of earlier slices of the run."""
        self.codes: list[ExitCode] = []  # of errors that did not end the run
        self.fetched = KeyRanges()  # messages that this run has fetched and committed
        self._context = context
        self._before = before
        self._phase = ""
        self._notes: list[str] = []  # that the row does not have yet
        self._is_new = False  # something that the row does not have yet
        self._written_at = clock.monotonic()

    def commit(
        self,
        stored: Sequence[Stored],
        outcomes: Sequence[tuple[int, Outcome]],
        failures: Sequence[tuple[Key, SyncdError]],
        done: Done,
        *,
        grown: Mapping[int, int] | None = None,
        paced: bool = False,
        passed: Traffic | None = None,
    ) -> None:
        """Make outcomes durable, see `Ledger.commit`, and progress with them; then count what is `done`.

        With `paced=True` progress is written once in WRITE_S, for destinations that commit each message.
        """
        self.take_in()
        progress = None
        if not (paced and not self._notes and clock.monotonic() - self._written_at < WRITE_S):
            progress = self._progress(done)
        context = self._context
        context.ledger.commit(context.scope, stored, outcomes, failures, grown=grown, progress=progress, passed=passed)
        if progress is None:
            self._is_new = True
        else:
            self._wrote()
        if done.fetched:
            self.fetched.update(key for key, *_ in stored)
        self._count(done)
        self._tell_failed(outcomes, failures)

    def _tell_failed(self, outcomes: Sequence[tuple[int, Outcome]], failures: Sequence[tuple[Key, SyncdError]]) -> None:
        """Name the messages that failed."""
        job, listen = self._context.job, self._context.listen
        names = {route.row.id: route.name for route in job.routes}
        for key, error in failures:
            listen(MessageFailed(job.name, key, "", "unfetchable", str(error)))
        for route_id, outcome in outcomes:
            if outcome.verdict in _FAILED:
                name = names.get(route_id, "")
                listen(MessageFailed(job.name, outcome.key, name, outcome.verdict.value, outcome.reason))

    def idle(self) -> None:
        """Called while the run waits: progress is written if it has something new and was not written for WRITE_S."""
        self.take_in()
        if self._is_new and clock.monotonic() - self._written_at >= WRITE_S:
            self._write()

    def finish(self) -> None:
        """Write the notes that no commit has taken along. The counts are written when the run is finished."""
        self.take_in()
        if self._notes:
            with suppress(SyncdError):  # a ledger that cannot be written has ended the run, or ends it next
                self._write()

    def take_in(self) -> None:
        """Fold what was told since the last time into the report."""
        told = self._context.told
        while not told.empty():  # nobody else takes from it
            match told.get():
                case Planned() as planned:
                    self._plan(planned)
                case Mapped(_, mailboxes):
                    self._context.report.mapping = mailboxes
                case PhaseBegan(_, phase):
                    self._phase, self._is_new = phase, True
                case Noted(_, text, code):
                    self._note(text, code)
                case SliceEnded(_, not_before):
                    self._leave_more(not_before)
                case _:
                    pass

    def _plan(self, planned: Planned) -> None:
        report = self._context.report
        report.mailboxes, report.mailboxes_opened = planned.mailboxes, planned.mailboxes_opened
        report.listed, report.listed_octets = planned.listed, planned.listed_octets
        report.new, report.unchanged = planned.new, planned.unchanged
        report.to_fetch, report.to_fetch_octets = planned.messages, planned.octets
        self._is_new = True

    def _note(self, text: str, code: ExitCode) -> None:
        self._notes.append(text)
        self._is_new = True
        if code is not ExitCode.DONE:
            self.codes.append(code)
            self._context.report.errors.append(text)

    def _leave_more(self, not_before: datetime | None) -> None:
        """The earliest of several times is when the next slice has something to do."""
        report = self._context.report
        known = report.not_before
        if report.more and (known is None or not_before is None):
            report.not_before = None
        else:
            report.not_before = not_before if known is None or not_before is None else min(known, not_before)
        report.more = True

    def _count(self, done: Done) -> None:
        report = self._context.report
        report.fetched += done.fetched
        report.fetched_octets += done.fetched_octets
        for name, number in done.delivered.items():
            report.delivered[name] = report.delivered.get(name, 0) + number

    def _progress(self, done: Done) -> Progress | None:
        if self._context.report.dry_run:
            return None  # it has no row
        counts = self._context.report.counts(self._before)
        counts["fetched"] += done.fetched
        counts["fetched_octets"] += done.fetched_octets
        for name, number in done.delivered.items():
            counts[DELIVERED_TO.format(name)] = counts.get(DELIVERED_TO.format(name), 0) + number
        return Progress(self._phase, counts, tuple(self._notes))

    def _write(self) -> None:
        progress = self._progress(Done())
        if progress is not None:
            self._context.ledger.report(self._context.scope, progress)
        self._wrote()

    def _wrote(self) -> None:
        self._notes.clear()
        self._is_new = False
        self._written_at = clock.monotonic()
