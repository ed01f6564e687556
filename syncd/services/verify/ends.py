"""One end of a job, read only: an account or archive whose mailboxes are listed, and hashed where that is wanted.

It is read as a source, also where it is a destination: IMAP mailboxes by EXAMINE, archives without a lock. A session
that breaks off is replaced once for each mailbox; where it does at a message, that one is passed over.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from itertools import chain, islice
from typing import Final, NamedTuple, TypeVar

from syncd.engine.budget import Budget
from syncd.engine.closing import ended
from syncd.errors import ConnectionLost, MessageLost, SessionLost, SyncdError
from syncd.mail.body import Body, header_hash
from syncd.mail.listing import LineNumber, Wanted
from syncd.mail.mailbox import Epoch, Mailbox, Unread
from syncd.mail.message import Key, Uid
from syncd.services.verify.comparison import Fact
from syncd.services.verify.scratch import Scratch
from syncd.sources.base import Hides, OpenMailbox, Source, SourceSession

ROOM_OCTETS: Final = 12 << 20  # messages that are asked for, and hashed as they come
HEADERS_TOGETHER: Final = 200  # messages whose headers are asked for in one command
TRIES: Final = 2  # sessions for one mailbox
MOST_LOST: Final = 100  # messages at which a session breaks off; then something else is wrong
T = TypeVar("T")
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")


class Taken(NamedTuple):
    """A mailbox that was taken in: its UIDVALIDITY, and how many messages its server counts and shows."""

    validity: Epoch | None
    counted: int
    shown: int

    @property
    def lack(self) -> str:
        """Says that it shows too few; empty where it does not."""
        if self.counted <= self.shown:
            return ""
        return f"the server counts {self.counted:,} messages and shows {self.shown:,}"


class End:
    """An account or archive. For one thread, but for `cancel`."""

    def __init__(self, name: str, source: Source, scratch: Scratch, *, read: bool, lists: bool) -> None:
        """With `read=True` every octet is hashed. With `lists=True` a message is found after its mailbox was listed."""
        self.name = name
        self.pages = False  # a session shows a part of the mailbox
        self._source = source
        self._scratch = scratch
        self._read = read
        self._lists = lists
        self._session: SourceSession | None = None
        self._opened: OpenMailbox | None = None
        self._unread: Sequence[Unread] = ()
        self._room = Budget(ROOM_OCTETS).room()
        self._fetched = False
        self._alone = False  # ask for one message at a time: a session broke off among several
        self._at: Counter[tuple[bytes, bytes]] = Counter()  # mailbox and UID → sessions that broke off there, alone
        self._lost: dict[tuple[bytes, bytes], str] = {}  # mailbox and UID → why a session broke off at this message

    def cancel(self) -> None:
        """From any thread: have whatever waits raise Cancelled. Repeatable."""
        self._source.cancel()
        self._room.cancel()

    def close(self) -> None:
        """End the session. One that fetched ends without a farewell: some servers then hide what was fetched."""
        session, self._session, self._opened = self._session, None, None
        if session is not None:
            with closing(session), suppress(SyncdError):
                if not self._fetched:
                    session.finish()

    def mailboxes(self) -> list[Mailbox]:
        """Every mailbox that can be read."""
        return self._again(self._mailboxes)

    def unread(self, mailbox: Mailbox) -> str:
        """Says why messages of a mailbox may be here that are not shown; empty where there is no reason."""
        why = [part.why for part in self._unread if part.may_hold(mailbox.name)]
        return f"{why[0]}; this is one of {len(why):,} such places" if len(why) > 1 else "".join(why)

    def take_in(self, box: int, mailbox: Mailbox) -> Taken:
        """Note what a mailbox shows, as `box`. Raises MailboxRefused where it is not there."""
        return self._again(lambda: self._take_in(box, mailbox))

    def take_in_headers(self, box: int, mailbox: Mailbox, facts: Callable[[], Iterator[Fact]]) -> None:
        """Note the header of each of these messages of a box that was taken in."""
        self._again(lambda: self._take_in_headers(box, mailbox, facts()))

    def body(self, mailbox: Mailbox, fact: Fact) -> Body | None:
        """Returns the octets of a message that was taken in; None where it does not come. The caller closes them."""
        return self._again(lambda: self._body(mailbox, fact))

    # --- inside ----------------------------------------------------------------------------------------

    def _mailboxes(self) -> list[Mailbox]:
        session = self._connected()
        found = list(chain.from_iterable(session.mailboxes()))
        self._unread = tuple(session.unread) if isinstance(session, Hides) else ()
        return found

    def _connected(self) -> SourceSession:
        if self._session is None:
            self._session, self._fetched = self._source.connect(), False
            self.pages = self._session.info.pages
        return self._session

    def _again(self, work: Callable[[], T]) -> T:
        tries = TRIES
        while True:
            known = self._at.total()
            try:
                return work()
            except (SessionLost, ConnectionLost):
                self._drop()
                self._alone = True
                tries -= self._at.total() == known  # else it goes on, the second time behind that message
                if not tries or self._at.total() > MOST_LOST:
                    raise
            except BaseException:
                self._drop()
                raise

    def _drop(self) -> None:
        session, self._session, self._opened = self._session, None, None
        if session is not None:
            session.close()

    def _open(self, mailbox: Mailbox) -> OpenMailbox:
        self._opened = None  # it is dead, whatever comes of this
        self._opened = self._connected().open(mailbox._replace(messages=None))  # nothing is asked ahead
        return self._opened

    def _take_in(self, box: int, mailbox: Mailbox) -> Taken:
        opened = self._open(mailbox)
        self._scratch.empty(box)
        for chunk in opened.facts():
            self._scratch.add(box, chunk)
        if self._read:
            self._hash(box, opened)
            self._alone = False
        shown, _ = self._scratch.totals(box)
        return Taken(opened.mailbox.validity, opened.totals().messages, shown)

    def _hash(self, box: int, opened: OpenMailbox) -> None:
        asked: dict[int, Fact] = {}  # those that were asked for and have not come
        name = opened.mailbox.name

        def wanted() -> Iterator[Wanted]:
            for page in self._scratch.pages(box):
                for fact in page:
                    if (problem := self._lost.get((name, fact.uid))) is not None:
                        self._scratch.note_read(box, fact.number, fact.octets, None, problem)
                        continue
                    asked[fact.number] = fact
                    yield _wanted(fact)

        with closing(self._answers(opened, wanted(), asked)) as answers:
            for number, body, error in answers:
                fact = asked.pop(number)
                if body is None:
                    if self._alone and isinstance(error, MessageLost):
                        self._at[name, fact.uid] += 1
                        if self._at[name, fact.uid] > 1:  # once, the line may be to blame
                            self._lost[name, fact.uid] = str(error)
                    self._scratch.note_read(box, number, fact.octets, None, str(error or ""))
                else:
                    self._scratch.note_read(box, number, body.octets, body.sha256)
                    body.close()

    def _take_in_headers(self, box: int, mailbox: Mailbox, facts: Iterator[Fact]) -> None:
        alone = True  # some servers refuse a set of messages with gaps, and give each of them
        while together := list(map(_wanted, islice(facts, HEADERS_TOGETHER))):
            opened = self._listed(mailbox)
            left = self._note_headers(box, opened, together)
            if left and alone:
                alone = sum(len(self._note_headers(box, opened, [one])) for one in left) < len(left)

    def _note_headers(self, box: int, opened: OpenMailbox, wanted: Sequence[Wanted]) -> list[Wanted]:
        """Note the headers of messages; returns those whose headers are not given."""
        known = {one.key: one for one in wanted}
        for number, start in opened.headers(wanted):
            if start is not None:
                self._scratch.note_header(box, number, header_hash(_LINE_END.sub(b"\r\n", start)))
                del known[number]
        return list(known.values())

    def _listed(self, mailbox: Mailbox) -> OpenMailbox:
        opened = self._opened
        if opened is None or opened.mailbox.name != mailbox.name:
            opened = self._open(mailbox)
            for _ in opened.list() if self._lists else ():
                pass
        return opened

    def _body(self, mailbox: Mailbox, fact: Fact) -> Body | None:
        opened = self._listed(mailbox)
        with closing(self._answers(opened, iter([_wanted(fact)]), {fact.number: fact})) as answers:
            for _, body, _ in answers:
                return body
        return None

    def _answers(
        self, opened: OpenMailbox, wanted: Iterator[Wanted], asked: Mapping[int, Fact]
    ) -> Generator[tuple[int, Body | None, SyncdError | None], None, None]:
        """Yields number, body and error of each message, one at a time: its room is given back with the next."""
        self._fetched = True
        self._room.begin()
        try:
            with ended(opened.fetch(wanted, self._room, alone=self._alone)) as answers:
                for answer in answers:
                    if answer is not None:
                        taken = self._room.taken_by(asked[int(answer.key)].octets, answer.body)
                        yield int(answer.key), answer.body, answer.error
                        self._room.give(taken, 1)
        finally:
            self._room.end()


def _wanted(fact: Fact) -> Wanted:
    return Wanted(Key(fact.number), LineNumber(fact.number), Uid(fact.uid), fact.octets)
