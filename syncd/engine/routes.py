"""The routes that take deliveries in a run: opened when there is something for them, left out when they fail.

Where an error says that later runs should not try a destination either, it is suspended.
"""

from __future__ import annotations

from contextlib import nullcontext

from syncd.db.ledger import of_account, of_route
from syncd.db.rows import Cause, Suspension
from syncd.destinations.base import Filing, Spelling
from syncd.engine.context import Context
from syncd.engine.exit_codes import exit_code
from syncd.engine.job import Route
from syncd.engine.opening import Opening, open_now
from syncd.engine.progress import Recorder
from syncd.engine.suspension import Known, postponement, refusal, subjects, suspended, throttled
from syncd.engine.turn import Turn
from syncd.errors import AuthRefused, DestinationRefuses, Scope, SyncdError, Throttled
from syncd.mail.message import Key


class Routes:
    """The routes of a run. For one thread at a time (`turn`)."""

    def __init__(self, context: Context, recorder: Recorder) -> None:
        self._context = context
        self._job = context.job
        self._ledger = context.ledger
        self._report = context.report
        self._recorder = recorder
        self._patient = context.slice.patient
        self.in_use = list(context.job.routes)
        self.left_out: list[SyncdError] = []  # why the others are not in use
        self.known = Known(context.job, context.ledger)
        self._ready: set[int] = set()  # routes whose destination is open
        self._openings: dict[int, Opening] = {}  # by route: those under way
        self._lifted: set[int] = set()  # routes that accepted something

    def check(self) -> None:
        """Raise a destination's error when none is left."""
        if not self.in_use:
            raise self.left_out[-1]

    def passes_over(self, route: Route) -> bool:
        """Leave a destination out if it is suspended; returns whether it is."""
        suspension = suspended(self._job, self.known, route)
        if suspension is not None and self._patient:
            self._suspend(route, suspension, obeyed=True)
        elif suspension is not None:
            self._postpone(route, suspension)
        return suspension is not None

    def look_at(self, route: Route) -> None:
        """See that a destination may be used; it is left out where it may not.

        An archive is opened when there is something for it, and an IMAP account is signed in to then: a run that finds
        nothing new writes to none. An archive whose mailboxes the reader compares has to be open for that.
        """
        archive = route.archive
        if is_remote(route):
            return
        if archive is None or isinstance(route.destination, Filing):
            self.ready(route)
            return
        try:
            archive.recognise()
        except SyncdError as error:
            if error.scope is Scope.RUN:
                raise
            self.leave_out(route, error)

    def begin_opening(self) -> bool:
        """Begin to sign in to destinations that are sure to get something, for the reader to connect meanwhile.

        Returns whether there are such.
        """
        remote = [route for route in self.in_use if is_remote(route) and route.row.id not in self._ready]
        if remote and not self._report.dry_run:
            sure = self._ledger.expecting(self._context.scope, [route.row.id for route in remote])
            self._openings = {route.row.id: Opening(route) for route in remote if route.row.id in sure}
        return bool(self._openings)

    def end_opening(self) -> None:
        """Wait for what `begin_opening` began. Raises the destination's error when none is left."""
        for route in [route for route in self.in_use if route.row.id in self._openings]:
            self.ready(route)
        self.check()

    def ready(self, route: Route, turn: Turn | None = None) -> bool:
        """Open a destination, once; returns False where it failed and is left out. Raises LeaseHeld.

        In a `turn` it is given up meanwhile: a run of another job may have the connection.
        """
        if route.row.id in self._ready or self._report.dry_run:
            return True
        if route not in self.in_use:
            return False
        opening = self._openings.pop(route.row.id, None)
        try:
            with nullcontext() if turn is None else turn.given_up():
                if opening is None:
                    open_now(route)
                else:
                    opening.wait()
        except SyncdError as error:
            if error.scope is Scope.RUN:
                raise
            self.fail(route, error)
            return False
        remember(self._context, route)
        self._ready.add(route.row.id)
        return True

    def may_write(self, route: Route) -> bool:
        """Take the lease of an archive and open it."""
        route.take()
        return self.ready(route)

    def leave_out(self, route: Route, error: SyncdError) -> None:
        """Go on without a destination that failed; what it lacks stays pending."""
        self._recorder.codes.append(exit_code(error))
        self._report.errors.append(f"{route.name}: {error}")
        self._leave_out(route, error)

    def _leave_out(self, route: Route, error: SyncdError) -> None:
        self.in_use.remove(route)
        self.left_out.append(error)
        if self.in_use:
            self._context.note(f"{route.name} is left out for the rest of this run: {error}")

    @property
    def repeat_safe(self) -> list[Route]:
        """Returns those in use that take the same message again without harm: archives."""
        return [route for route in self.in_use if route.repeats]

    @property
    def others(self) -> list[Route]:
        """Returns the others in use, which are written to message by message."""
        return [route for route in self.in_use if not route.repeats]

    def fail(self, route: Route, error: SyncdError) -> None:
        """Leave a destination out, and suspend it if its error says that later runs should not try it either."""
        if route not in self.in_use:
            return  # by the thread of another connection, just now
        suspensions = self._ledger.suspensions
        match error:
            case DestinationRefuses():
                suspension = suspensions.back_off(of_route(route.row.id), Cause.REFUSED, str(error))
                self._suspend(route, suspension)
            case AuthRefused():
                account_id = route.row.account_id
                assert account_id is not None, "only a destination with an account signs in"
                suspension = suspensions.back_off(of_account(account_id), Cause.SIGN_IN, str(error))
                for other in [it for it in self.in_use if it.row.account_id == account_id]:
                    self._suspend(other, suspension)
            case Throttled():
                suspension = throttled(route, error)
                suspensions.put(of_route(route.row.id), suspension)
                (self._suspend if self._patient else self._postpone)(route, suspension)
            case _:
                self.leave_out(route, error)

    def _suspend(self, route: Route, suspension: Suspension, *, obeyed: bool = False) -> None:
        self._report.suspended[route.name] = suspension.until
        self.leave_out(route, refusal(self._job.name, suspension, obeyed=obeyed))

    def _postpone(self, route: Route, suspension: Suspension) -> None:
        """Leave out a destination that a later slice goes on with: nothing failed."""
        self._report.suspended[route.name] = suspension.until
        self._leave_out(route, postponement(suspension))

    def lift(self, route: Route, accepted: set[Key]) -> None:
        """End the suspensions of a destination that accepts mail."""
        if accepted and route in self.in_use and route.row.id not in self._lifted:
            self._lifted.add(route.row.id)
            self._ledger.suspensions.lift(subjects(route))


def remember(context: Context, route: Route, *, away: bool = False) -> None:
    """Have a destination remember what mailboxes became there in earlier runs. With `away=True` it could not be opened.

    Then all of them count as being there.
    """
    there = route.destination
    if isinstance(there, Spelling):
        became = context.ledger.mailboxes.became(context.scope.account_id, route.row.id)
        route.paths.remember(became, (lambda _: True) if away else there.is_there)


def is_remote(route: Route) -> bool:
    """Returns whether a destination has mailboxes that only a sign-in tells."""
    return route.archive is None and isinstance(route.destination, Filing)
