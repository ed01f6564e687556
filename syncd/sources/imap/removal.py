r"""Removes messages from an open mailbox, and no others; what the server still shows afterwards was not removed.

    UIDPLUS (RFC 4315)     UID STORE of \Deleted, then UID EXPUNGE of exactly these messages
    Gmail (X-GM-EXT-1)     UID MOVE to the mailbox with \Trash: elsewhere EXPUNGE takes a label off, or nothing (I163).
                           That takes a message out of the mailboxes of all its labels. So one that is read from the
                           mailbox of a label stays while it has another one: nobody may have read it from there yet
    neither                EXPUNGE removes whatever has \Deleted. Only where the account says that it may, and while no
                           other message of the mailbox has \Deleted

CLOSE is never sent to a mailbox that is open for writing, because it expunges (RFC 3501 §6.4.2).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import islice
from typing import Final

from syncd.durable import Step, durable_step
from syncd.errors import MailboxRefused, MessageRefused, Unsupported, printable
from syncd.imap.changes import expunge, mark, uid_expunge, uid_move, unmark
from syncd.imap.client import Client
from syncd.imap.sets import UidSet
from syncd.imap.values import FetchItems, Selected
from syncd.mail.listing import Removed, Wanted
from syncd.mail.mailbox import Mailbox
from syncd.sources.imap.listing import has_label
from syncd.sources.imap.mailboxes import GMAIL

LABELLED: Final = (
    "it has other labels, and Gmail would take it out of their mailboxes, too; have the job read All Mail, or take them"
    " off"
)
TOGETHER: Final = 1000  # messages that are marked, expunged and looked for together


class Way(Enum):
    """The way in which a server removes messages."""

    UID_EXPUNGE = "UID EXPUNGE"
    TRASH = "MOVE to the trash"
    EXPUNGE = "EXPUNGE"


def way(client: Client, *, may_expunge: bool) -> Way:
    """Returns how this server removes messages. Raises Unsupported where that would touch other messages."""
    if not client.capabilities.known:
        client.capability().wait()
    capabilities = client.capabilities
    if GMAIL in capabilities:
        if "MOVE" not in capabilities:
            raise Unsupported(
                f"{client.address}: at Gmail only a MOVE to the trash removes a message, and this server has no MOVE;"
                " nothing was removed, set leave_on_server = true"
            )
        return Way.TRASH
    if "UIDPLUS" in capabilities or "IMAP4REV2" in capabilities:
        return Way.UID_EXPUNGE
    if may_expunge:
        return Way.EXPUNGE
    raise Unsupported(
        f"{client.address}: the server has no UIDPLUS, so it would also remove what other programs have marked as"
        " deleted; nothing was removed. If nobody else uses the account meanwhile, set expunge_without_uidplus = true"
        " for it"
    )


def trash_of(client: Client) -> bytes:
    r"""Returns the name of the mailbox with \Trash. Raises Unsupported where there is none."""
    for rows in client.mailboxes(status=False):
        for row in rows:
            if row.use == "\\Trash" and row.selectable:
                return row.name
    raise Unsupported(
        f"{client.address}: the account shows no mailbox with \\Trash to IMAP, and at Gmail only a MOVE to it removes a"
        " message; nothing was removed. Let Gmail's settings show the trash in IMAP"
    )


class Removal:
    """Removal from one mailbox, which is selected for writing."""

    def __init__(  # noqa: PLR0917  each part is needed once, here
        self, client: Client, mailbox: Mailbox, opened: Selected, how: Way, trash: bytes, elsewhere: frozenset[str]
    ) -> None:
        """`trash` is the mailbox with that use, for Way.TRASH; `elsewhere` labels with which a message stays.

        Raises MailboxRefused where nothing can be removed.
        """
        self._elsewhere = elsewhere
        self._client = client
        self._mailbox = mailbox
        self._how = how
        self._trash = trash
        if opened.read_only:
            raise self._refused("the server opens it for reading only")
        if opened.uid_not_sticky:
            raise self._refused("its UIDs do not last (UIDNOTSTICKY), so it is not sure which messages they name")
        if how is Way.TRASH and mailbox.name == trash:
            raise self._refused("it is Gmail's trash, which Gmail empties by itself")

    def remove(self, doomed: Iterable[Wanted]) -> Iterator[Removed]:
        """See `sources.base.OpenMailbox.remove`: what is answered is gone."""
        todo = iter(doomed)
        while together := {int(one.uid): one.key for one in islice(todo, TOGETHER)}:
            uids = UidSet.of(together)
            self._check_validity()
            if self._elsewhere:
                for uid in self._labelled(uids):
                    yield Removed(together.pop(uid), MessageRefused(LABELLED))
                uids = UidSet.of(together)
            if not together:
                continue
            if self._how is Way.TRASH:
                with durable_step(Step.SOURCE_EXPUNGE):
                    uid_move(self._client.session, uids, self._trash)
            elif self._how is Way.UID_EXPUNGE:
                with durable_step(Step.SOURCE_REMOVE):
                    mark(self._client.session, uids)
                with durable_step(Step.SOURCE_EXPUNGE):
                    uid_expunge(self._client.session, uids)
            else:
                self._expunge(uids)
            still = self._shown(uids)
            for uid, key in together.items():
                if uid not in still:
                    yield Removed(key, None, is_final=True)
            if still:
                raise self._refused(
                    f"the server says that it removed {len(together):,}, and still shows {len(still):,}"
                )

    # --- inside --------------------------------------------------------------------------------------

    def _expunge(self, uids: UidSet) -> None:
        r"""Remove by EXPUNGE. What others mark in the moment between the last look and EXPUNGE goes, too."""
        session = self._client.session
        before = self._marked()
        self._check_foreign(before - uids)
        with durable_step(Step.SOURCE_REMOVE):
            mark(session, uids)
        marked = self._marked()
        foreign, unseen = marked - uids, self._shown(uids - marked)
        if foreign.ranges or unseen:
            unmark(session, uids - before)
            self._check_foreign(foreign)
            raise self._refused(
                f"the server's search does not show {len(unseen):,} messages that were just marked as deleted, so it"
                " may hide those of others, which a server without UIDPLUS would remove, too"
            )
        with durable_step(Step.SOURCE_EXPUNGE):
            expunge(session)

    def _marked(self) -> UidSet:
        return self._client.uid_search(b"DELETED").wait()

    def _check_foreign(self, foreign: UidSet) -> None:
        if foreign.ranges:
            raise self._refused(
                f"{sum(1 for _ in foreign):,} other messages in it are marked as deleted, and a server without UIDPLUS"
                " would remove them, too; expunge them or take the mark off in a mail program"
            )

    def _shown(self, uids: UidSet) -> set[int]:
        return {row.uid for rows in self._client.rows(uids, FetchItems()) for row in rows}

    def _labelled(self, uids: UidSet) -> list[int]:
        """Returns the messages that are in mailboxes of other labels, too."""
        listed = self._client.rows(uids, FetchItems(gmail_labels=True))
        told = {int(row.uid): row for rows in listed for row in rows if row.labels is not None}
        if silent := sum(uid not in told for uid in uids):
            raise self._refused(f"the server does not tell the labels of {silent:,} messages")
        return [uid for uid in uids if has_label(told[uid], self._elsewhere)]

    def _check_validity(self) -> None:
        selected, validity = self._client.selected, self._mailbox.validity
        if selected is None or selected.name != self._mailbox.name or int(selected.uid_validity or 0) != validity:
            raise self._refused("the server numbers its messages from the start again")

    def _refused(self, why: str) -> MailboxRefused:
        name = printable("/".join(self._mailbox.path))
        return MailboxRefused(f"{self._client.address}: messages are not removed from “{name}”: {why}")
