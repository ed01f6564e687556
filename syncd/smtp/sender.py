"""One message after another over a session: as few round trips as the server allows, nothing ended before its time.

    DATA      MAIL RCPT… DATA ─▶ ◀─ replies, 354   octets ─▶        end: dot ─▶ ◀─ reply       2 round trips
    CHUNKING  MAIL RCPT… BDAT n LAST, octets ─▶     end: the last ones ─▶ ◀─ all replies        1 round trip

A message is over ONE_FLIGHT_OCTETS, or comes after one that was refused: then its envelope is answered first and its
chunks leave with at most CHUNKS_AHEAD unanswered. Without PIPELINING every command waits for its reply.

Until `end`, at least the last octet of what ends the message is held back: if anything goes wrong before that, the
server has nothing (RFC 5321 §3.8, §4.1.1.4). What was not accepted is followed by RSET before the next message
(RFC 3030 §2), and only then: no round trip is spent at the end of a session.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from syncd.errors import ConnectionLost, MessageRefused, StateError, SyncdError
from syncd.smtp.content import Content, Form
from syncd.smtp.encoder import bdat, command, mail, rcpt
from syncd.smtp.session import Command, Session
from syncd.smtp.transaction import Transaction
from syncd.smtp.values import Envelope, Reply, Verb

ONE_FLIGHT_OCTETS = 1 << 20  # sent before the recipient is known to be accepted, which it nearly always is
CHUNKS_AHEAD = 8  # of up to 256 KiB from a file, 2 MiB from memory
_HELD_OCTETS = 2  # of BDAT LAST's, the last line's end
_DOT = b".\r\n"
_BAD_STATE = frozenset({503, 530})  # "bad sequence", "authentication required"


class _Held(NamedTuple):
    """What ends the message that was begun. `command`: its verb still has to be put in flight."""

    transaction: Transaction
    octets: bytes
    command: bool


class Sender:
    """Sends. `may_chunk`: BDAT where it is announced. `refuses_long_lines`: where they would have to go by DATA."""

    def __init__(self, session: Session, *, lmtp: bool) -> None:
        self.may_chunk = True
        self.refuses_long_lines = False
        self._session = session
        self._lmtp = lmtp
        self._held: _Held | None = None
        self._ended: deque[Transaction] = deque()
        self._left_behind = False  # the server may still know a transaction that failed

    def form_of(self, content: Content) -> Form:
        """How it would travel now."""
        announced = self._session.capabilities
        if not self.may_chunk or "CHUNKING" not in announced:
            return Form.DATA
        return Form.BINARY if content.binary and "BINARYMIME" in announced else Form.TEXT

    def begin(self, envelope: Envelope, content: Content, *, messages_pipelined: bool) -> Sequence[Reply]:
        """See `Client.begin`."""
        if self._held is not None or (self._ended and not messages_pipelined):
            raise StateError(
                f"{self._session.address}: a message cannot begin before the last one is ended and answered"
            )
        form = self.form_of(content)
        self._check_lines(form, content)
        flight: list[Command] = [
            (Verb.MAIL, mail(envelope, self._session.capabilities, binary=form is Form.BINARY)),
            *((Verb.RCPT, rcpt(recipient, envelope)) for recipient in envelope.recipients),
        ]
        transaction = Transaction(len(envelope.recipients), lmtp=self._lmtp)
        if self._ended:
            flight.insert(0, (Verb.RSET, command(Verb.RSET)))  # the one before may fail; no time to wait and see
        after_reset = self._reset()
        try:
            goes_on = self._begin(flight, transaction, content, form, optimistic=not after_reset)
        except ConnectionLost:
            self._session.last_words()
            if not _refuses(transaction):
                raise
            goes_on = False
        if after_reset:
            self._check_forgetting(transaction)
        return () if goes_on else self._refused(transaction)

    def end(self) -> None:
        """See `Client.end`."""
        held, self._held = self._held, None
        if held is None:
            raise StateError(f"{self._session.address}: no message was begun")
        try:
            if held.command:
                self._session.expect([Verb.DOT], held.transaction)
            self._session.catch_up()  # a server that is gone gets no end, and leaves no doubt
            self._session.push(held.octets)
            held.transaction.ended = True
        except ConnectionLost:
            self._session.last_words()
            if not _refuses(held.transaction):
                raise
        self._ended.append(held.transaction)

    def replies(self) -> Sequence[Reply]:
        """See `Client.replies`."""
        if not self._ended:
            raise StateError(f"{self._session.address}: no message waits for its reply")
        transaction = self._ended.popleft()
        try:
            while not transaction.complete:
                self._session.answer()
        except SyncdError:
            if not any(reply.code for reply in transaction.outcomes()):
                raise
        reset_follows = bool(self._ended) or self._held is not None
        self._left_behind |= not transaction.over and not reset_follows
        return transaction.outcomes()

    # --- the beginning -------------------------------------------------------------------------------

    def _check_lines(self, form: Form, content: Content) -> None:
        if form is Form.DATA and self.refuses_long_lines and content.long_lines:
            raise MessageRefused(
                f"{self._session.address}: the message has a line over 998 octets, which DATA may not carry "
                "(RFC 5321 §4.5.3.1.6), and the server does not announce CHUNKING",
                command=Verb.DATA.value,
            )

    def _begin(
        self, flight: list[Command], transaction: Transaction, content: Content, form: Form, *, optimistic: bool
    ) -> bool:
        """Send the message up to what ends it. False: it was refused."""
        if form is Form.DATA:
            self._envelope([*flight, (Verb.DATA, command(Verb.DATA))], transaction)
            return self._data(transaction, content)
        if optimistic and self._session.pipelines and content.octets_of(form) <= ONE_FLIGHT_OCTETS:
            self._last_chunk(flight, transaction, b"".join(content.chunks(form)))
            return True
        self._envelope(flight, transaction)
        return bool(transaction.accepted) and self._chunks(transaction, content, form)

    def _reset(self) -> bool:
        """Have the server forget what failed, if something did (RFC 5321 §4.1.1.5). Gives whether it was asked."""
        if not self._left_behind:
            return False
        if self._session.quirks.forgets_after_rset:
            raise self._session.lost("S28: the server is not usable after a refused message")
        self._session.ask(Verb.RSET, command(Verb.RSET))
        self._left_behind = False
        return True

    def _check_forgetting(self, transaction: Transaction) -> None:
        """S28: MAIL is refused right after RSET because the sign-in is forgotten too, or the old message is not."""
        reply = transaction.mail
        if reply is not None and reply.code in _BAD_STATE:
            self._session.quirks.note_forgets_after_rset(self._session.address)
            raise self._session.lost(f"after RSET the server says “{reply}”")

    def _envelope(self, flight: Sequence[Command], transaction: Transaction) -> None:
        """Send commands and read their replies; all in one flight where that is allowed."""
        session = self._session
        if session.pipelines:
            session.send(flight, transaction)
            session.settle()
            return
        for verb, line in flight:
            if transaction.refused or (verb is Verb.DATA and not transaction.accepted):
                return
            session.send([(verb, line)], transaction)
            session.settle()

    def _refused(self, transaction: Transaction) -> Sequence[Reply]:
        """The outcomes of a message that ended before its end."""
        outcomes = transaction.outcomes()
        if not all(reply.code for reply in outcomes):  # 421 came for an earlier message
            raise self._session.gone()
        self._left_behind = self._left_behind or not transaction.go_ahead
        return outcomes

    # --- DATA ----------------------------------------------------------------------------------------

    def _data(self, transaction: Transaction, content: Content) -> bool:
        session = self._session
        if not transaction.go_ahead:
            return False
        if not transaction.accepted:
            self._nothing()
            return False
        try:
            for chunk in content.chunks(Form.DATA):
                session.push(chunk)
        except ConnectionLost:
            session.connection.sent(Verb.DOT, transaction)  # a reply that came already is one to the whole message
            raise
        self._held = _Held(transaction, _DOT, command=True)
        return True

    def _nothing(self) -> None:
        """S05: 354 without a recipient is answered with a dot alone (RFC 2920 §3.1).

        How often LMTP would answer that nobody can know (RFC 2033 §4.2 forbids the 354): the session ends instead.
        """
        if self._lmtp:
            self._session.end("the server went on without a recipient")
            return
        self._session.ask(Verb.DOT, _DOT)

    # --- BDAT ----------------------------------------------------------------------------------------

    def _chunks(self, transaction: Transaction, content: Content, form: Form) -> bool:
        """RFC 3030 §2: each chunk has its reply, and the last one leaves only when all before it are taken."""
        session = self._session
        left = content.octets_of(form)
        chunk = b""
        for chunk in content.chunks(form):
            left -= len(chunk)
            if not left:
                break
            session.send([(Verb.BDAT, bdat(len(chunk), last=False) + chunk)], transaction)
            session.settle(CHUNKS_AHEAD if session.pipelines else 0)
            if transaction.refused:
                break
        session.settle()
        if transaction.refused:
            return False
        self._last_chunk([], transaction, chunk)
        return True

    def _last_chunk(self, flight: Sequence[Command], transaction: Transaction, chunk: bytes) -> None:
        """Send BDAT LAST, behind `flight`, all but its last octets."""
        wire = bdat(len(chunk), last=True) + chunk
        self._session.send([*flight, (Verb.LAST, wire[:-_HELD_OCTETS])], transaction)
        self._held = _Held(transaction, wire[-_HELD_OCTETS:], command=False)


def _refuses(transaction: Transaction) -> bool:
    """Whether it is known to be refused for everyone."""
    return all(reply.code >= 400 for reply in transaction.outcomes())
