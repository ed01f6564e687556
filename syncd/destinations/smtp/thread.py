"""A sender thread: it has a connection, takes messages from a batch, and tells what became of each.

    take a message → decide → begin: all but its last octets → ask ─┐ SENDING, in a group; the engine commits it
    outcome ◀─ the server's reply ◀─ end: its last octets ◀─ granted ┘

A thread never sends the octets that end a message before it is granted. With a server that takes the next message
before it has answered the last (`pipelines_messages`), several ended messages are in flight.

Rules for a lost connection (RFC 5321 §3.8, §4.1.1.4; RFC 1047): if the last octets had not left, the message was not
sent and is tried once more on a new connection. If they had left, the message is UNCERTAIN.

Rules for 421: before the end of a message, it asks for a new connection; as the reply to the end, it defers the
message. A server throttles if it says 421 on a connection that had taken nothing yet, or speaks of a rate: then the
thread stops.

When a thread stops, it reads the replies in flight first, unless it stops because its connection was lost.
"""

from __future__ import annotations

import contextlib
import contextvars
import queue
import threading
from collections import deque
from functools import partial

from syncd import clock
from syncd.destinations.smtp.outcomes import outcome_of, throttled_by_reply
from syncd.destinations.smtp.relay import Connection
from syncd.destinations.smtp.shared import Asking, Grant, Grants, Outgoing, Shared, ThreadEnded, Transaction
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
from syncd.mail.outcome import Outcome, Verdict
from syncd.net.transport import Transport
from syncd.smtp.values import CLOSING, Reply

# Ended messages in flight. At 40 ms each costs a tenth of a round trip; a crash leaves so many uncertain.
PIPELINE_DEPTH = 10
MAX_LOSSES = 3  # new connections lost in a row, with two messages: the server is to blame, not a message
LOST = (TransportError, RemoteProtocolError)
MAY_HAVE_IT = "before the server answered, so it may have the message"


