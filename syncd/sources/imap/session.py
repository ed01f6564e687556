"""A signed-in IMAP session: list mailboxes, open them for reading one after the other, LOGOUT; and an open mailbox.

Mailboxes are opened by EXAMINE and read by BODY.PEEK[]: nothing at the server changes (I137). One that messages are
going to be removed from is opened by SELECT; see `removal`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Final

from syncd.errors import (
    MailboxRefused,
    NoHeaders,
    Refused,
    RemoteProtocolError,
    SessionLost,
    Throttled,
    TransportError,
    Unsupported,
    printable,
)
from syncd.imap.client import Client
from syncd.imap.sets import UidSet
from syncd.imap.stream import Answered
from syncd.imap.values import FetchItems, MailboxRow
from syncd.mail.body import HEADER_CAP_OCTETS, BodyWriter, Spool
from syncd.mail.listing import Facts, Fetched, Listed, Removed, Totals, Wanted
from syncd.mail.mailbox import INBOX, Epoch, Mailbox, ModSeq
from syncd.mail.message import Key
from syncd.sources.base import QuotaUse, Room, SourceInfo
from syncd.sources.imap.ahead import Ahead, Opening
from syncd.sources.imap.listing import Hiding, Listing
from syncd.sources.imap.mailboxes import ALL_MAIL, GMAIL, labels_of, of_gmail, other_labels, selectable
from syncd.sources.imap.notes import notes
from syncd.sources.imap.options import ImapOptions
from syncd.sources.imap.removal import Removal, Way, trash_of, way
from syncd.sources.imap.retrieval import Retrieval

HEADERS_TOGETHER: Final = 200  # messages whose headers are asked for in one command
CHUNK_MAILBOXES: Final = 1000
QUOTA_UNIT: Final = 1024  # octets: of STORAGE (RFC 9208 §5.1)
MOST_BAD_AHEAD: Final = 2  # I105: where no mailbox is open, the listing asked for behind is BAD as well


class ImapSession:
    """A signed-in session (`sources.base.SourceSession`)."""

    def __init__(self, client: Client, options: ImapOptions, mechanism: str) -> None:
        self._client = client
        self._options = options
        self._way: Way | None = None  # how the server removes messages, when somebody has asked
        self._trash = b""
        self._labels: frozenset[str] | None = None  # of Gmail, that have a mailbox; None: nobody has asked
        self._spool = Spool(options.spool)
        self._mechanism = mechanism
        self._listing = Listing(client)  # of the mailbox that is open
        self._ahead = Ahead(client, self._ask)
        self.left_out: tuple[Mailbox, ...] = ()  # see `sources.base.LeavesOut`
        self._identity = client.id({"name": "syncd"})  # leaves with the next command …
        self._namespaces = client.namespace()  # … and so does this

    @property
    def info(self) -> SourceInfo:
        """The connection, and the capabilities that the server announces; complete after the list of mailboxes."""
        client = self._client
        identity = self._identity.wait() if self._identity.done else {}
        return SourceInfo(
            client.address,
            client.transport.tls,
            self._mechanism,
            client.capabilities.names,
            tuple(notes(client, identity)),
            server=printable(identity.get("name", ""), 100),
        )

    def quotas(self) -> list[QuotaUse]:
        """Ask for the quotas of the inbox (RFC 9208); none where the server does not tell."""
        found = []
        for root, quota in self._client.quotas(INBOX).wait().items():
            used, limit = quota.storage or (None, None)
            messages, of_messages = quota.messages or (None, None)
            octets, of_octets = (None if it is None else it * QUOTA_UNIT for it in (used, limit))
            found.append(QuotaUse(printable(root, 100), octets, of_octets, messages, of_messages))
        return found

    def mailboxes(self) -> Iterator[list[Mailbox]]:
        r"""Every mailbox that can hold messages, with its STATUS. Of Gmail's, those that are read: see `of_gmail`."""
        client = self._client
        if not client.capabilities.known:
            client.capability().wait()
        if GMAIL in client.capabilities:
            found = [one for chunk in self._mailboxes() for one in chunk]
            self._labels = labels_of(found)
            read = of_gmail(found, self._options.selection, each=self._options.each_label)
            names = {one.name for one in read}
            self.left_out = tuple(one for one in found if one.name not in names)
            chosen = iter(read)
            while chunk := list(islice(chosen, CHUNK_MAILBOXES)):
                yield chunk
        else:
            yield from self._mailboxes()

    def _mailboxes(self) -> Iterator[list[Mailbox]]:
        for rows in self._client.mailboxes(size=self._options.sizes):
            if chunk := self._selectable(rows):
                yield [self._marked(one) for one in chunk] if self._mark else chunk

    @property
    def _mark(self) -> bytes:
        """Returns what the options add to the token of a mailbox: with others it has to be listed again."""
        options = self._options
        return b" skip" * options.skip_deleted + b" each" * options.each_label

    def _marked(self, mailbox: Mailbox) -> Mailbox:
        return mailbox._replace(contents=mailbox.contents + self._mark) if mailbox.contents else mailbox

    def _selectable(self, rows: list[MailboxRow]) -> list[Mailbox]:
        return selectable(rows, self._namespaces.wait(), utf8=self._client.session.utf8)

    def open(self, mailbox: Mailbox, *, removes: bool = False, following: Mailbox | None = None) -> ImapMailbox:
        """EXAMINE a mailbox. Raises MailboxRefused where the server does not open it, SessionLost at a loss.

        What is said to have messages is listed in the same flight. `following` is asked for behind the last message.

        With `removes=True` it is opened by SELECT; raises MailboxRefused and Unsupported as the contract says.
        """
        client = self._client
        self._listing.drop_ahead()
        opening = self._ahead.take(None if removes else mailbox)
        if not client.capabilities.known:  # a session that did not list mailboxes
            client.capability().wait()
        with _naming(client):
            how = self._how() if removes else None
            elsewhere = other_labels(self._all_labels(), mailbox) if how is Way.TRASH else frozenset[str]()
            opening = opening or self._ask(mailbox, how)
            self._listing = opening.listing
            selected = opening.selected.wait()
            if selected.exists is None and how is None:
                name = printable("/".join(mailbox.path))
                raise MailboxRefused(
                    f"{client.address}: the server opens “{name}” and does not say what is in it (EXISTS)"
                )
        may_ask = client.session.may_pipeline and not self._options.each_label  # labels may have to be asked for first
        self._ahead.expect(following if may_ask else None)
        validity = mailbox.validity if selected.uid_validity is None else Epoch(selected.uid_validity)
        found = mailbox._replace(
            validity=validity,
            contents=mailbox.contents if validity == mailbox.validity else b"",
            messages=selected.exists,
            modseq=mailbox.modseq if selected.modseq is None else ModSeq(selected.modseq),
            uid_next=mailbox.uid_next if selected.uid_next is None else selected.uid_next,
        )
        removal = None if how is None else Removal(client, found, selected, how, self._trash, elsewhere)
        return ImapMailbox(client, found, self._spool, opening.listing, removal, self._ahead)

    def _ask(self, mailbox: Mailbox, how: Way | None = None) -> Opening:
        """Ask for a mailbox, and for its listing if it is said to have messages."""
        client = self._client
        listing = Listing(client, self._hiding(mailbox))
        selected = (client.examine if how is None else client.select)(mailbox.name)
        if mailbox.messages and client.session.bad < MOST_BAD_AHEAD:
            listing.ask_ahead()
        return Opening(mailbox, selected, listing)

    def _hiding(self, mailbox: Mailbox) -> Hiding:
        hides = self._options.each_label and mailbox.use == ALL_MAIL and GMAIL in self._client.capabilities
        labels = self._all_labels() if hides else frozenset[str]()
        return Hiding(labels, deleted=self._options.skip_deleted)

    def _all_labels(self) -> frozenset[str]:
        if self._labels is None:
            listed = self._client.mailboxes(status=False)
            self._labels = labels_of([one for rows in listed for one in self._selectable(rows)])
        return self._labels

    def _how(self) -> Way:
        if self._way is None:
            how = way(self._client, may_expunge=self._options.expunge_without_uidplus)
            self._trash = trash_of(self._client) if how is Way.TRASH else b""
            self._way = how
        return self._way

    def finish(self) -> None:
        """LOGOUT, and hang up without a wait: nothing hangs on the answer. What was removed is gone already."""
        self._client.logout(wait=False)
        self.close()

    def close(self) -> None:
        """Hang up. Repeatable."""
        self._client.close()


