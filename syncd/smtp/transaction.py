"""The state of one message's transaction, reply by reply (pure).

    MAIL  RCPT …  DATA  ⟨octets⟩ dot          replies: 1, one each, 354, then 1 (LMTP: one for each accepted RCPT)
    MAIL  RCPT …  BDAT …  BDAT LAST           replies: 1, one each, one each, then the same

A refusal of MAIL, DATA or a chunk counts for all recipients that were not refused before. Without an accepted
recipient the end of the message is answered once, by a refusal that tells nothing new (RFC 2033 §4.2, RFC 3030 §2).

If all commands leave in one flight, a refusal of MAIL is read only after the end has left. It still matters which
command a 421 answers: before the end, the server has not looked at the message; as the reply to the end, it has.
"""

from __future__ import annotations

from collections.abc import Iterator

from syncd.errors import RemoteProtocolError
from syncd.smtp.values import CLOSING, FINAL, NO_REPLY, Reply, Verb


class Transaction:
    """One transaction. `mail`: the reply to MAIL. `refused`: the refusal of all recipients. `go_ahead`: 354 came.

    `ended`: the octets that end the message have left, or may have.
    """

    __slots__ = ("_finals", "_lmtp", "_over", "_rcpts", "_recipients", "ended", "go_ahead", "mail", "refused")

    def __init__(self, recipients: int, *, lmtp: bool) -> None:
        self._recipients = recipients
        self._lmtp = lmtp
        self.mail: Reply | None = None
        self._rcpts: list[Reply] = []
        self._finals: list[Reply] = []
        self._over = False
        self.refused: Reply | None = None
        self.go_ahead = False
        self.ended = False

    def note(self, verb: Verb, reply: Reply) -> None:
        """Note the reply to the oldest command in flight, which is of this transaction. Raises RemoteProtocolError."""
        if verb in FINAL:
            self._note_final(verb, reply)
        elif verb is Verb.RCPT and reply.code != CLOSING:
            self._rcpts.append(reply)
        elif reply.go_on:
            self.go_ahead = True
        elif not reply.ok:
            self.refused = self.refused or reply
        if verb is Verb.MAIL:
            self.mail = reply

    def close(self, reply: Reply) -> None:
        """Note that 421 answered a command before this transaction: the server did not read the message."""
        self.mail = reply

    def _note_final(self, verb: Verb, reply: Reply) -> None:
        if reply.ok and self.refused is not None and any(rcpt.ok for rcpt in self._rcpts):
            raise RemoteProtocolError(
                f"the server refused a message (“{self.refused}”) and then accepted it (“{reply}”)"
            )
        if reply.ok and not self.ended:
            raise RemoteProtocolError(f"the server accepted a message before its end (“{reply}”)")
        self._finals.append(reply)
        self._over = self._over or reply.ok or verb is Verb.DOT

    @property
    def accepted(self) -> int:
        """Returns for how many recipients the end of the message will be answered."""
        return 0 if self.refused is not None else sum(rcpt.ok for rcpt in self._rcpts)

    @property
    def complete(self) -> bool:
        """Returns whether the end of the message is answered in full."""
        return len(self._finals) >= (max(self.accepted, 1) if self._lmtp else 1)

    @property
    def over(self) -> bool:
        """Returns whether the server has ended the transaction; if not, RSET does (RFC 5321 §4.1.1.4, RFC 3030 §2)."""
        return self._over

    def outcomes(self) -> tuple[Reply, ...]:
        """Returns one reply for each recipient, in order; NO_REPLY if a recipient's reply is missing."""
        if self.mail is not None and not self.mail.ok:
            return (_early(self.mail),) * self._recipients
        finals = iter(self._finals)
        rcpts = (*self._rcpts, *(NO_REPLY,) * (self._recipients - len(self._rcpts)))
        return tuple(self._outcome(rcpt, finals) for rcpt in rcpts)

    def _outcome(self, rcpt: Reply, finals: Iterator[Reply]) -> Reply:
        if rcpt.code and not rcpt.ok:
            return _early(rcpt)
        if self.refused is not None or not rcpt.ok:
            return _early(self.refused) if self.refused is not None else NO_REPLY
        final = next(finals, NO_REPLY) if self._lmtp else next(iter(self._finals), NO_REPLY)
        return final if self.ended else _early(final)


def _early(reply: Reply) -> Reply:
    return reply._replace(early=True) if reply.code == CLOSING else reply
