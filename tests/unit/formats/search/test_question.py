"""What people ask: read, or refused with what is expected."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.errors import UsageError
from syncd.formats.search.question import Question, Term, parse
from syncd.formats.search.words import Field


def test_words_phrases_and_fields() -> None:
    asked = parse('invoice "annual report" from:Ann subject:"Q3 Report" invoi*', UTC)
    assert asked.terms == (
        Term(("invoice",)),
        Term(("annual", "report"), None, in_order=True),
        Term(("ann",), Field.FROM),
        Term(("q3", "report"), Field.SUBJECT, in_order=True),
        Term(("invoi",), open=True),
    )
    assert [term.words[0] for term in asked.phrases] == ["annual", "q3"]


def test_facts() -> None:
    asked = parse(
        "has:attachment larger:5M after:2023-12-24 before:2024-01-31T12:00:00+00:00 account:road mailbox:A/B", UTC
    )
    assert asked == Question(
        (),
        has_attachment=True,
        larger=5 << 20,
        after=datetime(2023, 12, 25, tzinfo=UTC),  # a day is over before what is after it begins
        before=datetime(2024, 1, 31, 12, tzinfo=UTC),
        account="road",
        mailbox="A/B",
    )
    east = timezone(timedelta(hours=2))
    assert parse("before:2024-01-31", east).before == datetime(2024, 1, 30, 22, tzinfo=UTC)
    assert parse('mailbox:"Lists/2019 old"', UTC).mailbox == "Lists/2019 old"


def test_an_address_stands_for_its_parts() -> None:
    assert parse("to:ann@example.org http://example.org/x", UTC).terms == (
        Term(("ann", "example", "org"), Field.TO),
        Term(("http", "example", "org", "x")),
    )
    assert parse("from: ann", UTC).terms == (Term(("ann",), Field.FROM),)
    assert parse("  ", UTC) == Question()
    assert parse('"never closed', UTC).terms == (Term(("never", "closed"), None, in_order=True),)


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
    ],
)
def test_mistakes_say_what_is_expected(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=".*" + said.replace("(", r"\(")):
        parse(text, UTC)


@given(st.text(max_size=200))
def test_anything_is_a_question_or_a_mistake(text: str) -> None:
    with suppress(UsageError):
        parse(text, UTC)