class SenderThread:
    """One thread. `connect` may be called before `start`; `cancel` may be called by any thread."""

    def __init__(self, shared: Shared, name: str) -> None:
        self._shared = shared
        self._connection: Connection | None = None
        self._transport: Transport | None = None
        self._unanswered: deque[Outgoing] = deque()  # ended messages in flight, the oldest first
        self._ahead: Outgoing | None = None  # taken and prepared while the server takes in the message before
        self._grants: Grants = queue.SimpleQueue()
        self._throttled: Throttled | None = None
        self._losses = 0
        self._connecting = False
        self._cancelled = False
        self._adopting = threading.Lock()
        run = partial(contextvars.copy_context().run, self._run)  # its log lines name run and job as well
        self._thread = threading.Thread(target=run, name=name, daemon=True)
        self.start = self._thread.start
        self.join = self._thread.join

    def connect(self) -> Connection:
        """Returns the thread's connection; takes one if it has none. Raises what `Relay.take` raises."""
        if self._connection is None:
            self._connecting = True
            self._connection = self._shared.relay.take(self._adopt)
            self._connecting = False
        return self._connection

    def cancel(self) -> None:
        """End every wait for the server, the present one and later ones, by Cancelled."""
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
            self._tell_uncertain(f"the connection was given up {MAY_HAVE_IT}")
        if self._ahead is not None:
            self._shared.give_back(self._ahead)
        self._let_go(usable=error is None)
        fatal = error is not None and (isinstance(error, AuthRefused) or not self._connecting)
        if fatal:
            self._shared.halted = True
        self._shared.events.put(ThreadEnded(error, fatal))

    def _work(self) -> None:
        self.connect()
        while (outgoing := self._next() or self._next_after_replies()) is not None:
            try:
                granted = self._begin(outgoing)
            except BaseException:
                self._shared.give_back(outgoing)  # whatever went wrong, this message was not sent
                raise
            if granted:
                self._end(outgoing)
            self._collect(PIPELINE_DEPTH - 1)

    def _next_after_replies(self) -> Outgoing | None:
        """Read all replies, which may put messages back to be tried again; then return the next message."""
        self._collect(0)
        return self._next()

    def _begin(self, outgoing: Outgoing) -> bool:
        """Send all but the last octets. Returns whether these may follow; an error here came before them."""
        made = self._prepare(outgoing)
        if isinstance(made, Outcome):
            self._shared.tell(outgoing, made)
            return False
        outgoing.note = made.note
        self._wait_for_place(outgoing)
        connection = self.connect()
        try:
            replies = connection.client.begin(made.envelope, made.content)
        except LOST as error:
            self._lost(error)
            self._try_again(outgoing, error, fresh=not connection.used)
            return False
        except LocalProtocolError as error:
            if isinstance(error, StateError):
                raise
            self._shared.pace.give_back()
            self._tell(outgoing, Verdict.REJECTED, str(error))
            return False
        if not replies:
            return self._granted(outgoing)
        self._answered(outgoing, connection, replies[0])
        return False

    def _next(self) -> Outgoing | None:
        outgoing, self._ahead = self._ahead, None
        if outgoing is not None and self._shared.closed:
            self._shared.give_back(outgoing)
            return None
        return outgoing or self._shared.next()

    def _look_ahead(self, connection: Connection) -> None:
        """Take and prepare the next message, to use the time of the wait for a reply."""
        self._ahead = self._shared.next()
        if self._ahead is not None:
            self._ahead.prepared = connection, self._shared.prepare(self._ahead.message, connection)

    def _prepare(self, outgoing: Outgoing) -> Transaction | Outcome:
        """Returns what to send on this connection, or the outcome if nothing is sent."""
        connection = self.connect()
        prepared, outgoing.prepared = outgoing.prepared, None
        if prepared is not None and prepared[0] is connection:
            return prepared[1]
        return self._shared.prepare(outgoing.message, connection)

    def _wait_for_place(self, outgoing: Outgoing) -> None:
        """Take a place in the rate, once for each message."""
        shared = self._shared
        while not outgoing.placed and (seconds := shared.pace.take()):
            self._collect(0)  # no outcome waits so long
            if shared.stopping.wait(seconds):
                raise Cancelled("stopped while waiting for the rate to allow more")
            if self._connection is not None and self._connection.client.stale:
                self._let_go(usable=False)  # the server did not wait as long
        outgoing.placed = True

    def _granted(self, outgoing: Outgoing) -> bool:
        """Ask, and wait for the commit. Without a grant the connection is dropped, so that the message never ends."""
        self._shared.events.put(Asking(outgoing.message.key, self._grants))
        grant = self._grants.get()
        if grant is Grant.YES:
            return True
        if grant is Grant.NO:
            self._tell(outgoing, Verdict.NOT_SENT, "stopped before its last octets were sent")
        self._collect(0)
        self._let_go(usable=False)
        if grant is Grant.ABANDON:
            raise Cancelled("stopped before a message was ended")
        return False

    def _end(self, outgoing: Outgoing) -> None:
        connection = self.connect()
        outgoing.sending = True
        self._unanswered.append(outgoing)
        try:
            with durable_step(Step.MESSAGE_END):
                connection.client.end()
        except (*LOST, Cancelled) as error:
            self._unanswered.pop()  # its last octets did not leave
            self._try_again(outgoing, error, fresh=not connection.used)
            self._lost(error)
            return
        if not connection.client.pipelines_messages:
            self._look_ahead(connection)
            self._collect(0)

    def _collect(self, leave: int) -> None:
        """Read replies until at most `leave` messages are in flight. If the server throttles, read all, then raise."""
        while len(self._unanswered) > (leave if self._throttled is None else 0):
            connection = self.connect()
            try:
                (reply,) = connection.client.replies()
            except (*LOST, Cancelled) as error:
                reason = f"the connection was lost {MAY_HAVE_IT}: {error}"
                self._tell(self._unanswered.popleft(), Verdict.UNCERTAIN, reason)
                self._lost(error)
            else:
                self._answered(self._unanswered.popleft(), connection, reply)
        if self._throttled is not None:
            raise self._throttled

    def _read_rest(self) -> None:
        """Read the replies in flight, after an error that is not the connection's fault."""
        with contextlib.suppress(SyncdError):
            self._collect(0)

    # --- outcomes ------------------------------------------------------------------------------------

    def _answered(self, outgoing: Outgoing, connection: Connection, reply: Reply) -> None:
        """Take the reply to a message. After 421 the server says no more (S04)."""
        if reply.code == CLOSING:
            self._drain()
        self._take_reply(outgoing, connection, reply)
        if reply.code == CLOSING:
            self._let_go(usable=False)
            self._tell_uncertain(f"the server closed the connection (“{reply}”) {MAY_HAVE_IT}")

    def _take_reply(self, outgoing: Outgoing, connection: Connection, reply: Reply) -> None:
        """Tell the outcome, or have the message tried again (S28); note whether the server throttles."""
        now = clock.now()
        until = throttled_by_reply(reply, now, fresh=not connection.used)
        if reply.early:
            self._shared.give_back(outgoing)
        else:
            self._shared.tell(outgoing, outcome_of(outgoing.message, reply, now, note=outgoing.note, until=until))
        if until is not None:
            self._throttled = Throttled(f"the server says: {reply}", until=until, code=str(reply.code))
        self._losses = 0
        connection.used = True

    def _lost(self, error: SyncdError) -> None:
        """Drop the lost connection. Raises `error` after MAX_LOSSES, and if we were cancelled."""
        self._drain()
        self._losses += not self.connect().used
        self._let_go(usable=False)
        self._tell_uncertain(f"the connection was lost {MAY_HAVE_IT}: {error}")
        if isinstance(error, Cancelled) or self._losses >= MAX_LOSSES:
            raise error

    def _drain(self) -> None:
        """Take the replies that came before the end of the session: a client still returns them."""
        connection = self.connect()
        while self._unanswered:
            try:
                (reply,) = connection.client.replies()
            except SyncdError:  # later messages have no reply either
                return
            self._take_reply(self._unanswered.popleft(), connection, reply)

    def _try_again(self, outgoing: Outgoing, error: SyncdError, *, fresh: bool) -> None:
        """Put back a message that was not sent. If it lost two new connections, defer it, so that others can go on."""
        if fresh and outgoing.losses:
            self._tell(outgoing, Verdict.DEFERRED, f"the connection was lost twice while it was sent: {error}")
        else:
            outgoing.losses += fresh
            self._shared.give_back(outgoing)

    def _tell_uncertain(self, reason: str) -> None:
        while self._unanswered:
            self._tell(self._unanswered.popleft(), Verdict.UNCERTAIN, reason)

    def _tell(self, outgoing: Outgoing, verdict: Verdict, reason: str) -> None:
        self._shared.tell(outgoing, Outcome(outgoing.message.key, verdict, reason=reason))

    def _let_go(self, *, usable: bool) -> None:
        """Give the connection back to the relay, or drop it."""
        connection, self._connection = self._connection, None
        with self._adopting:
            self._transport = None  # another thread may use it from now on
        if connection is not None and usable:
            self._shared.relay.give_back(connection)
        elif connection is not None:
            self._shared.relay.drop(connection)
