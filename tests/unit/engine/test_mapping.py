from __future__ import annotations

import pytest

from syncd.engine.mapping import destination_path
from syncd.mail.mailbox import MAILDROP, Mailbox


def test_a_maildrop_is_inbox():
    assert destination_path(MAILDROP) == ("INBOX",)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (("INBOX",), ("INBOX",)),
        (("Inbox",), ("INBOX",)),  # RFC 3501 §5.1
        (("INBOX", "Kind regards"), ("INBOX", "Kind regards")),
        (("Archive", "2026", "März"), ("Archive", "2026", "März")),
        (("Archive", "inbox"), ("Archive", "inbox")),
    ],
)
def test_a_mailbox_keeps_its_path(path: tuple[str, ...], target: tuple[str, ...]):
    assert destination_path(Mailbox("/".join(path).encode(), path, use="\\Archive")) == target
