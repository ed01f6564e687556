"""What became of messages that were on their way, asked of a scripted server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from syncd import clock
from syncd.destinations.imap.account import ImapAccount, ImapAccountOptions
from syncd.destinations.imap.ask import ask
from syncd.mail.body import Body
from syncd.mail.message import Key
from syncd.mail.outcome import Intended, Intent, Verdict
from syncd.net.endpoint import Endpoint
from syncd.secret import Secret
from tests.fakes.imap import EXTENDED, PASSWORD, USERNAME, FakeImap

MAIL = b"Subject: a\r\n\r\nequal\r\n"


@pytest.fixture
def server() -> Iterator[FakeImap]:
    with FakeImap() as server:
        server.inside = EXTENDED
        yield server


def intended(number: int, following: int) -> Intended:
    body = Body.of(MAIL)
    return Intended(Key(number), body.octets, body.sha256, body.header_hash, Intent(b"INBOX", 1, following))


@pytest.mark.parametrize("stored", [MAIL, MAIL.replace(b"equal", b"EQUAL")], ids=["by octets", "by header"])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("followings", [(1, 2), (2, 1)])
def test_equal_messages_of_two_connections_are_told_apart(
    server: FakeImap, tmp_path: Path, followings: tuple[int, int], stored: bytes, *, backwards: bool
) -> None:
    """Each had its own UIDNEXT; neither takes the only copy that can be the other's."""
    server.backwards = backwards
    server.box("INBOX").add(stored, stored)
    endpoint = Endpoint(
        server.host, server.port, "none", USERNAME, password=lambda: Secret(PASSWORD), allow_insecure=True
    )
    with closing(ImapAccount(ImapAccountOptions(endpoint, tmp_path))) as account:
        found = ask(account, [intended(number, each) for number, each in enumerate(followings, 1)], lambda _: ())
    assert [outcome.verdict for outcome in found] == [Verdict.DELIVERED] * 2
    assert len({outcome.receipt for outcome in found}) == 2


@pytest.mark.parametrize(("days", "verdict"), [(None, Verdict.SENDING), (2, Verdict.SENDING), (3, Verdict.UNCERTAIN)])
def test_a_mailbox_that_does_not_tell_is_waited_for_some_days(
    server: FakeImap, tmp_path: Path, days: int | None, verdict: Verdict
) -> None:
    server.replies["EXAMINE INBOX"] = b"<tag> NO [NOPERM] not for you\r\n"
    endpoint = Endpoint(
        server.host, server.port, "none", USERNAME, password=lambda: Secret(PASSWORD), allow_insecure=True
    )
    since = None if days is None else clock.now() - timedelta(days=days)
    with closing(ImapAccount(ImapAccountOptions(endpoint, tmp_path))) as account:
        [found] = ask(account, [intended(1, 1)._replace(since=since)], lambda _: ())
    assert found.verdict is verdict
    assert "[NOPERM]" in found.reason