class ImapMailbox:
    """A mailbox that is open for reading (`sources.base.OpenMailbox`)."""

    def __init__(  # noqa: PLR0917  each part is needed once, here
        self, client: Client, mailbox: Mailbox, spool: Spool, listing: Listing, removal: Removal | None, ahead: Ahead
    ) -> None:
        self.mailbox = mailbox
        self._removal = removal
        self._ahead = ahead
        self._client = client
        self._spool = spool
        self._listing = listing

    def totals(self) -> Totals:
        """EXISTS and the sum of the sizes, as of the last listing; lists if there was none."""
        if self._listing.totals is None:
            for _ in self.list():
                pass
        assert self._listing.totals is not None, "it was listed"
        return self._listing.totals

    def facts(self) -> Iterator[list[Facts]]:
        """Every message with FLAGS and INTERNALDATE. Raises SessionLost where the session breaks off."""
        with _naming(self._client):
            self._ahead.back(self.mailbox)
            yield from self._listing.facts()

    def list(self) -> Iterator[list[Listed]]:
        """Every message, in the server's order. Raises SessionLost where the session breaks off."""
        with _naming(self._client):
            self._ahead.back(self.mailbox)
            yield from self._listing.rows()

    def headers(self, wanted: Iterable[Wanted]) -> Iterator[tuple[Key, bytes | None]]:
        """BODY.PEEK[HEADER]. None for a message that the server gives no header of. Raises NoHeaders."""
        self._listing.drop_ahead()
        todo = iter(wanted)
        while together := list(islice(todo, HEADERS_TOGETHER)):
            try:
                self._ahead.back(self.mailbox)
                yield from self._headers({int(one.uid): one.key for one in together})
            except (TransportError, RemoteProtocolError) as error:
                raise NoHeaders(f"{error}; the session broke off where headers alone were asked for") from error

    def fetch(self, wanted: Iterable[Wanted], room: Room, *, alone: bool = False) -> Iterator[Fetched | None]:
        """UID FETCH of BODY.PEEK[], FLAGS and INTERNALDATE, in sets; answers come as the server gives them.

        A message is handed out when it is proven to be the one that was asked for (see `retrieval`). Raises
        SessionLost where the session breaks off: the message at which it did is answered before. MailboxRefused where
        the mailbox is not there any more, or none of its messages is given; Throttled where the server wants a pause.
        """
        self._listing.drop_ahead()
        labels = GMAIL in self._client.capabilities
        retrieval = Retrieval(self._client, self.mailbox, self._spool, room, self._ahead, labels=labels)
        yield from retrieval.messages(wanted, alone=alone)

    def remove(self, doomed: Iterable[Wanted]) -> Iterator[Removed]:
        """Remove messages at once; see `removal`. Raises MailboxRefused, and SessionLost at a loss."""
        assert self._removal is not None, "it was opened for reading"
        self._listing.drop_ahead()
        with _naming(self._client):
            yield from self._removal.remove(doomed)

    def _headers(self, keys: dict[int, Key]) -> Iterator[tuple[Key, bytes | None]]:
        stream = self._client.bodies(FetchItems(header=True), _no_body)
        try:
            stream.ask(UidSet.of(keys))
            while stream.in_flight:
                event = stream.next()
                if isinstance(event, Answered):
                    if isinstance(event.refused, Throttled):
                        raise event.refused
                elif (key := keys.pop(event.row.uid, None)) is not None:
                    header = event.row.header
                    yield key, None if header is None else header[:HEADER_CAP_OCTETS]
        finally:
            stream.close()
        for key in keys.values():
            yield key, None


@contextmanager
def _naming(client: Client) -> Iterator[None]:
    """Say of a connection that broke off in a mailbox that another session may do better with the others."""
    try:
        yield
    except (TransportError, RemoteProtocolError) as error:
        raise SessionLost(str(error)) from error
    except Refused as error:
        if client.over or isinstance(error, Throttled | MailboxRefused | Unsupported):
            raise
        raise MailboxRefused(str(error), command=error.command, code=error.code, text=error.text) from error


def _no_body(uid: int, octets: int) -> BodyWriter:
    raise AssertionError(f"no body was asked for, and UID {uid} has one of {octets} octets")
