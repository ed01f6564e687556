"""Untagged data that servers write in their own way."""

from __future__ import annotations

import pytest

from syncd.imap.events import StatusRow, Unknown
from syncd.imap.grammar import data
from syncd.imap.tokens import Atom, Value


def status(*values: Value) -> object:
    return data([Atom(b"STATUS"), *values])


@pytest.mark.parametrize("name", [[b"Sent"], [Atom(b"P/a"), Atom(b"&-"), Atom(b"b")], [b"a b", Atom(b"c")]])
def test_the_name_in_status_goes_up_to_the_list(name: list[Value]) -> None:
    """mailutils 3.15 does not quote names with spaces."""
    row = status(*name, [Atom(b"MESSAGES"), Atom(b"3"), Atom(b"UIDNEXT"), Atom(b"7")])
    assert isinstance(row, StatusRow)
    assert row.name == b" ".join(bytes(word) for word in name if isinstance(word, bytes))
    assert (row.status.messages, row.status.uid_next) == (3, 7)


def test_status_without_a_name_is_nothing() -> None:
    assert isinstance(status([Atom(b"MESSAGES"), Atom(b"3")]), Unknown)
    assert isinstance(status(b"Sent"), Unknown)
