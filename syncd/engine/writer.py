"""The writer: takes batches from the pipe, delivers them to every route, commits what became of them.

Archives first: a batch for them is delivered and committed as a whole. Then the destinations that cannot be asked what
they have, message by message (`handshake.py`): where an archive has what was fetched they are served from there when
the source's session is over, so that none waits for them.

An account with several connections is written to by several threads, each with a connection and batches of its
own. They take turns (`turn.py`) at all that is not the waiting for a server.
"""

from __future__ import annotations

import contextvars
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from syncd import clock
from syncd.db.ledger import Stored
from syncd.db.ledger.traffic import Traffic
from syncd.db.rows import MailboxScope
from syncd.destinations.base import Filing, Growing, Recording, Sharing
from syncd.engine.closing import ended
from syncd.engine.context import Context
from syncd.engine.events import Advanced, Committed
from syncd.engine.handshake import Handshake, Standing
from syncd.engine.job import Route, origin
from syncd.engine.line import Line
from syncd.engine.pipe import IDLE_SECONDS, Batch, Pipe
from syncd.engine.progress import Done, Recorder
from syncd.engine.routes import Routes, is_remote
from syncd.engine.suspension import breaker
from syncd.engine.turn import Turn
from syncd.errors import Cancelled, Scope, SyncdError
from syncd.mail.allowance import Direction
from syncd.mail.mailbox import Path
from syncd.mail.message import Key, Message
from syncd.mail.outcome import Outcome, Verdict

STOPPED: Final = "stopped on request; all that was delivered is recorded, the next run goes on from here"
TELL_S: Final = 0.1  # a screen is drawn as often; each message may be a commit of its own


