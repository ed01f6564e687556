"""What is known of one message's transaction, reply by reply (pure).

    MAIL  RCPT …  DATA  ⟨octets⟩ dot          replies: 1, one each, 354, then 1 (LMTP: one for each accepted RCPT)
    MAIL  RCPT …  BDAT …  BDAT LAST           replies: 1, one each, one each, then the same

A no to MAIL, DATA or a chunk is one for all recipients that were not refused before. Without an accepted recipient
the end of the message is answered once, with a no that tells nothing new (RFC 2033 §4.2, RFC 3030 §2).

With one flight for all, a no to MAIL is read only when the end has left. What a no is an answer to still matters: 421
before the end is a server that has not looked at the message, 421 to its end a verdict on it.
"""

from __future__ import annotations

from collections.abc import Iterator

from syncd.errors import RemoteProtocolError
from syncd.smtp.values import CLOSING, FINAL, NO_REPLY, Reply, Verb


class Transaction:
    """`mail` is the reply to MAIL, `refused` the no that ended it for everyone; `go_ahead`: 354 came.

    `ended`: the octets that end it have left, or may have.
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
        """Take the reply to the oldest command in flight, which is of this transaction. Raises RemoteProtocolError."""
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
        """421 answered something before it, and was the last reply: nothing of it was read."""
        self.mail = reply

    def _note_final(self, verb: Verb, reply: Reply) -> None:
        if reply.ok and self.refused is not None and any(rcpt.ok for rcpt in self._rcpts):
            raise RemoteProtocolError(f"the server refused a message (“{self.refused}”) and then took it (“{reply}”)")
        if reply.ok and not self.ended:
            raise RemoteProtocolError(f"the server took a message before its end (“{reply}”)")
        self._finals.append(reply)
        self._over = self._over or reply.ok or verb is Verb.DOT

    @property
    def accepted(self) -> int:
        """For how many recipients the end of the message will be answered."""
        return 0 if self.refused is not None else sum(rcpt.ok for rcpt in self._rcpts)

    @property
    def complete(self) -> bool:
        """Whether the end of the message is answered."""
        return len(self._finals) >= (max(self.accepted, 1) if self._lmtp else 1)

    @property
    def over(self) -> bool:
        """Whether the server has forgotten it. If not, RSET makes it forget (RFC 5321 §4.1.1.4, RFC 3030 §2)."""
        return self._over

    def outcomes(self) -> tuple[Reply, ...]:
        """One reply for each recipient, in order; NO_REPLY for those nothing is known of."""
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
