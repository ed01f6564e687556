"""The options of an IMAP account as a source."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from syncd.imap.client import Deadlines
from syncd.imap.signin import CHOICES
from syncd.mail.patterns import EVERYTHING, Selection
from syncd.net.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class ImapOptions:
    """An account. `endpoint.auth` is one of `signin.CHOICES`. Raises ConfigError for names that IMAP does not know.

    `selection` has the mailboxes that a job reads. All others are listed, too, but nothing is asked about them
    that costs something.
    """

    endpoint: Endpoint
    spool: Path  # the folder for messages over 2 MiB while they are in flight
    message_octets: int = 2 << 30  # a server that sends more in one message loses its session
    selection: Selection = EVERYTHING
    sizes: bool = False  # ask for the octets of each mailbox, too, which a server may have to count
    connections: int = 1  # sessions at a time
    expunge_without_uidplus: bool = False  # nobody else uses the account: EXPUNGE may be what removes messages
    pipelining: bool = True  # False: one command at a time
    skip_deleted: bool = False  # messages that are marked as deleted do not count as part of their mailbox
    each_label: bool = False  # at Gmail the mailbox of each label is read, and of All Mail what is in none of them
    deadlines: Deadlines = field(default_factory=Deadlines)

    def __post_init__(self) -> None:
        self.endpoint.check("IMAP", CHOICES)
