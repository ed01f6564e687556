"""Sends messages over a session: as few round trips as the server allows, and no message ended before `end`.

    DATA      MAIL RCPT… DATA ─▶ ◀─ replies, 354   octets ─▶        end: dot ─▶ ◀─ reply       2 round trips
    CHUNKING  MAIL RCPT… BDAT n LAST, octets ─▶     end: the last ones ─▶ ◀─ all replies        1 round trip

If a message has more than ONE_FLIGHT_OCTETS, or comes after a refused message, its envelope is answered first, and its
chunks leave with at most CHUNKS_AHEAD unanswered. Without PIPELINING every command waits for its reply.

Until `end`, the last octets of a message are kept back: if anything goes wrong before, the server has no message
(RFC 5321 §3.8, §4.1.1.4). After a message that was not accepted, RSET is sent before the next one (RFC 3030 §2), and
only then, so that no round trip is spent at the end of a session.
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

ONE_FLIGHT_OCTETS = 1 << 20  # sent before the reply to the recipient, which is nearly always accepted
CHUNKS_AHEAD = 8  # of up to 256 KiB from a file, 2 MiB from memory
_KEPT_BACK_OCTETS = 2  # of the octets of BDAT LAST: the last line end
_DOT = b".\r\n"
_BAD_STATE = frozenset({503, 530})  # "bad sequence", "authentication required"


class _Ending(NamedTuple):
    """The octets that end the message that was begun. `command`: they are a command that is not yet noted as sent."""

    transaction: Transaction
    octets: bytes
    command: bool


class Sender:
    """Sends messages. `may_chunk`: use BDAT if announced. `refuses_long_lines`: if they would have to go by DATA."""

    def __init__(self, session: Session, *, lmtp: bool) -> None:
        self.may_chunk = True
        self.refuses_long_lines = False
        self._session = session
        self._lmtp = lmtp
        self._ending: _Ending | None = None
        self._ended: deque[Transaction] = deque()
        self._latest: Transaction | None = None  # the one that was begun last
        self._left_behind = False  # the server may still know a transaction that failed

    def form_of(self, content: Content) -> Form:
        """Returns the form in which `content` would travel now."""
        announced = self._session.capabilities
        if not self.may_chunk or "CHUNKING" not in announced:
            return Form.DATA
        return Form.BINARY if content.binary and "BINARYMIME" in announced else Form.TEXT

    def begin(self, envelope: Envelope, content: Content, *, messages_pipelined: bool) -> Sequence[Reply]:
        """See `Client.begin`."""
        if self._ending is not None or (self._ended and not messages_pipelined):
            raise StateError(
                f"{self._session.address}: a message cannot begin before the last one is ended and answered"
            )
        form = self.form_of(content)
        self._check_lines(form, content)
        flight: list[Command] = [
            (Verb.MAIL, mail(envelope, self._session.capabilities, binary=form is Form.BINARY)),
            *((Verb.RCPT, rcpt(recipient, envelope)) for recipient in envelope.recipients),
        ]
        transaction = self._latest = Transaction(len(envelope.recipients), lmtp=self._lmtp)
        if self._ended:
            flight.insert(
                0, (Verb.RSET, command(Verb.RSET))
            )  # the message before may fail, and its reply is not awaited
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
        ending, self._ending = self._ending, None
        if ending is None:
            raise StateError(f"{self._session.address}: no message was begun")
        try:
            if ending.command:
                self._session.expect([Verb.DOT], ending.transaction)
            self._session.catch_up()  # if the server is gone, the end does not leave: the message is surely not sent
            self._session.push(ending.octets)
            ending.transaction.ended = True
        except ConnectionLost:
            self._session.last_words()
            if not _refuses(ending.transaction):
                raise
        self._ended.append(ending.transaction)

    def replies(self) -> Sequence[Reply]:
        """See `Client.replies`."""
        if not self._ended:
            raise StateError(f"{self._session.address}: no message waits for its reply")
        transaction = self._ended.popleft()
        try:
            while not (transaction.complete and self._in_step(transaction)):
                self._session.answer()
        except SyncdError:
            if self._session.mistrusted or not any(reply.code for reply in transaction.outcomes()):
                raise
        reset_follows = bool(self._ended) or self._ending is not None
        self._left_behind |= not transaction.over and not reset_follows
        return transaction.outcomes()

    def _in_step(self, transaction: Transaction) -> bool:
        """Returns whether MAIL of the next message was answered (S18): then no earlier reply is missing."""
        following = self._ended[0] if self._ended else self._latest
        return following is None or following is transaction or following.mail is not None

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
        """Send the message up to the octets that end it. Returns False if it was refused."""
        if form is Form.DATA:
            self._envelope([*flight, (Verb.DATA, command(Verb.DATA))], transaction)
            return self._data(transaction, content)
        if optimistic and self._session.pipelines and content.octets_of(form) <= ONE_FLIGHT_OCTETS:
            self._last_chunk(flight, transaction, b"".join(content.chunks(form)))
            return True
        self._envelope(flight, transaction)
        return bool(transaction.accepted) and self._chunks(transaction, content, form)

    def _reset(self) -> bool:
        """Send RSET if a transaction failed (RFC 5321 §4.1.1.5). Returns whether RSET was sent."""
        if not self._left_behind:
            return False
        if self._session.quirks.forgets_after_rset:
            raise self._session.lost("S28: the server is not usable after a refused message")
        self._session.ask(Verb.RSET, command(Verb.RSET))
        self._left_behind = False
        return True

    def _check_forgetting(self, transaction: Transaction) -> None:
        """S28: raise if MAIL is refused after RSET, because RSET ended the sign-in or did not end the old message."""
        reply = transaction.mail
        if reply is not None and reply.code in _BAD_STATE:
            self._session.quirks.note_forgets_after_rset(self._session.address)
            raise self._session.lost(f"after RSET the server says “{reply}”")

    def _envelope(self, flight: Sequence[Command], transaction: Transaction) -> None:
        """Send commands and read their replies; all in one flight if the server pipelines."""
        session = self._session
        if session.pipelines:
            session.send(flight, transaction)
            session.read_answers()
            return
        for verb, line in flight:
            if transaction.refused or (verb is Verb.DATA and not transaction.accepted):
                return
            session.send([(verb, line)], transaction)
            session.read_answers()

    def _refused(self, transaction: Transaction) -> Sequence[Reply]:
        """Returns the outcomes of a message that was refused before its end."""
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
            self._end_without_recipient()
            return False
        try:
            for chunk in content.chunks(Form.DATA):
                session.push(chunk)
        except ConnectionLost:
            session.connection.sent(Verb.DOT, transaction)  # a reply that has come already answers the whole message
            raise
        self._ending = _Ending(transaction, _DOT, command=True)
        return True

    def _end_without_recipient(self) -> None:
        """S05: answer 354 without a recipient by a dot alone (RFC 2920 §3.1).

        With LMTP the session ends instead: RFC 2033 §4.2 forbids this 354, so the number of replies is unknown.
        """
        if self._lmtp:
            self._session.end("the server went on without a recipient")
            return
        self._session.ask(Verb.DOT, _DOT)

    # --- BDAT ----------------------------------------------------------------------------------------

    def _chunks(self, transaction: Transaction, content: Content, form: Form) -> bool:
        """Send chunks (RFC 3030 §2): each has a reply, and the last one leaves only when all others are accepted."""
        session = self._session
        left = content.octets_of(form)
        chunk = b""
        for chunk in content.chunks(form):
            left -= len(chunk)
            if not left:
                break
            session.send([(Verb.BDAT, bdat(len(chunk), last=False) + chunk)], transaction)
            session.read_answers(CHUNKS_AHEAD if session.pipelines else 0)
            if transaction.refused:
                break
        session.read_answers()
        if transaction.refused:
            return False
        self._last_chunk([], transaction, chunk)
        return True

    def _last_chunk(self, flight: Sequence[Command], transaction: Transaction, chunk: bytes) -> None:
        """Send `flight` and BDAT LAST, all but its last octets."""
        wire = bdat(len(chunk), last=True) + chunk
        self._session.send([*flight, (Verb.LAST, wire[:-_KEPT_BACK_OCTETS])], transaction)
        self._ending = _Ending(transaction, wire[-_KEPT_BACK_OCTETS:], command=False)


def _refuses(transaction: Transaction) -> bool:
    """Returns whether the message is known to be refused for every recipient."""
    return all(reply.code >= 400 for reply in transaction.outcomes())
