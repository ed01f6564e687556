"""Maps a mailbox of a source to its path at a destination (pure).

Today every mailbox keeps its path. The rules of a job (`mailboxes` of its configuration) come in here, with IMAP.
"""

from __future__ import annotations

from syncd.mail.mailbox import INBOX_PATH, Mailbox, Path


def destination_path(mailbox: Mailbox) -> Path:
    """Returns the path that a mailbox has at the destinations of a job.

    INBOX is INBOX in any spelling (RFC 3501 §5.1); every other mailbox keeps the path that its source lists.
    """
    if len(mailbox.path) == 1 and mailbox.path[0].upper() == INBOX_PATH[0]:
        return INBOX_PATH
    return mailbox.path
