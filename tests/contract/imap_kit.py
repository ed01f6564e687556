"""What the IMAP source's tests share: a source for a fake server."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from syncd.imap.client import Deadlines
from syncd.imap.quirks import Quirks
from syncd.mail.mailbox import Path as MailboxPath
from syncd.mail.mailbox import name_of
from syncd.net.endpoint import Endpoint
from syncd.secret import Secret
from syncd.sources.imap.account import ImapSource
from syncd.sources.imap.options import ImapOptions
from tests.fakes.imap import PASSWORD, USERNAME, FakeImap

SPOOL = Path("/nowhere/that/exists")  # only large messages go there


def source(server: FakeImap, quirks: Quirks | None = None, **changes: Any) -> ImapSource:
    """A source for `server`; `changes` to the fields of ImapOptions and of its Endpoint."""
    endpoint: dict[str, Any] = {
        "host": server.host,
        "port": server.port,
        "security": "none",
        "allow_insecure": True,
        "username": USERNAME,
        "password": lambda: Secret(PASSWORD),
    }
    names = {field.name for field in fields(Endpoint)}
    endpoint |= {name: changes.pop(name) for name in names & changes.keys()}
    return ImapSource(ImapOptions(**{"endpoint": Endpoint(**endpoint), "spool": SPOOL, **changes}), quirks)


def impatient(**seconds: float) -> Deadlines:
    """Every wait ends after a second, or as said."""
    names = ("connect", "tls", "greeting", "reply", "listing", "body", "logout")
    return Deadlines(**{**dict.fromkeys(names, 1.0), **seconds})


def name(path: MailboxPath, delimiter: bytes = b".") -> bytes:
    """What a mailbox with this path is called at a server with this delimiter."""
    return name_of(path, delimiter)
