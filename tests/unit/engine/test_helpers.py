"""Mailboxes that several sessions take from one queue."""

from __future__ import annotations

import threading

from syncd.db.rows import KnownMailbox, MailboxScope, RunScope
from syncd.engine.helpers import MailboxQueue
from syncd.mail.mailbox import Epoch, Mailbox

WAIT_S = 30.0  # only a test that fails waits so long
RUN = RunScope(1, 1, 1, 1, ())


def known(name: str, messages: int = 0, present: int = 0) -> KnownMailbox:
    mailbox = Mailbox(name.encode(), (name,))._replace(messages=messages)
    return KnownMailbox(MailboxScope(RUN, 1, mailbox, Epoch(1)), planned=False, is_open=False, present=present)


def name_of(taken: KnownMailbox | None) -> str:
    assert taken is not None
    return taken.scope.mailbox.path[0]


def test_most_new_messages_come_first():
    queue = MailboxQueue([known("old", 900, 900), known("new", 5), known("both", 700, 600)])
    queue.largest_first()
    assert [name_of(queue.take()) for _ in range(3)] == ["both", "new", "old"]
    assert queue.take() is None


def test_the_first_session_waits_for_what_others_may_give_back():
    queue = MailboxQueue([known("a"), known("b")])
    helpers, mine = queue.take(), queue.take()
    assert helpers is not None
    assert name_of(mine) == "b"
    queue.done()
    found: list[KnownMailbox | None] = []
    thread = threading.Thread(target=lambda: found.append(queue.take(wait=True)))
    thread.start()
    queue.give_back(helpers)
    thread.join(WAIT_S)
    assert found == [helpers]
    queue.done()
    assert queue.take(wait=True) is None


def test_a_queue_that_is_closed_gives_nothing():
    queue = MailboxQueue([known("a")])
    queue.close()
    assert queue.take(wait=True) is None
