"""The table of named deviations."""

from __future__ import annotations

import logging

import pytest

from syncd.smtp.quirks import Quirks
from syncd.smtp.values import Reply

DOVECOT = Reply(220, "", (b"mx.example.org Dovecot ready.",))


@pytest.mark.parametrize(
    ("greeting", "lmtp", "takes"),
    [(DOVECOT, True, True), (DOVECOT, False, False), (Reply(220, "", (b"mx ESMTP Postfix",)), True, False)],
)
def test_d01_messages_are_pipelined_only_where_it_is_known_to_work(greeting: Reply, lmtp: bool, takes: bool):  # noqa: FBT001
    assert Quirks().takes_pipelined_messages(greeting, lmtp=lmtp) == takes
    assert Quirks(pipelines_messages=True).takes_pipelined_messages(greeting, lmtp=lmtp)
    assert not Quirks(pipelines_messages=False).takes_pipelined_messages(greeting, lmtp=lmtp)


def test_s31_empty_lines_are_noted_once(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    quirks = Quirks()
    quirks.note_empty_lines("mx:25")
    quirks.note_empty_lines("mx:25")
    assert [record.__dict__["quirk"] for record in caplog.records] == ["S31"]
