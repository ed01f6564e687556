"""The table of replies that say "you send too much", against replies that say something else."""

from __future__ import annotations

import re

import pytest

from syncd.smtp.limits import ACCOUNT, CONNECTION, Row, Said, is_long, limits_account, limits_connection

KNOWN = [(row, said) for row in (*ACCOUNT, *CONNECTION) for said in row.known]


@pytest.mark.parametrize(("row", "said"), KNOWN)
def test_s22_each_reply_of_the_table_is_recognised_by_its_own_row(row: Row, said: Said):
    assert re.search(row.pattern, said.reply, re.IGNORECASE)
    assert limits_account(said.reply) or row in CONNECTION
    assert limits_connection(said.reply) or row in ACCOUNT
    assert said.source


def test_s22_the_table_has_replies_of_both_kinds():
    codes = [said.reply[0] for _, said in KNOWN]
    assert min(codes.count("4"), codes.count("5")) >= 10


@pytest.mark.parametrize(
    "text",
    [
        "250 2.0.0 queued",
        "450 4.2.0 greylisted",
        "451 4.7.1 Greylisting in action, please come back in 00:10:00",
        "451 4.3.0 Temporary lookup failure",
        "452 4.2.2 Mailbox over quota",
        "452 4.3.1 Insufficient system storage",
        "452 4.5.3 Too many recipients",
        "550 5.1.1 no such user",
        "550 5.7.1 message contains too many links",
        "550 5.7.1 Header size exceeds maximum permitted",
        "550 5.7.26 unauthenticated mail from example.org is not accepted",
        "552 5.2.2 <me@example.org> Quota exceeded (mailbox for user is full)",
        "552 5.2.2 The email account that you tried to reach is over quota",
        "552 5.2.3 Message exceeds local size limit",
        "552 5.3.4 Message size exceeds fixed limit",
        "552 Message size exceeds maximum message size 10240000",
        "552 message exceeds mail limit of 10 MB",
        "554 5.4.0 Error: too many hops",
        "554 5.7.1 Message rejected as spam",
        "554 Transaction failed: Reject due to policy restrictions",
        "500 5.5.2 line length limit exceeded",
        "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded",
    ],
)
def test_s22_other_replies_are_not_taken_for_it(text: str):
    assert not limits_account(text)
    assert not limits_connection(text)


@pytest.mark.parametrize(
    "text", ["421 4.7.0 too many messages in this session", "421 4.4.5 Too many connections", "421 too many emails"]
)
def test_s28_words_that_only_ask_for_a_new_connection(text: str):
    assert not limits_account(text)
    assert limits_connection(text)


@pytest.mark.parametrize(
    ("text", "long"),
    [("550 daily limit", True), ("550 exceeded the max emails per hour", True), ("451 rate limit exceeded", False)],
)
def test_s22_words_that_mean_hours(text: str, long: bool):  # noqa: FBT001
    assert is_long(text) == long
