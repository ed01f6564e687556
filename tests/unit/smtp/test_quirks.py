"""The table of named deviations."""

from __future__ import annotations

import pytest

from syncd.smtp.quirks import Quirks, says_later
from syncd.smtp.values import Reply

DOVECOT = Reply(220, "", (b"mx.example.org Dovecot ready.",))


@pytest.mark.parametrize(
    ("greeting", "lmtp", "bears"),
    [(DOVECOT, True, True), (DOVECOT, False, False), (Reply(220, "", (b"mx ESMTP Postfix",)), True, False)],
)
def test_d01_messages_are_pipelined_only_where_it_is_known_to_be_borne(greeting: Reply, lmtp: bool, bears: bool):  # noqa: FBT001
    assert Quirks().bears_pipelined_messages(greeting, lmtp=lmtp) == bears
    assert Quirks(pipelines_messages=True).bears_pipelined_messages(greeting, lmtp=lmtp)
    assert not Quirks(pipelines_messages=False).bears_pipelined_messages(greeting, lmtp=lmtp)


def test_s21_words_that_ask_for_patience():
    assert says_later(b"Too many bad auth attempts")
    assert not says_later(b"Username and Password not accepted. Learn more or try again")
