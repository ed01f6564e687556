"""IMAP mailboxes as a destination (RFC 3501, RFC 4315, RFC 3502): mail is put into the mailbox that its path names.

A destination of class ASKED: before a message is sent, the mailbox's UIDVALIDITY and UIDNEXT are yielded as its intent.
After a crash or a lost reply the mailbox is asked from there on. The parts:

    account   the connection, one for all routes      append    groups in flight, what becomes of each message
    targets   names of mailboxes, CREATE              replies   the meaning of a no
    ask       what was put there and never answered   risks     what is read back
    existing  what another program has put there      claims    which connections have which mailbox
    fit       what fits, before it is sent            letters   a message on its way, and groups of them
    behind    what was left behind, to be told        twins     names that differ in nothing but case
    late      a second look at what was absent

An account with several connections has a destination for each of them; they share `claims` and `existing`. Where the
server tells UIDs and takes several messages in a command, they put mail into one mailbox at the same time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final

from syncd import clock
from syncd.destinations.imap import ask, targets
from syncd.destinations.imap.account import FILED_BY_USE, ImapAccount, Target
from syncd.destinations.imap.append import Flight, Followed
from syncd.destinations.imap.behind import LeftBehind
from syncd.destinations.imap.claims import ALL, Claim
from syncd.destinations.imap.existing import Existing
from syncd.destinations.imap.fit import Fit
from syncd.destinations.imap.late import Late
from syncd.destinations.imap.targets import Wanted
from syncd.destinations.imap.twins import Twins
from syncd.errors import MailboxRefused, Throttled
from syncd.imap.refusals import QUOTA_PAUSE
from syncd.mail.allowance import Allowance
from syncd.mail.flags import DELETED
from syncd.mail.mailbox import Path
from syncd.mail.message import Message, Origin
from syncd.mail.outcome import Intended, Intent, Outcome, Repeat, Verdict

GRACE_S: Final = 1.0  # after a stop, replies that are about to come are read for so long
STOPPED: Final = "stopped before it was sent"

Prepared = tuple[list[Outcome], list[tuple[Flight, list[Message]]], Throttled | None]


class ImapDestination:
    """A route into an IMAP account. Routes to one account share `account`, for one thread at a time; any may `stop`."""

    repeat = Repeat.ASKED

    def __init__(
        self,
        account: ImapAccount,
        *,
        special_use: bool = True,
        existing: Existing | None = None,
        keep_deleted: bool = False,
        allowance: Allowance | None = None,
        behind: LeftBehind | None = None,
        sharer: object | None = None,
        twins: Twins | None = None,
    ) -> None:
        r"""With `special_use=True` a mailbox that is made is given the special use of its source.

        With `existing` messages are recognised that another program has put there. With `keep_deleted=True` messages
        keep the mark \Deleted. `allowance`: octets that the account takes in a day. `behind` and `twins` are common to
        all connections. Those with the same `sharer` put mail into one mailbox at the same time, where the server
        tells UIDs.
        """
        self._left_out: frozenset[str] = frozenset() if keep_deleted else frozenset({DELETED})
        self._allowance = allowance
        self._behind = behind or LeftBehind()
        self._twins = twins or Twins()
        self._existing = existing
        self._sharer = sharer
        self._account = account
        self._special_use = special_use
        self._late = Late()
        self._stopping = threading.Event()
        self._busy = False
        self._added: list[Message] = []
        self._refused: dict[Path, str] = {}  # mailboxes that were refused in this run, and why
        self._over: Callable[[], bool] = lambda: False
        self._check: Callable[[], None] = lambda: None

    def open(self) -> None:
        """Sign in, and learn what mailboxes there are: paths hang on it. Raises SyncdError."""
        with self._at_work():
            self._account.renew()
        self._refused.clear()
        for known in self._account.targets.values():
            known.full_at, known.closed = None, ""  # somebody may have made room
            known.stale = True  # … or put mail there, or made the mailbox again, since the last run
        if self._behind.looks_before:
            self._behind.looks_before = False
            with self._at_work():
                self._behind.before.update(targets.filled(self._account))

    def end_when(self, over: Callable[[], bool], patience_s: float = 0.0) -> None:  # noqa: ARG002  there is no limit
        """See `base.Endable`."""
        self._over = over

    def guard(self, check: Callable[[], None]) -> None:
        """See `base.Guarded`."""
        self._check = check

    def mailbox_key(self, path: Path) -> str:
        """See `base.Filing`."""
        key = targets.plain_key(path)
        self._twins.note(key, path)
        return key

    def path_there(self, path: Path) -> Path:
        """See `base.Spelling`."""
        return targets.path_there(self._account, path)

    def is_there(self, path: Path) -> bool:
        """See `base.Spelling`."""
        return targets.is_there(self._account, path)

    def note_mailboxes(self, origins: Iterable[Origin]) -> None:
        """Make mailboxes, and subscribe to those that were subscribed to at the source.

        They are noted only until the first message of a mailbox is known, so that its owner may unsubscribe later. One
        that the server refuses is passed over: it has nothing to lose.
        """
        with self._at_work():
            noted = list(origins)
            targets.make_all(self._account, [self._wanted(origin.path, origin) for origin in noted])
            for origin in noted:
                if origin.path not in self._account.made:
                    with suppress(MailboxRefused):
                        self._target(origin.path, origin)

    def deliver(
        self,
        batch: Sequence[Message],
        upcoming: Sequence[Message] = (),  # noqa: ARG002  the contract's
    ) -> Iterator[Sequence[Outcome]]:
        """Deliver; the first group has SENDING with an intent for each message that is going to be sent.

        Raises errors of the destination as a whole, Throttled after the outcomes that are known. After an error
        whatever is SENDING must be asked for.
        """
        if self._stopping.is_set() or self._over() or not batch:
            return
        with self._at_work(), self._claim(batch) as claim:
            yield from self._deliver(batch, claim)

    def shares_mailboxes(self) -> bool:
        """See `base.Sharing`. Courier, which has no MULTIAPPEND, names wrong UIDs when several fill a mailbox."""
        account = self._account
        return self._sharer is not None and self._existing is None and account.tells_uids and account.takes_several

    @contextmanager
    def _claim(self, batch: Sequence[Message]) -> Iterator[Claim]:
        """Have the mailboxes of a batch for the block; what this connection knew of them may be out of date."""
        account = self._account
        keys = {path: targets.plain_key(path) for path in {message.path for message in batch}}
        sharer = self._sharer if self.shares_mailboxes() else None
        with account.claims.of(frozenset(keys.values()), sharer) as claim:
            for path, key in keys.items():
                known = account.targets.get(account.made.get(path, b""))
                if account.claims.is_new(key, account) and known is not None:
                    known.stale = True
            yield claim

    def _deliver(self, batch: Sequence[Message], claim: Claim) -> Iterator[Sequence[Outcome]]:
        decided, flights, enough = self._prepare(batch, claim)
        sending = [
            Outcome(message.key, Verdict.SENDING, intent=flight.intent)
            for flight, messages in flights
            for message in messages
        ]
        if decided or sending:
            yield [*decided, *sending]
        throttled: list[Throttled] = []
        self._added.clear()
        for flight, messages in flights:
            if self._existing is None and len(flights) == 1 and enough is None:
                flight.follow = partial(self._followed, flight)
            if self._stopping.is_set():
                yield [Outcome(one.key, Verdict.NOT_SENT, reason=STOPPED, intent=flight.intent) for one in messages]
                continue
            yield from flight.outcomes(messages)
            throttled += [flight.throttled] if flight.throttled is not None else []
            enough = enough or flight.enough
            if flight.gone:
                targets.forget(self._account, flight.target.name)
        self._account.leave()
        if enough is not None:
            raise enough
        if throttled:
            raise throttled[0]

    def add(self, messages: Sequence[Message]) -> None:
        """See `base.Following`."""
        self._added += messages

    def _followed(self, flight: Flight) -> Followed:
        """Returns what becomes of messages that were added, which are of the flight's mailbox."""
        added, self._added = self._added, []
        if not added or self._stopping.is_set():
            return [], []
        decided, flights, flight.enough = self._prepare(added, flight.claim)
        if flight.enough is not None:
            flight.follow = None
        return decided, [message for _, messages in flights for message in messages]

    def ask(
        self, intended: Callable[[], Sequence[Intended]], taken: Callable[[Collection[str]], Collection[str]]
    ) -> Iterator[Sequence[Outcome]]:
        """See `base.Asked`."""
        with self._at_work(), self._account.claims.of(ALL):
            look = partial(ask.ask, self._account)
            yield self._late.ask(look, intended(), taken, lambda: self._stopping.is_set() or self._over())

    def recognise(
        self, messages: Sequence[Message], taken: Callable[[Collection[str]], Collection[str]]
    ) -> Iterator[Sequence[Outcome]]:
        """See `base.Recognising`."""
        if self._existing is None:
            return
        places: dict[bytes, tuple[Target, list[Message]]] = {}
        seen: dict[Path, Target] = {}
        with self._at_work(), self._claim(messages):
            for message in messages:
                with suppress(MailboxRefused):  # said when it is delivered
                    known = seen[message.path] = seen.get(message.path) or self._target(
                        message.path, message.ref.origin
                    )
                    places.setdefault(known.name, (known, []))[1].append(message)
            for known, here in places.values():
                try:
                    outcomes = self._existing.recognise(self._account, known, here, taken)
                except MailboxRefused as error:
                    yield [Outcome(one.key, Verdict.DEFERRED, reason=str(error)) for one in here]
                    continue
                if outcomes:
                    yield outcomes

    def stop(self) -> None:
        """See `base.Stoppable`."""
        if not self._stopping.is_set():
            self._stopping.set()
            timer = threading.Timer(GRACE_S, self._give_up)
            timer.daemon = True
            timer.start()

    def notes(self) -> list[str]:
        """See `base.Noting`."""
        return self._behind.told()

    def close(self) -> None:
        """Do nothing: the account's connection is kept for the next run."""

    def _give_up(self) -> None:
        if self._busy:
            self._account.cancel()

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Use the connection, which other routes may use later; after an error it is given up."""
        self._busy = True
        try:
            yield
        except BaseException:
            self._account.drop()
            raise
        finally:
            self._busy = False

    # --- before anything is sent ---------------------------------------------------------------------

    def _prepare(self, batch: Sequence[Message], claim: Claim) -> Prepared:
        """Returns what is decided without being sent, the messages of each mailbox, and why no more are sent now."""
        decided: list[Outcome] = []
        flights: dict[bytes, tuple[Flight, list[Message]]] = {}
        seen: dict[Path, Target] = {}  # looked at once for the batch
        fit = Fit(self._account)
        for message in batch:
            try:
                known = seen[message.path] = seen.get(message.path) or self._target(message.path, message.ref.origin)
            except MailboxRefused as error:
                decided.append(Outcome(message.key, Verdict.DEFERRED, reason=str(error)))
                continue
            no = self._no(message, known, fit)
            if no is not None:
                decided.append(no)
            if fit.enough is not None:
                break
            if no is not None:
                continue
            if known.name not in flights:
                intent = Intent(known.name, known.validity, known.following)
                key = targets.plain_key(message.path)
                flight = Flight(self._account, known, intent, claim, key, self._check, self._left_out, self._behind)
                flights[known.name] = flight, []
            flights[known.name][1].append(message)
            if message.flags and not known.asked and any(not flag.startswith("\\") for flag in message.flags):
                targets.take_flags(self._account, known)
        return decided, list(flights.values()), fit.enough

    def _wanted(self, path: Path, origin: Origin) -> Wanted:
        use = origin.use if self._special_use and origin.use in FILED_BY_USE else ""
        twin = self._twins.other(targets.plain_key(path))
        return Wanted(path, "" if use in self._account.uses else use, origin.subscribed, twin)

    def _target(self, path: Path, origin: Origin) -> Target:
        """Returns a mailbox. One that was refused is not asked for again in this run. Raises MailboxRefused."""
        if path in self._refused:
            raise MailboxRefused(self._refused[path])
        try:
            return targets.target(self._account, self._wanted(path, origin))
        except MailboxRefused as error:
            self._refused[path] = str(error)
            raise

    def _no(self, message: Message, known: Target, fit: Fit) -> Outcome | None:
        """Returns what is decided of a message without being sent; None where it is to be sent.

        Afterwards `fit.enough` says why nothing more is to be sent for now, if that is so.
        """
        octets = message.body.octets
        if not octets:
            self._behind.empty += 1
            return Outcome(message.key, Verdict.SKIPPED)
        if octets > known.append_limit:
            reason = f"it has {octets:,} octets, and the server takes {known.append_limit:,}"
            return Outcome(message.key, Verdict.REJECTED, reason=reason)
        if known.closed:
            return Outcome(message.key, Verdict.DEFERRED, reason=f"not tried: {known.closed}")
        reason = fit.reason(known, octets)
        if reason:
            until = clock.now() + QUOTA_PAUSE
            if fit.full:
                text = f"{self._account.address}: the account is full, as its quota says; make room in it"
                fit.enough = Throttled(text, until=until, command="APPEND")
            return Outcome(message.key, Verdict.DEFERRED, reason=reason, retry_at=until)
        if self._allowance is not None:
            fit.enough = self._allowance.take(octets)
        return None
