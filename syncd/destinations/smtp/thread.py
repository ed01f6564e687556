"""A lane: a thread with a connection, which takes messages from a batch and tells what became of each.

    take a message → decide → begin: all but its last octets → ask ─┐ SENDING, in a group; the engine commits it
    outcome ◀─ the server's reply ◀─ end: its last octets ◀─ granted ┘

A lane never sends the octets that end a message before it is granted. With a server that bears it
(`pipelines_messages`) it has several ended messages in flight.

What a lost connection means (RFC 5321 §3.8, §4.1.1.4; RFC 1047): before the last octets left, the message was not
sent, and is tried once more on a new connection; after that, it is UNCERTAIN. So it is with 421: before the end of a
message it asks for a new connection, to the end it defers the message. A server that says so on a connection that was
good for nothing yet, or speaks of a rate, has enough, and so do we: whatever ends a lane's work, except the loss of its
connection, the replies in flight are read before.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque

from syncd import clock
from syncd.destinations.base import Outcome, Verdict
from syncd.destinations.smtp.outcomes import enough_until, settled
from syncd.destinations.smtp.relay import Connection
from syncd.destinations.smtp.shared import Asking, Board, Ended, Flight, Grants, Transaction
from syncd.durable import Step, durable_step
from syncd.errors import (
    AuthRefused,
    Cancelled,
    LocalProtocolError,
    RemoteProtocolError,
    StateError,
    SyncdError,
    Throttled,
    TransportError,
)
from syncd.net.transport import Transport
from syncd.smtp.values import CLOSING, Reply

PIPELINE_DEPTH = 10  # ended messages in flight: at 40 ms a tenth of a round trip each, and all a crash leaves in doubt
MAX_LOSSES = 3  # new connections that a lane loses in a row, with two messages: it is the server, not a message
LOST = (TransportError, RemoteProtocolError)
MAY_HAVE_IT = "before the server answered, so it may have the message"


class Lane:
    """One thread. `connect` may be called before `start`; `cancel` from any thread."""

    def __init__(self, board: Board, name: str) -> None:
        self._board = board
        self._connection: Connection | None = None
        self._transport: Transport | None = None
        self._flights: deque[Flight] = deque()  # ended and not answered, the oldest first
        self._ahead: Flight | None = None  # taken, and prepared while the server took in the one before
        self._grants: Grants = queue.SimpleQueue()
        self._enough: Throttled | None = None
        self._losses = 0
        self._connecting = False
        self._cancelled = False
        self._adopting = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.start = self._thread.start
        self.join = self._thread.join

    def connect(self) -> Connection:
        """The lane's connection. Raises what `Relay.take` raises."""
        if self._connection is None:
            self._connecting = True
            self._connection = self._board.relay.take(self._adopt)
            self._connecting = False
        return self._connection

    def cancel(self) -> None:
        """Break off whatever the lane waits for at the server."""
        with self._adopting:
            self._cancelled = True
            if self._transport is not None:
                self._transport.cancel()

    # --- the thread ----------------------------------------------------------------------------------

    def _adopt(self, transport: Transport) -> None:
        with self._adopting:
            self._transport = transport
            if self._cancelled:
                transport.cancel()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            self._work()
        except BaseException as caught:  # noqa: BLE001  the engine's thread raises it
            error = caught
            if not isinstance(caught, (*LOST, Cancelled)):
                self._read_rest()
            self._doubt(f"the connection was given up {MAY_HAVE_IT}")
        if self._ahead is not None:
            self._board.give_back(self._ahead)
        self._let_go(usable=error is None)
        fatal = error is not None and (isinstance(error, AuthRefused) or not self._connecting)
        if fatal:
            self._board.halted = True
        self._board.events.put(Ended(error, fatal))

    def _work(self) -> None:
        self.connect()
        while (flight := self._next() or self._settled()) is not None:
            try:
                granted = self._begin(flight)
            except BaseException:
                self._board.give_back(flight)  # whatever it was, this one was not sent
                raise
            if granted:
                self._end(flight)
            self._collect(PIPELINE_DEPTH - 1)

    def _settled(self) -> Flight | None:
        """All that was in flight has its outcome, or is to be tried again."""
        self._collect(0)
        return self._next()

    def _begin(self, flight: Flight) -> bool:
        """Send all but the last octets; whether they may follow. What is raised here came before them."""
        made = self._prepare(flight)
        if isinstance(made, Outcome):
            self._board.tell(flight, made)
            return False
        flight.note = made.note
        self._wait_for_place(flight)
        connection = self.connect()
        try:
            replies = connection.client.begin(made.envelope, made.content)
        except LOST as error:
            self._lost(error)
            self._again(flight, error, fresh=not connection.used)
            return False
        except LocalProtocolError as error:
            if isinstance(error, StateError):
                raise
            self._board.pace.give_back()
            self._tell(flight, Verdict.REJECTED, str(error))
            return False
        if not replies:
            return self._granted(flight)
        self._answered(flight, connection, replies[0])
        return False

    def _next(self) -> Flight | None:
        flight, self._ahead = self._ahead, None
        if flight is not None and self._board.closed:
            self._board.give_back(flight)
            return None
        return flight or self._board.next()

    def _look_ahead(self, connection: Connection) -> None:
        """Make use of the wait for a reply."""
        self._ahead = self._board.next()
        if self._ahead is not None:
            self._ahead.prepared = connection, self._board.prepare(self._ahead.message, connection)

    def _prepare(self, flight: Flight) -> Transaction | Outcome:
        """What is to be sent on this connection, or why nothing is."""
        connection = self.connect()
        prepared, flight.prepared = flight.prepared, None
        if prepared is not None and prepared[0] is connection:
            return prepared[1]
        return self._board.prepare(flight.message, connection)

    def _wait_for_place(self, flight: Flight) -> None:
        """Take a place in the rate, once for each message."""
        board = self._board
        while not flight.placed and (seconds := board.pace.take()):
            self._collect(0)  # no outcome waits so long
            if board.stopping.wait(seconds):
                raise Cancelled("stopped while waiting for the rate to allow more")
            if self._connection is not None and self._connection.client.stale:
                self._let_go(usable=False)  # the server did not wait as long
        flight.placed = True

    def _granted(self, flight: Flight) -> bool:
        """Ask, and wait for the commit. Without a grant the connection goes, so that the message never ends."""
        self._board.events.put(Asking(flight.message.key, self._grants))
        grant = self._grants.get()
        if grant:
            return True
        if grant is not None:
            self._tell(flight, Verdict.NOT_SENT, "stopped before its last octets were sent")
        self._collect(0)
        self._let_go(usable=False)
        if grant is None:
            raise Cancelled("stopped before a message was ended")
        return False

    def _end(self, flight: Flight) -> None:
        connection = self.connect()
        flight.sending = True
        self._flights.append(flight)
        try:
            with durable_step(Step.MESSAGE_END):
                connection.client.end()
        except (*LOST, Cancelled) as error:
            self._flights.pop()  # its last octets did not leave
            self._again(flight, error, fresh=not connection.used)
            self._lost(error)
            return
        if not connection.client.pipelines_messages:
            self._look_ahead(connection)
            self._collect(0)

    def _collect(self, leave: int) -> None:
        """Read replies until so many messages are left in flight; of all where the server has enough, then raise."""
        while len(self._flights) > (leave if self._enough is None else 0):
            connection = self.connect()
            try:
                (reply,) = connection.client.replies()
            except (*LOST, Cancelled) as error:
                self._tell(
                    self._flights.popleft(), Verdict.UNCERTAIN, f"the connection was lost {MAY_HAVE_IT}: {error}"
                )
                self._lost(error)
            else:
                self._answered(self._flights.popleft(), connection, reply)
        if self._enough is not None:
            raise self._enough

    def _read_rest(self) -> None:
        """What ends the work is not the connection's fault: the replies still come."""
        with contextlib.suppress(SyncdError):
            self._collect(0)

    # --- what became of it ---------------------------------------------------------------------------

    def _answered(self, flight: Flight, connection: Connection, reply: Reply) -> None:
        """A message has its reply. After 421 the server says no more (S04)."""
        if reply.code == CLOSING:
            self._drain()
        self._settle(flight, connection, reply)
        if reply.code == CLOSING:
            self._let_go(usable=False)
            self._doubt(f"the server closed the connection (“{reply}”) {MAY_HAVE_IT}")

    def _settle(self, flight: Flight, connection: Connection, reply: Reply) -> None:
        """Tell the outcome, or have the message tried again (S28); note whether the server has enough."""
        now = clock.now()
        until = enough_until(reply, now, fresh=not connection.used)
        if reply.early:
            self._board.give_back(flight)
        else:
            self._board.tell(flight, settled(flight.message, reply, now, note=flight.note, until=until))
        if until is not None:
            self._enough = Throttled(f"the server says: {reply}", until=until, code=str(reply.code))
        self._losses = 0
        connection.used = True

    def _lost(self, error: SyncdError) -> None:
        """The connection is gone. Raises when that happens again and again, or on purpose."""
        self._drain()
        self._losses += not self.connect().used
        self._let_go(usable=False)
        self._doubt(f"the connection was lost {MAY_HAVE_IT}: {error}")
        if isinstance(error, Cancelled) or self._losses >= MAX_LOSSES:
            raise error

    def _drain(self) -> None:
        """Replies that came before the end count: a client tells of them although the session is over."""
        connection = self.connect()
        while self._flights:
            try:
                (reply,) = connection.client.replies()
            except SyncdError:  # nor did any of those behind it
                return
            self._settle(self._flights.popleft(), connection, reply)

    def _again(self, flight: Flight, error: SyncdError, *, fresh: bool) -> None:
        """Not sent: again on another connection; after two new ones later, so that it does not stop the others."""
        if fresh and flight.attempt:
            self._tell(flight, Verdict.DEFERRED, f"the connection was lost twice while it was sent: {error}")
        else:
            flight.attempt += fresh
            self._board.give_back(flight)

    def _doubt(self, reason: str) -> None:
        while self._flights:
            self._tell(self._flights.popleft(), Verdict.UNCERTAIN, reason)

    def _tell(self, flight: Flight, verdict: Verdict, reason: str) -> None:
        self._board.tell(flight, Outcome(flight.message.key, verdict, reason=reason))

    def _let_go(self, *, usable: bool) -> None:
        """Give the connection back, or drop it."""
        connection, self._connection = self._connection, None
        with self._adopting:
            self._transport = None  # another lane's from now on
        if connection is not None and usable:
            self._board.relay.give_back(connection)
        elif connection is not None:
            self._board.relay.drop(connection)
