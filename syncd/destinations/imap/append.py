"""Puts the messages of one batch into one mailbox: groups in flight together, refused groups taken apart.

With MULTIAPPEND a command takes GROUP_MESSAGES or GROUP_OCTETS, otherwise one message. A group that is refused has left
nothing (RFC 3502 §6.3.11), so it is halved until the message that is to blame stands alone (I160). That is sent again
without its keywords, then without flags (I82, I147), and, where a line does not end with CRLF, with line ends that do
(I91, I153), which is recorded as altered by us. Some servers say no although they stored it (I161): where the mailbox
has grown by more than our receipts, it is looked at before anything is sent again.

While the answers to one batch are on their way, the next batch for the mailbox may be added, so that the server has
always something to store: two batches are in flight then, never more. All of them have the intent of the first, whose
UIDNEXT may be lower than what a later batch takes. After a crash that tells the same: what is asked for are all
messages that are SENDING, of both batches, and candidates are those from there on that are no delivery's receipt. The
receipts of batches before are committed, at the latest with the SENDING of the batch that follows them. So a candidate
is a message of one of the two, or of another connection's two, or a stranger's. That a stranger removes one of ours
meanwhile makes an outcome uncertain, as ever.

UIDs that cannot be right are below the intent's UIDNEXT, or another message of ours has them. Where they are far ahead
of what is known, UIDNEXT is asked, and they are below it if they are right. From the first wrong one on no UID that the
server tells is believed (I169), also where another connection was told it.

Where the server tells no UIDs (it has no UIDPLUS), they are found out before a message counts as delivered: its copy
might be counted again for an equal message of another job. UIDNEXT is asked in front of the messages and behind each
batch. If it has grown by as many as were taken, they are the UIDs between, in order. Otherwise others put mail there,
too: no more is added, and the messages are looked for as after a crash. They are also looked for where the server told
UIDs of some messages only: a stranger's may then make the number right.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from syncd import clock
from syncd.destinations.imap.account import ImapAccount, Target
from syncd.destinations.imap.ask import CONVERTED, ask, hint_of, uid_in
from syncd.destinations.imap.behind import LeftBehind
from syncd.destinations.imap.claims import Claim, LooksFor
from syncd.destinations.imap.letters import GROUP_MESSAGES, Letter, groups
from syncd.destinations.imap.quotas import SMALL_OCTETS
from syncd.destinations.imap.replies import No, code, kind
from syncd.destinations.imap.risks import at_risk, compared
from syncd.destinations.imap.targets import about_mailbox, take_flags
from syncd.durable import Step, durable_step
from syncd.errors import MailboxRefused, Throttled, printable
from syncd.imap.append import appended
from syncd.imap.client import Pending
from syncd.imap.refusals import QUOTA_PAUSE, refusal
from syncd.imap.sets import LAST, UidSet
from syncd.imap.stream import Answered
from syncd.imap.values import FetchItems, MailboxStatus, Status, Verb
from syncd.mail.body import Body, BodyWriter
from syncd.mail.flags import DELETED
from syncd.mail.message import Message, Receipt, plain_hint
from syncd.mail.outcome import Intended, Intent, Outcome, Verdict

Counted = Callable[[], MailboxStatus | None]
Sent = tuple[list[Letter], Pending[Status], Counted | None]
Doubtful = dict[int, tuple[Letter, Outcome]]  # by UID
Followed = tuple[list[Outcome], list[Message]]  # what is decided without being sent, and what is to be sent

TOGETHER_S: Final = 0.5  # answers of so long are told together: a commit takes as long as several answers
AHEAD: Final = 10_000  # UIDs may be so far ahead of those we know, as others put mail there, too
FULL_TRIES: Final = 3  # messages of a batch that do not fit, each smaller than the last, before the others wait


@dataclass(slots=True)
class Flight:
    r"""The messages of a batch for one mailbox, whose intents are committed. `throttled`: to be raised afterwards.

    `claim` is for the mailbox, which has the `key` there. `check` is from `base.Guarded`.
    `left_out`: flags that are not copied. \Deleted is one by default: the next EXPUNGE would remove the copy (I150).
    """

    account: ImapAccount
    target: Target
    intent: Intent
    claim: Claim
    key: str
    check: Callable[[], None]
    left_out: frozenset[str] = frozenset({DELETED})
    behind: LeftBehind = field(default_factory=LeftBehind)
    converted: list[Body] = field(default_factory=list)
    throttled: Throttled | None = None
    gone: bool = False  # the server says that the mailbox is not there
    follow: Callable[[], Followed] | None = None  # gives messages that were added
    enough: Throttled | None = None  # why no more of these are sent for now
    _over_quota: int = 0  # messages that were
    _since: Counted | None = None  # asked just before they were sent
    _told_some: bool = False  # UIDs were told by a reply
    _tells: bool = field(init=False)  # the server was to be believed when this began

    def __post_init__(self) -> None:
        """See what holds for the whole flight."""
        self._tells = self.account.tells_uids

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
            todo, self.follow = [], None
            stored = self._stored_all_the_same(refused)
            if stored:
                yield stored
            known = {outcome.key for outcome in stored}
            done: list[Outcome] = []
            for group, status in refused:
                rest = [letter for letter in group if letter.message.key not in known]
                if rest:
                    self._refused(rest, status, todo, done)
            todo = self._without_hopeless(todo, done)
            if done:
                yield done
            if todo:  # committed, as before the first time: the lease may have gone while others were waited for
                yield [self._sending(letter.message) for group in todo for letter in group]

    def _sending(self, message: Message) -> Outcome:
        return Outcome(message.key, Verdict.SENDING, intent=self.intent)

    @property
    def _most(self) -> int:
        return GROUP_MESSAGES if self.account.takes_several else 1

    def _round(
        self, todo: Sequence[list[Letter]], refused: list[tuple[list[Letter], Status]]
    ) -> Iterator[list[Outcome]]:
        """Send all groups, then read the answers. Meanwhile one more batch is sent, when it is added."""
        doubtful: Doubtful = {}
        unplaced: list[Letter] = []  # that were taken, without a UID
        sure: list[Outcome] = []
        since = clock.monotonic()
        self._since = None if self._tells else self.account.counted(self.target.name)
        flight = deque(self._sent(todo))
        newest = len(flight)  # groups of the newest batch
        while flight:
            if self.follow is not None and len(flight) <= newest and not refused:
                added = yield from self._more(sure)
                flight.extend(added)
                newest = len(added) or newest
            group, pending, grown = flight.popleft()
            status = pending.wait()
            if not status.ok:
                refused.append((group, status))
            elif uids := self._told(status, len(group)):
                sure += self._delivered(group, uids, doubtful)
            else:
                unplaced += group
            if grown is not None:
                sure += self._placed(unplaced, grown(), doubtful)
            if sure and clock.monotonic() - since >= TOGETHER_S:
                yield sure
                sure, since = [], clock.monotonic()
        sure += self._found(unplaced, doubtful) if unplaced else []
        if sure:
            yield sure
        if doubtful:
            yield self._read_back(doubtful)

    def _more(self, sure: list[Outcome]) -> Generator[list[Outcome], None, list[Sent]]:
        """Send what is added; it is told as SENDING together with the outcomes that are known."""
        yield []
        assert self.follow is not None, "asked for"
        decided, messages = self.follow()
        if decided or messages:
            yield [*sure, *decided, *map(self._sending, messages)]
            sure.clear()
        return self._sent(groups([Letter(message) for message in messages], self._most))

    @property
    def _may(self) -> tuple[frozenset[str] | None, frozenset[str]]:
        """Returns the flags that the mailbox takes (None: any), and those that are not copied."""
        return self.target.takes, self.left_out

    def _sent(self, todo: Sequence[list[Letter]]) -> list[Sent]:
        """Send all groups; returns the answers to come, some with that to a question for UIDNEXT behind the group."""
        client = self.account.filling(self.target.name, sum(map(len, todo)))
        is_open = bool(self.account.filled)
        flight: list[Sent] = []
        unasked = 0
        for number, group in enumerate(todo, 1):
            with durable_step(Step.MESSAGE_END):
                letters = [letter.encoded(*self._may) for letter in group]
                pending = client.append(self.target.name, letters, self.check)
            unasked += len(group)
            asks = not self._tells and (number == len(todo) or (unasked >= GROUP_MESSAGES and not is_open))
            unasked = 0 if asks else unasked
            flight.append((group, pending, self.account.counted(self.target.name) if asks else None))
        return flight

    def _told(self, status: Status, number: int) -> Sequence[int]:
        """Returns the UIDs of messages that were taken; empty where they are not told, or cannot be right."""
        found = appended(status, number)
        if found is None or found.validity != self.target.validity or self.account.misleads:
            return ()
        if not (self._possible(found.uids) and self.account.claims.note(self.key, found.uids)):
            self.account.note_wrong_uids()
            self.follow = None
            return ()
        self._told_some = True
        self.target.stale |= min(found.uids) > self.target.following  # others put mail there, or a UID is too high
        return found.uids

    def _possible(self, uids: Sequence[int]) -> bool:
        if max(uids) > self.target.following + AHEAD:
            now = self.account.client().status(self.target.name).wait()
            if now is None or now.uid_next is None or max(uids) >= now.uid_next:
                return False
        return min(uids) >= self.intent.following

    def _delivered(self, letters: Sequence[Letter], uids: Sequence[int], doubtful: Doubtful) -> list[Outcome]:
        """Returns the outcomes of messages that were taken, but for those that are read back first."""
        self.target.following = min(LAST, max(self.target.following, *(uid + 1 for uid in uids)))
        sure: list[Outcome] = []
        for letter, uid in zip(letters, uids, strict=True):
            outcome = self._taken(letter, hint_of(self.target.name, self.target.validity, uid))
            if letter.converted is None and at_risk(letter.message.body):
                doubtful[uid] = letter, outcome
            else:
                sure.append(outcome)
        return sure

    def _taken(self, letter: Letter, hint: str, note: str = "") -> Outcome:
        self.behind.flags.update(letter.dropped(*self._may))
        self.behind.unmarked += DELETED in self.left_out and DELETED in letter.message.flags
        ours = "" if letter.converted is None else CONVERTED
        receipt = Receipt(letter.message.body.sha256, hint + (note or ours))
        return Outcome(letter.message.key, Verdict.DELIVERED, receipt, intent=self.intent, altered=bool(note))

    # --- where the server tells no UIDs ---------------------------------------------------------------

    def _placed(self, letters: list[Letter], now: MailboxStatus | None, doubtful: Doubtful) -> list[Outcome]:
        """Returns the outcomes of messages whose UIDs follow from UIDNEXT; these are in `letters` no more.

        If it does not tell them, no more messages are added.
        """
        known, since = self.target, None if self._since is None else self._since()
        if since is not None and since.uid_validity == known.validity:
            known.following = max(known.following, since.uid_next or 0)
        is_told = now is not None and now.uid_validity == known.validity and not (letters and self._told_some)
        if now is None or not is_told or now.uid_next != known.following + len(letters):
            known.stale, self.follow = True, None
            return []
        placed, uids = list(letters), range(known.following, now.uid_next)
        letters.clear()
        known.stale = False
        self.account.claims.note(self.key, uids)
        return self._delivered(placed, uids, doubtful) if placed else []

    def _found(self, letters: list[Letter], doubtful: Doubtful) -> list[Outcome]:
        """Returns the outcomes of messages that are looked for; those that are not found were taken just the same."""
        self.claim.alone(LooksFor.TAKEN)
        self.target.stale = True
        sure: list[Outcome] = []
        if not self._tells:  # else they may have come before others whose UIDs are known
            sure = self._placed(letters, self.account.client().status(self.target.name).wait(), doubtful)
            self.account.select_tells &= bool(letters)  # else STATUS did
        for letter, hint, note, _ in self._asked(letters, self.intent.following):
            outcome = self._taken(letter, hint, note)
            self.behind.unseen += not hint
            if hint and not note and self.behind.is_first(self.key):
                doubtful[uid_in(hint)] = letter, outcome
            else:
                sure.append(outcome)
        return sure

    def _asked(self, letters: Sequence[Letter], following: int) -> Iterator[tuple[Letter, str, str, str]]:
        """Look for messages among those that came since `following` and are not known to be ours.

        Yields for each its hint, empty where it is not found, the note that the server altered it, and why it may be
        there although it is not found.
        """
        intent, claims = self.intent._replace(following=following), self.account.claims
        by_key = {letter.message.key: letter for letter in letters}
        bodies = [(key, letter.body) for key, letter in by_key.items()]
        wanted = [Intended(key, body.octets, body.sha256, body.header_hash, intent) for key, body in bodies]
        for outcome in ask(self.account, wanted, self._are_ours) if wanted else ():
            told = "" if outcome.receipt is None else outcome.receipt.hint
            hint = plain_hint(told)
            claims.note(self.key, [uid_in(hint)] if hint else [])
            doubt = "" if outcome.verdict is Verdict.NOT_SENT else outcome.reason
            yield by_key[outcome.key], hint, told.removeprefix(hint), doubt

    def _are_ours(self, hints: Collection[str]) -> Collection[str]:
        ours = self.account.claims.ours(self.claim, self.key)
        return [hint for hint in hints if uid_in(hint) in ours]

    def _read_back(self, doubtful: Doubtful) -> list[Outcome]:
        """Returns the outcomes of messages that the server may have changed; one that has gone by now was taken."""
        client = self.account.client()
        outcomes = {uid: outcome for uid, (_, outcome) in doubtful.items()}
        try:
            with about_mailbox(client):
                opened = client.examine(self.target.name).wait()
        except MailboxRefused:
            return list(outcomes.values())  # taken, and not to be looked at
        if opened.uid_validity != self.target.validity:
            client.unselect().wait()
            return list(outcomes.values())
        items = FetchItems(flags=True, internal_date=True, body=True)
        stream = client.bodies(items, lambda _uid, _octets: BodyWriter(self.account.spool))
        try:
            stream.ask(UidSet.of(doubtful))
            while stream.in_flight:
                event = stream.next()
                if not isinstance(event, Answered) and event.body is not None:
                    letter, outcome = doubtful[event.row.uid]
                    outcomes[event.row.uid] = compared(outcome, letter.body, event.body)
                    event.body.close()
                    self.behind.see(letter.encoded(*self._may), event.row)
        finally:
            stream.close()
        client.unselect().wait()
        return list(outcomes.values())

    # --- what was refused ----------------------------------------------------------------------------

    def _stored_all_the_same(self, refused: Sequence[tuple[list[Letter], Status]]) -> list[Outcome]:
        """Returns DELIVERED for those that are in the mailbox although the server said no (I161).

        UNCERTAIN for those that may be, where the server tells UIDs and does not say why not: to send them again might
        double them.
        """
        letters = [letter for group, _ in refused for letter in group]
        if not letters:
            return []
        self.claim.alone(LooksFor.REFUSED)  # what others have on their way could not be told from what is looked for
        now, first = self.account.client().status(self.target.name).wait(), self.intent.following
        told = None if now is None else now.uid_next
        vague, strangers = {No.OTHER}, LAST
        if told is not None:
            came = UidSet([(first, min(told - 1, LAST))]) if told > first else UidSet()
            strangers = len(came - self.account.claims.ours(self.claim, self.key))
            vague.add(No.LATER)  # else its store is away, as the code says
            if not strangers:
                return []
        may = {it.message.key for group, no in refused if kind(no) in vague and len(group) <= strangers for it in group}
        asked = self._asked(letters, self.intent.following)
        found = []
        for letter, hint, note, doubt in asked:
            key = letter.message.key
            if hint:
                found.append(self._taken(letter, hint, note))
            elif doubt and key in may and self._tells:
                found.append(Outcome(key, Verdict.UNCERTAIN, reason=f"refused, but {doubt}", intent=self.intent))
        self.target.following = max(self.target.following, told or 1)
        return found

    def _refused(self, group: list[Letter], status: Status, todo: list[list[Letter]], done: list[Outcome]) -> None:
        """Take a refused group apart; decide what becomes of a message that stands alone."""
        meaning = kind(status)
        if self._is_pause(status):
            done += (self._outcome(letter.message, status, meaning) for letter in group)
        elif meaning is No.OTHER and self._asked_for_flags(group):
            todo.append(group)
        elif len(group) > 1:
            half = len(group) // 2
            todo += [group[:half], group[half:]]
        elif meaning in {No.OTHER, No.CONTENTS} and self._changed(group[0], meaning):
            todo.append(group)
        else:
            done.append(self._outcome(group[0].message, status, meaning))

    def _asked_for_flags(self, group: Sequence[Letter]) -> bool:
        """Ask which flags the mailbox takes, if nobody has; returns whether fewer are sent with the group now (I82)."""
        before = [letter.flags(*self._may) for letter in group]
        if any(before):
            take_flags(self.account, self.target)
        return before != [letter.flags(*self._may) for letter in group]

    def _changed(self, letter: Letter, meaning: No) -> bool:
        """Change a message that was refused; returns False where nothing is left to try (I91, I147, I153)."""
        if meaning is No.OTHER and letter.has_fewer_flags(*self._may):
            return True
        if letter.has_line_ends(self.account.spool):
            self.converted += [letter.converted] if letter.converted is not None else []
            return True
        return letter.has_fewer_flags(*self._may)

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
        elif meaning in {No.LATER, No.GONE, No.CLOSED}:
            verdict, alike = Verdict.DEFERRED, code(status) if meaning is No.LATER else ""
            if meaning is No.CLOSED:
                self.target.closed = reason
        elif meaning is No.OTHER:
            alike = code(status)
        self.gone |= meaning is No.GONE
        return Outcome(message.key, verdict, reason=reason, code=alike, intent=self.intent, retry_at=until)

    def _note_full(self, message: Message, status: Status, until: datetime) -> None:
        """Note a message that is over the quota: as large ones are not tried, and none when even a small one is."""
        octets, self._over_quota = message.body.octets, self._over_quota + 1
        self.target.full_at = min(octets, self.target.full_at or octets)
        if octets >= SMALL_OCTETS and self._over_quota < FULL_TRIES:
            return
        if self.target.has_own_quota:
            self.target.closed = f"the mailbox is full: “{printable(str(status))}”; make room in it"
        else:
            text = f"{self.account.address}: the account is full: “{printable(str(status))}”; make room in it"
            self.throttled = Throttled(text, until=until, command="APPEND", code=status.code.name)

    def _without_hopeless(self, todo: list[list[Letter]], done: list[Outcome]) -> list[list[Letter]]:
        """Returns the groups without messages that are not to be tried now; these are added to `done`."""
        if self.throttled is None and self.target.full_at is None and not self.target.closed:
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
        if self.target.closed:
            return f"not tried: {self.target.closed}"
        full_at = self.target.full_at
        if full_at is not None and letter.body.octets >= full_at:
            return f"not tried: the server said that a message of {full_at:,} octets is over the quota"
        return ""