class Writer:
    """Runs in the thread that asked for the run, and in threads of its own where a route has several connections.

    `check_lease` raises when our right to write is running out.
    """

    def __init__(self, context: Context, recorder: Recorder, check_lease: Callable[[], None]) -> None:
        self._context = context
        self._job = context.job
        self._ledger = context.ledger
        self._room = context.room
        self._report = context.report
        self._recorder = recorder
        self._check_lease = check_lease
        self.routes = Routes(context, recorder)
        self.ahead: tuple[int, int] | None = None  # backfilling: deliveries made before it, and to be made by it
        self._extents: dict[int, int] = {}  # by route: how far its archive is durable
        self._grown: dict[int, int] = {}  # the same, where the ledger does not have it yet
        self._told_at = -TELL_S
        self._told_of_found = False
        self._turn = Turn()
        self._handshakes = {route.row.id: self._connections(route) for route in context.job.routes if not route.repeats}
        self.threads = max((len(handshakes) for handshakes in self._handshakes.values()), default=1)
        self._failures: list[BaseException] = []  # of the threads beside the run's own

    def _connections(self, route: Route) -> list[Handshake]:
        context, recorder, check_lease = self._context, self._recorder, self._check_lease
        standing = Standing(context, route, self._turn)
        brake = breaker(context.job, context.ledger, route)
        return [Handshake(context, route, recorder, check_lease, brake, standing, one) for one in standing.all]

    def drain(self, pipe: Pipe) -> None:
        """Write every batch, once all is open. Raises the reader's error, or ours when no destination is left."""
        others: list[threading.Thread] = []
        error: SyncdError | None = None
        pipe.shared = self._share
        try:
            self.routes.end_opening()
            while (batch := pipe.next(self._idle)) is not None:
                if self.threads > 1 and not others and not batch.is_errand:
                    others = self._begin_others(pipe)
                self._write_next(pipe, batch, 0)
        except SyncdError as caught:
            error = caught
        finally:
            pipe.stop()
            self._wait_for(others)
        # After a failure the reader and the other threads are told to stop, and say no more than that.
        failures = [failure for failure in (error, *self._failures) if failure is not None]
        if failures:
            raise next((failure for failure in failures if not isinstance(failure, Cancelled)), failures[0])

    def _begin_others(self, pipe: Pipe) -> list[threading.Thread]:
        """Begin the threads of all connections but the first."""
        threads = []
        for number in range(1, self.threads):
            bound = contextvars.copy_context()  # so that log lines carry run and job as well
            thread = threading.Thread(target=bound.run, args=(self._help, pipe, number), daemon=True)
            thread.name = f"writer {self._job.name} {number}"
            thread.start()
            threads.append(thread)
        return threads

    def _help(self, pipe: Pipe, number: int) -> None:
        """Write batches by one more connection, as long as it stands; hand an error to the run's own thread."""
        try:
            while self._stands(number) and (batch := pipe.next()) is not None:
                self._write_next(pipe, batch, number)
        except BaseException as error:  # noqa: BLE001  handed to the thread that can judge it
            self._failures.append(error)
            pipe.stop()

    def _stands(self, number: int) -> bool:
        return any(number < len(known) and known[number].stands for known in self._handshakes.values())

    def _share(self) -> bool:
        """Returns whether all connections may put mail into one mailbox. From any thread."""
        places = [route.destination for route in self._job.routes if not route.repeats]
        return self.threads > 1 and all(isinstance(place, Sharing) and place.shares_mailboxes() for place in places)

    def _write_next(self, pipe: Pipe, batch: Batch, number: int) -> None:
        if self._room.cancelled:
            batch.close()
            raise Cancelled(STOPPED)
        line = Line(pipe, batch)
        try:
            durable = self.write(batch, pipe.upcoming(), number, line)
        finally:
            line.end()
        room = self._room if batch.inlet is None else batch.inlet.room
        room.give(batch.taken, len(batch.messages))
        pipe.written(batch, durable=durable)

    def _idle(self) -> None:
        with self._turn:
            self._recorder.idle()

    def _wait_for(self, threads: Sequence[threading.Thread]) -> None:
        for thread in threads:
            while thread.is_alive():
                thread.join(IDLE_SECONDS)
                self._idle()

    def write(self, batch: Batch, upcoming: Batch | None = None, number: int = 0, line: Line | None = None) -> bool:
        """Deliver and commit one batch; returns True if each of its messages is now stored by some destination.

        Destinations are told of the `upcoming` batch, which is not written. What was fetched and is in an archive now
        is for archives alone. `number` is that of the connection, where a destination has several. By `line` batches
        that follow are sent before the answers to this one are read.
        """
        with self._turn:
            if batch.is_errand:
                self._run_errand(batch)
                return True
            return self._write(batch, upcoming, number, line)

    def _write(self, batch: Batch, upcoming: Batch | None, number: int, line: Line | None) -> bool:
        try:
            masks, durable = self._to_archives(batch, upcoming)
            archived = frozenset(durable if batch.fetched else ())  # served from there when the session is over
            for route in self.routes.others:
                part = [m for m in _part(route, batch.messages, masks) if m.key not in archived]
                if part and not self.routes.ready(route, self._turn):
                    continue
                self._place(route, batch.scope, part)
                following = _upcoming_part(route, upcoming)
                durable.update(self._send(route, part, following, number, whole=batch.fetched, line=line))
        finally:
            batch.close()
        self.routes.check()
        return all(m.key in durable or not mask for m, mask in zip(batch.messages, masks, strict=True))

    def finish(self) -> None:
        """Take in that nothing more is to be sent in this run: a destination that refused all it got is suspended.

        Raises the destination's error when none is left.
        """
        for route in self.routes.others:
            try:
                self._handshakes[route.row.id][0].finish()
            except SyncdError as error:
                if error.scope is Scope.RUN:
                    raise
                self.routes.fail(route, error)
        self.routes.check()

    @property
    def is_direct(self) -> bool:
        """Returns whether a destination takes one message at a time while the source's session lasts."""
        slow = any(not route.repeats and not route.asked for route in self.routes.in_use)
        return slow and not any(route.archive is not None for route in self.routes.in_use)

    def ask(self) -> None:
        """Ask destinations for what an earlier run left `sending`; call it before anything is listed or delivered."""
        for route in [route for route in self.routes.in_use if route.asked]:
            if not self._ledger.intents.find(self._context.scope, route.row.id) or not self.routes.ready(route):
                continue
            self._context.begin("recovering")
            try:
                with self._turn:
                    for _ in self._handshakes[route.row.id][0].ask(all_of_it=True):
                        self._tell()
            except SyncdError as error:
                if error.scope is Scope.RUN:
                    raise
                self.routes.fail(route, error)

    # --- archives --------------------------------------------------------------------------------------

    def _to_archives(self, batch: Batch, upcoming: Batch | None) -> tuple[list[int], set[Key]]:
        """Deliver to the archives and commit; returns the masks of what is to be delivered, and what archives store."""
        messages = batch.messages
        stored = [(m.key, m.body.octets, m.body.sha256, m.body.header_hash) for m in messages]
        masks = self._without_known(batch, stored)
        outcomes = [
            (route, outcome)
            for route in self.routes.repeat_safe
            for outcome in self._deliver(route, batch.scope, _part(route, messages, masks), upcoming)
        ]
        self._hold_found(batch.scope, outcomes)
        delivered = [(route.name, outcome.key) for route, outcome in outcomes if outcome.verdict is Verdict.DELIVERED]
        fetched = (len(messages), batch.octets) if batch.fetched else (0, 0)
        done = Done(*fetched, Counter([name for name, _ in delivered]))
        told = [(route.row.id, outcome) for route, outcome in outcomes]
        passed = None
        if self._job.allowance is not None and batch.fetched:
            passed = Traffic(self._job.account.id, Direction.DOWN, batch.octets)
        self._recorder.commit(stored, told, batch.failures, done, grown=self._grown, passed=passed)
        self._grown = {}
        self._tell()
        return masks, {key for _, key in delivered}

    def _without_known(self, batch: Batch, stored: Sequence[Stored]) -> list[int]:
        """Returns the masks without routes that need nothing of a message that is known under another id."""
        known = self._ledger.rebind(batch.scope, stored)  # also after a run that broke off amid a renaming
        if not known:
            return batch.masks
        self._report.recognised += len(known)
        return [mask & ~known.get(m.key, 0) for m, mask in zip(batch.messages, batch.masks, strict=True)]

    def _deliver(
        self, route: Route, scope: MailboxScope, messages: list[Message], upcoming: Batch | None
    ) -> list[Outcome]:
        """Deliver to an archive; the outcomes that are known, even where it failed."""
        outcomes: list[Outcome] = []
        if not messages or not self.routes.may_write(route):
            return outcomes
        self._place(route, scope, messages)
        try:
            with route.lock:
                self._check_lease()
                with ended(route.destination.deliver(messages, _upcoming_part(route, upcoming))) as groups:
                    for group in groups:
                        outcomes.extend(group)  # what was yielded before an error counts
                self._measure(route)
        except SyncdError as error:
            if error.scope is Scope.RUN:
                raise
            self.routes.leave_out(route, error)
        return outcomes

    def _place(self, route: Route, scope: MailboxScope, messages: Sequence[Message]) -> None:
        """Say which mailbox each message goes into, for destinations that have mailboxes."""
        if isinstance(route.destination, Filing) and messages:
            self._decide(route, [scope], {message.labels for message in messages})
            paths: dict[tuple[str, ...], Path] = {}  # by labels; mostly there are none
            for message in messages:
                path = paths.get(message.labels)
                if path is None:
                    path = paths[message.labels] = route.paths.of(scope.mailbox, message.labels)
                message.path = path

    def _decide(self, route: Route, scopes: Sequence[MailboxScope], labels: Iterable[tuple[str, ...]] = ((),)) -> None:
        """Note what mailboxes become, before anything is there: later runs stay with that."""
        decided = {
            (scope.mailbox_id, label): path
            for scope in scopes
            for label, path in route.paths.decide(scope.mailbox, labels).items()
        }
        if decided:
            self._ledger.mailboxes.become(route.row.id, decided)

    def _run_errand(self, batch: Batch) -> None:
        """Do what the reader waits for: have archives record mailboxes, or destinations say which they have."""
        if batch.mailboxes:
            batch.recorded = self._record(batch.mailboxes)
            return
        for route in filter(is_remote, tuple(self.routes.in_use)):
            self.routes.ready(route, self._turn)
        self.routes.check()

    def _record(self, mailboxes: Sequence[MailboxScope]) -> bool:
        """Have archives record mailboxes; returns whether all have. A failed archive is left out."""
        account = self._job.account
        able = [route for route in self._job.routes if isinstance(route.destination, Recording)]
        for route in able:
            destination = route.destination
            if route not in self.routes.in_use or not isinstance(destination, Recording):
                continue
            if not self.routes.may_write(route):
                continue
            origins = [origin(account, scope.mailbox, scope.epoch) for scope in mailboxes]
            if isinstance(destination, Filing):
                self._decide(route, mailboxes)
                paths = [route.paths.of(scope.mailbox) for scope in mailboxes]
                origins = [it._replace(path=path) for it, path in zip(origins, paths, strict=True)]
            try:
                with self._turn.given_up():  # as others may write by the same connection
                    route.lock.acquire()
                try:
                    self._check_lease()
                    destination.note_mailboxes(origins)
                    self._measure(route)
                finally:
                    route.lock.release()
            except SyncdError as error:
                if error.scope is Scope.RUN:
                    raise
                self.routes.fail(route, error)
        self.routes.check()
        return all(route in self.routes.in_use for route in able)

    def _hold_found(self, scope: MailboxScope, outcomes: Iterable[tuple[Route, Outcome]]) -> None:
        """Hold what an archive had before this ledger knew it: it may have been sent, which is for a person to say."""
        found = [(outcome.key, outcome.there_since) for _, outcome in outcomes if outcome.there_since is not None]
        if not found or all(route.repeats for route in self._job.routes):
            return
        if self._ledger.archives.hold_found(scope, found) and not self._told_of_found:
            self._told_of_found = True
            line = "what was in the archive before this ledger was there may have been sent, and is held for you"
            self._context.note(f"{line}; see: syncd errors {self._job.name}")

    def _measure(self, route: Route) -> None:
        """See whether an archive has grown, which is told with what was delivered."""
        if isinstance(route.destination, Growing):
            octets = route.destination.extent()
            if octets != self._extents.get(route.row.id):
                self._extents[route.row.id] = self._grown[route.row.id] = octets

    # --- the other destinations ------------------------------------------------------------------------

    def _send(
        self,
        route: Route,
        messages: list[Message],
        upcoming: Sequence[Message],
        number: int,
        *,
        whole: bool,
        line: Line | None,
    ) -> set[Key]:
        """Deliver to one destination that cannot be asked; returns the messages that it accepted.

        With `whole=False` the end of the slice leaves the rest for another one. Where it is the only such destination,
        batches that follow are taken into `line`.
        """
        accepted: set[Key] = set()
        if route not in self.routes.in_use:
            return accepted  # it went with another of its account, just now
        if messages:
            route.take()
        handshakes = self._handshakes[route.row.id]
        handshake = handshakes[number if number < len(handshakes) else 0]
        try:
            more = None if line is None or len(self._handshakes) > 1 else partial(self._more, route, line)
            for group in handshake.send(messages, upcoming, whole=whole, more=more):
                accepted.update(outcome.key for outcome in group if outcome.verdict is Verdict.DELIVERED)
                if line is not None:
                    line.see(group)
                self._tell()
                self.routes.lift(route, accepted)
        except SyncdError as error:
            if error.scope is Scope.RUN:
                raise
            self.routes.fail(route, error)
        return accepted

    def _more(self, route: Route, line: Line) -> Sequence[Message]:
        """Returns what is for the destination of the next batch, which is for archives before."""
        batch = None if self._room.cancelled or self._context.slice.over else line.next()
        if batch is None:
            return ()
        try:
            masks, stored = self._to_archives(batch, None)
            part = [m for m in _part(route, batch.messages, masks) if m.key not in stored]
            self._place(route, batch.scope, part)
        except BaseException:
            batch.close()
            raise
        line.add(batch, part, masks, stored)
        return part

    def _tell(self) -> None:
        """Tell how far the run is, at most once in TELL_S."""
        now = clock.monotonic()
        if now - self._told_at >= TELL_S:
            self._told_at = now
            if self.ahead is None:
                self._context.listen(Committed(self._job.name, self._report.fetched, self._report.fetched_octets))
            else:
                before, total = self.ahead
                done = sum(self._report.delivered.values()) - before
                self._context.listen(Advanced(self._job.name, "backfilling", done, max(total, done) if total else 0))


def _part(route: Route, messages: list[Message], masks: list[int]) -> list[Message]:
    """Returns the messages of a batch that are for this route."""
    bit = route.bit
    if all(mask & bit for mask in masks):
        return messages
    return [m for m, mask in zip(messages, masks, strict=True) if mask & bit]


def _upcoming_part(route: Route, upcoming: Batch | None) -> list[Message]:
    return _part(route, upcoming.messages, upcoming.masks) if upcoming else []
