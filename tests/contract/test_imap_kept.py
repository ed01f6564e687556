"""An IMAP account whose connection is kept from run to run, and what others do to its mailboxes in between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from syncd.destinations.imap.account import ImapAccount
from syncd.destinations.imap.existing import Existing
from syncd.destinations.imap.route import ImapDestination
from syncd.mail.message import Message
from syncd.mail.outcome import Outcome
from tests.contract.test_imap_filling import UIDPLUS, letters, options
from tests.fakes.imap import BARE, FakeImap


@pytest.fixture(params=[UIDPLUS, BARE], ids=["UIDPLUS", "bare"])
def server(request: pytest.FixtureRequest) -> Iterator[FakeImap]:
    with FakeImap() as server:
        server.inside = request.param
        yield server
        assert server.connections == 1


@pytest.fixture
def account(server: FakeImap, tmp_path: Path) -> Iterator[ImapAccount]:
    with closing(ImapAccount(options(server, tmp_path))) as account:
        yield account


def run(account: ImapAccount, messages: list[Message]) -> list[str]:
    """A run of a job with `skip_existing`. Returns the hints of the receipts, in the order of the messages."""
    route = ImapDestination(account, existing=Existing())
    route.open()
    known = told(*route.recognise(messages, lambda _: ()))
    known |= told(*route.deliver([one for one in messages if one.key not in known]))
    return [known[one.key] for one in messages]


def told(*groups: Sequence[Outcome]) -> dict[int, str]:
    return {one.key: one.receipt.hint for group in groups for one in group if one.receipt is not None}


def test_what_another_program_has_put_there_meanwhile_is_recognised(server: FakeImap, account: ImapAccount) -> None:
    """It has UIDs from the UIDNEXT on that the run before left, and was taken for messages of this run."""
    assert run(account, letters(0, 3)) == ["1:1 INBOX", "1:2 INBOX", "1:3 INBOX"]
    others = letters(3, 3)
    server.box("INBOX").add(*(b"".join(one.body.chunks()) for one in others))
    assert run(account, others) == ["1:4 INBOX", "1:5 INBOX", "1:6 INBOX"]
    assert len(server.box("INBOX").mail) == 6


def test_a_mailbox_that_was_made_again_meanwhile_is_looked_at(server: FakeImap, account: ImapAccount) -> None:
    """Messages that came into it had no receipt, and were told as not shown."""
    run(account, letters(0, 3))
    box = server.box("INBOX")
    box.mail.clear()
    box.renew(validity=2)
    assert run(account, letters(3, 3)) == ["2:1 INBOX", "2:2 INBOX", "2:3 INBOX"]
