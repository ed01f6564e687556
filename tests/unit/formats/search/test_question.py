"""What people ask: read, or refused with what is expected."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.errors import UsageError
from syncd.formats.search.question import ATTACHED, Question, Term, parse
from syncd.formats.search.words import Field


def test_words_phrases_and_fields() -> None:
    asked = parse('invoice "annual report" from:Ann subject:"Q3 Report" invoi*', UTC)
    assert asked.terms == (
        (Term(("invoice",)),),
        (Term(("annual", "report"), None, in_order=True),),
        (Term(("ann",), Field.FROM),),
        (Term(("q3", "report"), Field.SUBJECT, in_order=True),),
        (Term(("invoi",), open=True),),
    )
    assert asked.has_phrases
    assert not parse("annual report", UTC).has_phrases


def test_facts() -> None:
    asked = parse(
        "has:attachment larger:5M after:2023-12-24 before:2024-01-31T12:00:00+00:00 account:road mailbox:A/B", UTC
    )
    assert asked == Question(
        ((ATTACHED,),),
        larger=5 << 20,
        after=datetime(2023, 12, 25, tzinfo=UTC),  # a day is over before what is after it begins
        before=datetime(2024, 1, 31, 12, tzinfo=UTC),
        accounts=("road",),
        mailboxes=("A/B",),
    )
    east = timezone(timedelta(hours=2))
    assert parse("before:2024-01-31", east).before == datetime(2024, 1, 30, 22, tzinfo=UTC)
    assert parse('mailbox:"Lists/2019 old"', UTC).mailboxes == ("Lists/2019 old",)


def test_an_address_stands_for_its_parts() -> None:
    assert parse("to:ann@example.org http://example.org/x", UTC).terms == (
        (Term(("ann", "example", "org"), Field.TO),),
        (Term(("http", "example", "org", "x")),),
    )
    assert parse("from: ann", UTC).terms == ((Term(("ann",), Field.FROM),),)
    assert parse("  ", UTC) == Question()
    assert parse('"never closed', UTC).terms == ((Term(("never", "closed"), None, in_order=True),),)


def test_one_of_several() -> None:
    asked = parse('invoice OR "paid bill" OR has:attachment from:ann OR from:bob', UTC)
    assert asked.terms == (
        (Term(("invoice",)), Term(("paid", "bill"), None, in_order=True), ATTACHED),
        (Term(("ann",), Field.FROM), Term(("bob",), Field.FROM)),
    )
    assert parse("mailbox:A OR mailbox:B account:x OR account:y", UTC) == Question(
        accounts=("x", "y"), mailboxes=("A", "B")
    )
    assert parse('one "OR" or', UTC).terms == ((Term(("one",)),), (Term(("or",)),), (Term(("or",)),))


def test_what_is_left_out() -> None:
    asked = parse('note -draft -from:ann@x.org -"no more" -mailbox:Trash -account:old -has:attachment well-known', UTC)
    assert asked.terms == ((Term(("note",)),), (Term(("well", "known")),))
    assert asked.without == (
        Term(("draft",)),
        Term(("ann", "x", "org"), Field.FROM),
        Term(("no", "more"), None, in_order=True),
        ATTACHED,
    )
    assert (asked.not_mailboxes, asked.not_accounts) == (("Trash",), ("old",))
    ranges = parse("note -larger:5k -before:2024-01-31 -after:2024-02-29", UTC)
    assert (ranges.at_most, ranges.larger) == (5 << 10, None)
    assert ranges.after == datetime(2024, 1, 31, tzinfo=UTC)
    assert ranges.before == datetime(2024, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fro:ann", "there is no field 'fro'; fields are from, to, subject"),
        ("has:picture", "write has:attachment"),
        ("before:yesterday", "write before:2024-01-31"),
        ("after:2024-13-01", "is no date"),
        ("larger:big", "write larger:5M"),
        ("from:", '"from:" has nothing behind it, such as from:ann'),
        ("in*", "is too short; write 3 letters or more"),
        ("!!!", "neither letters nor digits"),
        ("x" * 1001, "at most 1,000 characters"),
        ("a " * 60, "at most 50 words"),
        ("a " * 30 + "-b " * 30, "at most 50 words"),
        ("-draft", "says only what messages lack; add what they have"),
        ("-from:ann -mailbox:Trash", "says only what messages lack"),
        ("OR", 'OR stands between two words, such as: invoice OR receipt; for the word: "OR"'),
        ("a OR", "OR stands between two words"),
        ("OR a", "OR stands between two words"),
        ("a OR OR b", "OR stands between two words"),
        ("a OR -b", 'what a "-" excludes cannot be joined with OR'),
        ("a OR larger:5M", "larger: cannot be joined with OR; search twice"),
        ("a OR mailbox:B", "OR joins words with words, accounts with accounts, or mailboxes"),
        ("mailbox:A mailbox:B", "mailbox: stands there twice; to look in both: mailbox:one OR mailbox:other"),
    ],
)
def test_mistakes_say_what_is_expected(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=".*" + said.replace("(", r"\(")):
        parse(text, UTC)


@given(st.text(max_size=200))
def test_anything_is_a_question_or_a_mistake(text: str) -> None:
    with suppress(UsageError):
        parse(text, UTC)
