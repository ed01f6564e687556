"""The mailbox that is opened next is asked for in one flight with the last messages of the open one.

Its EXAMINE and its listing stand behind the last UID FETCH, so each of many small mailboxes costs one flight instead of
two. Servers carry out such commands in order (RFC 3501 §5.5). What is then still wanted of the open mailbox leads back
to it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from syncd.errors import MailboxRefused
from syncd.imap.client import Client, Pending
from syncd.imap.values import Selected
from syncd.mail.mailbox import Epoch, Mailbox
from syncd.sources.imap.listing import Listing


class Opening(NamedTuple):
    """A mailbox that the server is asked to open, with its listing."""

    mailbox: Mailbox
    selected: Pending[Selected]
    listing: Listing


class Ahead:
    """The mailbox that a session has asked for ahead."""

    def __init__(self, client: Client, ask: Callable[[Mailbox], Opening]) -> None:
        self._client = client
        self._ask = ask
        self._following: Mailbox | None = None
        self._opening: Opening | None = None

    def expect(self, mailbox: Mailbox | None) -> None:
        """Have `mailbox` opened next; None: it is not known which."""
        self._following = mailbox

    def begin(self) -> None:
        """Ask for the mailbox that is opened next, if it is known. Repeatable."""
        if self._following is not None:
            with suppress(MailboxRefused):  # no command can open it, which is said when it is opened
                self._opening = self._ask(self._following)
            self._following = None

    def take(self, mailbox: Mailbox | None) -> Opening | None:
        """Returns the mailbox, if it was asked for; another one is given up."""
        opening, self._opening = self._opening, None
        if opening is not None and opening.mailbox != mailbox:
            opening.listing.drop_ahead()
            return None
        return opening

    def back(self, mailbox: Mailbox) -> None:
        """See that `mailbox`, which was opened last, is the one that is open, because more is wanted of it.

        Raises MailboxRefused where it is not what it was, and what a session raises.
        """
        if self._opening is None:
            return
        self.take(None)
        validity = self._client.examine(mailbox.name).wait().uid_validity
        if validity is not None and Epoch(validity) != mailbox.validity:
            address = self._client.address
            raise MailboxRefused(f"{address}: the mailbox was made anew while it was read; it is read in the next run")
