"""Puts the messages of one batch into one mailbox: groups in flight together, refused groups taken apart.

With MULTIAPPEND a command takes GROUP_MESSAGES or GROUP_OCTETS, otherwise one message. A group that is refused has left
nothing (RFC 3502 §6.3.11), so it is halved until the message that is to blame stands alone (I160). Where that has LF
alone as a line end, it is sent once more with CRLF, and recorded as altered by us (I153). Some servers say no although
they stored it (I161): where the mailbox has grown by more than our receipts, it is looked at before anything is sent
again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from syncd import clock
from syncd.destinations.imap.account import ImapAccount, Target
from syncd.destinations.imap.ask import ALTERED, CONVERTED, ask, hint_of
from syncd.destinations.imap.line_ends import has_bare_lf, with_crlf
from syncd.destinations.imap.quotas import SMALL_OCTETS
from syncd.destinations.imap.replies import No, code, kind
from syncd.destinations.imap.risks import at_risk
from syncd.durable import Step, durable_step
from syncd.errors import Throttled, printable
from syncd.imap.append import Append, appended, kept_date, sendable
from syncd.imap.refusals import QUOTA_PAUSE, refusal
from syncd.imap.sets import UidSet
from syncd.imap.stream import Answered
from syncd.imap.values import FetchItems, Status, Verb
from syncd.mail.body import Body, BodyWriter
from syncd.mail.flags import DELETED
from syncd.mail.message import Message, Receipt
from syncd.mail.outcome import Intended, Intent, Outcome, Verdict

GROUP_MESSAGES: Final = 100
GROUP_OCTETS: Final = 4 << 20
TOGETHER_S: Final = 0.5  # answers of so long are told together: a commit takes as long as several answers
FULL_TRIES: Final = 3  # messages of a batch that do not fit, each smaller than the last, before the others wait


@dataclass(slots=True)
class Letter:
    """A message on its way. With `bare=True` its keywords were refused and stay behind (I147).

    `converted` is its body with CRLF in place of each LF that stood alone, if that was refused.
    """

    message: Message
    bare: bool = False
    converted: Body | None = None

    @property
    def body(self) -> Body:
        """Returns the body that is sent."""
        return self.converted or self.message.body

    @property
    def has_keywords(self) -> bool:
        """Returns whether keywords would be sent with it."""
        return not self.bare and len(sendable(self.message.flags, None)[0]) > len(sendable(self.message.flags, ())[0])


@dataclass(slots=True)
class Flight:
    r"""The messages of a batch for one mailbox, whose intents are committed. `throttled`: to be raised afterwards.

    `left_out`: flags that are not copied. \Deleted is one by default: the next EXPUNGE would remove the copy (I150).
    """

    account: ImapAccount
    target: Target
    intent: Intent
    left_out: frozenset[str] = frozenset({DELETED})
    dropped: Counter[str] = field(default_factory=Counter)  # keywords that stay behind
    converted: list[Body] = field(default_factory=list)
    throttled: Throttled | None = None
    gone: bool = False  # the server says that the mailbox is not there
    _over_quota: int = 0  # messages that were

    def outcomes(self, messages: Sequence[Message]) -> Iterator[list[Outcome]]:
        """Send; yields outcomes as they are known. Raises what a session raises: the rest is then to be asked for."""
        todo = groups([Letter(message) for message in messages], self._most)
        try:
            yield from self._rounds(todo)
        finally:
            for body in self.converted:
                body.close()

    def _rounds(self, todo: list[list[Letter]]) -> Iterator[list[Outcome]]:
        while todo:
            refused: list[tuple[list[Letter], Status]] = []
            yield from self._round(todo, refused)
            todo = []
            stored = self._stored_all_the_same([letter for group, _ in refused for letter in group])
            if stored:
                yield stored
            known = {outcome.key for outcome in stored}
            done: list[Outcome] = []
            for group, status in refused:
                rest = [letter for letter in group if letter.message.key not in known]
                self._refused(rest, status, todo, done)
            todo = self._without_hopeless(todo, done)
            if done:
                yield done

    @property
    def _most(self) -> int:
        return GROUP_MESSAGES if "MULTIAPPEND" in self.account.client().capabilities else 1

    def _round(
        self, todo: Sequence[list[Letter]], refused: list[tuple[list[Letter], Status]]
    ) -> Iterator[list[Outcome]]:
        """Send all groups, then read the answers."""
        client = self.account.client()
        flight = []
        for group in todo:
            with durable_step(Step.MESSAGE_END):
                flight.append((group, client.append(self.target.name, [self._encoded(letter) for letter in group])))
        doubtful: dict[int, Outcome] = {}  # by UID
        sure: list[Outcome] = []
        since = clock.monotonic()
        for group, pending in flight:
            status = pending.wait()
            if status.ok:
                sure += self._delivered(group, status, doubtful)
            else:
                refused.append((group, status))
            if sure and clock.monotonic() - since >= TOGETHER_S:
                yield sure
                sure, since = [], clock.monotonic()
        if sure:
            yield sure
        if doubtful:
            yield self._read_back(doubtful)

    def _encoded(self, letter: Letter) -> Append:
        message = letter.message
        flags = tuple(flag for flag in message.flags if flag not in self.left_out)
        going, _ = sendable(flags, () if letter.bare else self.target.keywords)
        date = message.internal_date
        return Append(letter.body, going, None if date is None else kept_date(date, clock.now()))

    def _dropped(self, letter: Letter) -> list[str]:
        _, dropped = sendable(letter.message.flags, () if letter.bare else self.target.keywords)
        return [flag for flag in dropped if not flag.startswith("\\") and flag not in self.left_out]

    def _delivered(self, group: Sequence[Letter], status: Status, doubtful: dict[int, Outcome]) -> list[Outcome]:
        """Returns the outcomes of a group that was taken, but for those that are read back first."""
        found = appended(status, len(group))
        uids: tuple[int, ...] = found.uids if found is not None and found.validity == self.target.validity else ()
        self.target.following = max([self.target.following, *(uid + 1 for uid in uids)])
        sure: list[Outcome] = []
        for number, letter in enumerate(group):
            hint = hint_of(self.target.name, self.target.validity, uids[number]) if uids else ""
            if letter.converted is not None:
                hint += CONVERTED
            self.dropped.update(self._dropped(letter))
            receipt = Receipt(letter.message.body.sha256, hint)
            outcome = Outcome(letter.message.key, Verdict.DELIVERED, receipt, intent=self.intent)
            if uids and letter.converted is None and at_risk(letter.message.body):
                doubtful[uids[number]] = outcome
            else:
                sure.append(outcome)
        return sure

    def _read_back(self, doubtful: Mapping[int, Outcome]) -> list[Outcome]:
        """Returns the outcomes of messages that the server may have changed; one that has gone by now was taken."""
        client = self.account.client()
        stored = dict.fromkeys(doubtful, b"")
        client.examine(self.target.name).wait()
        stream = client.bodies(FetchItems(body=True), lambda _uid, _octets: BodyWriter(self.account.spool))
        try:
            stream.ask(UidSet.of(doubtful))
            while stream.in_flight:
                event = stream.next()
                if not isinstance(event, Answered) and event.body is not None:
                    stored[event.row.uid] = event.body.sha256
                    event.body.close()
        finally:
            stream.close()
        client.unselect().wait()
        return [_compared(outcome, stored[uid]) for uid, outcome in doubtful.items()]

    # --- what was refused ----------------------------------------------------------------------------

    def _stored_all_the_same(self, letters: Sequence[Letter]) -> list[Outcome]:
        """Returns DELIVERED for those that are in the mailbox although the server said no (I161)."""
        if not letters or "UIDPLUS" not in self.account.client().capabilities:
            return []
        now = self.account.client().status(self.target.name).wait()
        if now is None or now.uid_next is None or now.uid_next <= self.target.following:
            return []
        intent = self.intent._replace(following=self.target.following)
        bodies = [(letter.message.key, letter.message.body) for letter in letters]
        wanted = [Intended(key, body.octets, body.sha256, body.header_hash, intent) for key, body in bodies]
        found = [one for one in ask(self.account, wanted, _none) if one.verdict is Verdict.DELIVERED]
        self.target.following = now.uid_next
        return [outcome._replace(intent=self.intent) for outcome in found]

    def _refused(self, group: list[Letter], status: Status, todo: list[list[Letter]], done: list[Outcome]) -> None:
        """Take a refused group apart; decide what becomes of a message that stands alone."""
        if len(group) > 1 and not self._is_pause(status):
            half = len(group) // 2
            todo += [group[:half], group[half:]]
            return
        for letter in group:
            meaning = kind(status)
            blames = meaning in {No.OTHER, No.CONTENTS}
            if letter.has_keywords and blames:
                letter.bare = True
                todo.append([letter])
            elif blames and letter.converted is None and has_bare_lf(letter.message.body):
                letter.converted = with_crlf(letter.message.body, self.account.spool)
                self.converted.append(letter.converted)
                todo.append([letter])
            else:
                done.append(self._outcome(letter.message, status, meaning))

    def _is_pause(self, status: Status) -> bool:
        """Returns whether the server refuses for a reason that no message has to do with."""
        error = refusal(self.account.address, "the server takes no mail now", Verb.APPEND, status)
        return kind(status) is No.OTHER and isinstance(error, Throttled)

    def _outcome(self, message: Message, status: Status, meaning: No) -> Outcome:
        reason = f"the server says: {printable(str(status))}"
        verdict, alike, until = Verdict.REJECTED, "", None
        pause = refusal(self.account.address, "the server takes no mail now", Verb.APPEND, status)
        if meaning is No.OTHER and isinstance(pause, Throttled):
            self.throttled, verdict, until = pause, Verdict.DEFERRED, pause.until
        elif meaning is No.FULL:
            verdict, alike, until = Verdict.DEFERRED, code(status), clock.now() + QUOTA_PAUSE
            self._note_full(message, status, until)
        elif meaning in {No.LATER, No.GONE}:
            verdict, alike = Verdict.DEFERRED, code(status) if meaning is not No.GONE else ""
        elif meaning is No.OTHER:
            alike = code(status)
        self.gone |= meaning is No.GONE
        return Outcome(message.key, verdict, reason=reason, code=alike, intent=self.intent, retry_at=until)

    def _note_full(self, message: Message, status: Status, until: datetime) -> None:
        """Note a message that is over the quota: as large ones are not tried, and none when even a small one is."""
        octets, self._over_quota = message.body.octets, self._over_quota + 1
        self.target.full_at = min(octets, self.target.full_at or octets)
        if octets < SMALL_OCTETS or self._over_quota >= FULL_TRIES:
            text = f"{self.account.address}: the account is full: “{printable(str(status))}”; make room in it"
            self.throttled = Throttled(text, until=until, command="APPEND", code=status.code.name)

    def _without_hopeless(self, todo: list[list[Letter]], done: list[Outcome]) -> list[list[Letter]]:
        """Returns the groups without messages that are not to be tried now; these are added to `done`."""
        if self.throttled is None and self.target.full_at is None:
            return todo
        left: list[list[Letter]] = []
        for group in todo:
            going = []
            for letter in group:
                reason = self._hopeless(letter)
                if reason:
                    until = clock.now() + QUOTA_PAUSE if self.throttled is None else self.throttled.until
                    waits = Outcome(letter.message.key, Verdict.DEFERRED, reason=reason, intent=self.intent)
                    done.append(waits._replace(retry_at=until))
                else:
                    going.append(letter)
            left += [going] if going else []
        return left

    def _hopeless(self, letter: Letter) -> str:
        if self.throttled is not None:
            return f"not tried: {self.throttled}"
        full_at = self.target.full_at
        if full_at is not None and letter.body.octets >= full_at:
            return f"not tried: the server said that a message of {full_at:,} octets is over the quota"
        return ""


def groups(letters: Sequence[Letter], most: int) -> list[list[Letter]]:
    """Returns the letters in groups of at most `most` messages and GROUP_OCTETS; a larger message is alone."""
    found: list[list[Letter]] = []
    octets = 0
    for letter in letters:
        octets += letter.body.octets
        if not found or len(found[-1]) >= most or octets > GROUP_OCTETS:
            found.append([])
            octets = letter.body.octets
        found[-1].append(letter)
    return found


def _compared(outcome: Outcome, stored: bytes) -> Outcome:
    receipt = outcome.receipt
    if receipt is None or stored in {b"", receipt.sha256}:
        return outcome
    return outcome._replace(receipt=receipt._replace(hint=receipt.hint + ALTERED), altered=True)


def _none(_: Collection[str]) -> Collection[str]:
    return ()
