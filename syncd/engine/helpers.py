"""Sessions of a source beside the first one, each in a thread of its own: they take mailboxes from a common queue.

A server may let us have fewer sessions than we are told to use. So a helper whose session does not come about, or is
lost, gives its mailbox back to the queue and ends; the first session, whose errors count, visits that mailbox. No two
sessions read one mailbox.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from syncd.db.rows import KnownMailbox
from syncd.engine.budget import RunRoom
from syncd.engine.context import Context
from syncd.engine.job import Route
from syncd.engine.pipe import Inlet, Pipe
from syncd.engine.seen import Seen
from syncd.engine.visits import Visits
from syncd.errors import Scope, SyncdError, Throttled
from syncd.mail.mailbox import Mailbox


class MailboxQueue:
    """The mailboxes that are due, for several sessions. Each mailbox that is taken is then `done` or given back."""

    def __init__(self, due: Iterable[KnownMailbox]) -> None:
        self._change = threading.Condition()
        self._due = deque(due)
        self._at_work = 0

    def __len__(self) -> int:
        return len(self._due)

    def take(self, *, wait: bool = False) -> KnownMailbox | None:
        """Returns the next mailbox; None at the end. With `wait=True` the end is when nobody can give one back."""
        with self._change:
            if wait:
                self._change.wait_for(lambda: self._due or not self._at_work)
            if not self._due:
                return None
            self._at_work += 1
            return self._due.popleft()

    @property
    def following(self) -> Mailbox | None:
        """Returns the mailbox that `take` would give; None at the end."""
        with self._change:
            return self._due[0].scope.mailbox if self._due else None

    def done(self) -> None:
        """Say that a mailbox was visited."""
        with self._change:
            self._at_work -= 1
            self._change.notify_all()

    def give_back(self, known: KnownMailbox) -> None:
        """Leave a mailbox to another session."""
        with self._change:
            self._due.appendleft(known)
            self._at_work -= 1
            self._change.notify_all()

    def close(self) -> None:
        """Give out nothing more."""
        with self._change:
            self._due.clear()
            self._change.notify_all()

    def largest_first(self) -> None:
        """Put the mailboxes with most messages that are new first, so that no session is left alone with one."""
        with self._change:
            self._due = deque(sorted(self._due, key=_new, reverse=True))


class Helpers:
    """The helpers of one run. Used by the first reader, except `leave`."""

    def __init__(self, context: Context, pipe: Pipe, routes: Sequence[Route], seen: Seen) -> None:
        self.cpu_s = 0.0  # of those that have ended
        self._context = context
        self._pipe = pipe
        self._routes = routes
        self._seen = seen
        self._most = context.job.source.connections - 1  # fewer, when the server has refused one
        self._told = False
        self._threads: list[_Helper] = []
        self._telling = threading.Lock()

    def __bool__(self) -> bool:
        """Returns whether there are any."""
        return bool(self._threads)

    def begin(self, due: MailboxQueue) -> None:
        """Begin as many as the source takes and there are mailboxes for."""
        context = self._context
        for _ in range(min(self._most, len(due) - 1)):
            room = context.room.another()
            if room is None:
                break
            inlet = self._pipe.inlet(room)
            visits = Visits(context, inlet, room, self._routes, self._seen)
            self._threads.append(_Helper(context, inlet, room, visits, due, self._tell))
        if self._threads:
            due.largest_first()
        for thread in tuple(self._threads):
            thread.start()

    def join(self) -> None:
        """Wait until all have ended: nobody gives them anything more."""
        for thread in self._threads:
            thread.join()
            self.cpu_s += thread.cpu_s
        refused = [thread.refused for thread in self._threads if thread.refused is not None]
        if refused:
            self._most = len(self._threads) - len(refused)
        self._threads.clear()

    def _tell(self, error: SyncdError) -> None:
        """From a helper: say once that there are fewer sessions."""
        if isinstance(error, Throttled) and error.limit:
            return  # the first session comes to that, too
        with self._telling:
            told, self._told = self._told, True
        if not told:
            job = self._context.job
            line = f"{job.account.name}: the server lets us have fewer than {job.source.connections} connections"
            self._context.note(f"{line}; this run goes on with those it has: {error}")

    def leave(self) -> None:
        """From the writer's thread: wait for no room any more."""
        for thread in tuple(self._threads):
            thread.visits.door.close()


class _Helper(threading.Thread):
    """One session. `refused`: why it was not had to the end."""

    def __init__(  # noqa: PLR0917  each part is needed once, here
        self,
        context: Context,
        inlet: Inlet,
        room: RunRoom,
        visits: Visits,
        due: MailboxQueue,
        tell: Callable[[SyncdError], None],
    ) -> None:
        super().__init__(name=f"reader {context.job.name} +", daemon=True)
        self.visits = visits
        self.refused: SyncdError | None = None
        self.cpu_s = 0.0
        self._bound = contextvars.copy_context()  # so that its log lines carry run and job as well
        self._context = context
        self._inlet = inlet
        self._room = room
        self._due = due
        self._tell = tell

    def run(self) -> None:
        """The thread's body; an error that ends the run reaches the writer through the pipe."""
        error: BaseException | None = None
        try:
            self._bound.run(self._session)
        except BaseException as caught:  # noqa: BLE001  handed to the thread that can judge it
            error = caught
        finally:
            self._inlet.end(error)
            self._room.end()
            self.cpu_s = time.thread_time()

    def _session(self) -> None:
        known = self._due.take()
        if known is None:
            return
        try:
            session = self._context.job.source.connect()
            try:
                while known is not None and not self._context.slice.over:
                    self.visits.visit(session, known)
                    self._due.done()
                    known = None
                    known = self._due.take()
                if self._inlet.wait_written():
                    session.finish()
            finally:
                session.close()
        except SyncdError as error:
            if error.scope is Scope.RUN:
                raise
            self.refused = error
            self._tell(error)
            self.visits.give_back()
        finally:
            if known is not None:
                self._due.give_back(known)


def _new(known: KnownMailbox) -> int:
    messages = known.scope.mailbox.messages
    return known.present if messages is None else messages - known.present
