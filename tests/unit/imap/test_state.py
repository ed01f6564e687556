from __future__ import annotations

from typing import Any

import pytest

from syncd.imap.events import (
    Event,
    Exists,
    Expunge,
    FlagsTold,
    Recent,
    Unknown,
    Vanished,
)
from syncd.imap.state import note
from syncd.imap.values import (
    Code,
    Kind,
    Selected,
    SeqNum,
    Status,
)


def code(name: str, arguments: bytes = b"") -> Status:
    return Status(Kind.OK, Code(name, arguments))


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([Exists(3), Exists(5)], {"exists": 5}),  # I66
        ([Recent(1)], {"recent": 1}),
        ([Exists(3), Expunge(SeqNum(2))], {"exists": 2, "expunged": 1}),
        ([Expunge(SeqNum(2))], {"exists": None, "expunged": 1}),
        ([Exists(1), Vanished(((5, 9),), earlier=False)], {"exists": 0, "expunged": 5}),
        ([Exists(3), Vanished(((5, 9),), earlier=True)], {"exists": 3, "expunged": 0}),
        ([FlagsTold(("a",))], {"flags": ("a",)}),
        ([code("UIDVALIDITY", b"1795900358270")], {"uid_validity": 1795900358270}),  # I118
        ([code("UIDVALIDITY", b"x")], {"uid_validity": None}),  # I53
        ([code("UIDNEXT", b"4392")], {"uid_next": 4392}),
        ([code("HIGHESTMODSEQ", b"9007199254740993")], {"modseq": 9007199254740993}),  # I113
        ([code("HIGHESTMODSEQ", b"0")], {"modseq": None}),  # I69, I113
        ([code("HIGHESTMODSEQ", b"7"), code("NOMODSEQ")], {"modseq": None}),
        ([code("PERMANENTFLAGS", b"(\\Seen $x \\*)")], {"permanent_flags": ("\\Seen", "$x")}),
        ([code("READ-ONLY"), code("READ-WRITE")], {"read_only": False}),
        ([code("UIDNOTSTICKY")], {"uid_not_sticky": True}),
        ([code("MAILBOXID", b"(F2212ea87-6097-4256-9d51-71338625)")],
         {"mailbox_id": "F2212ea87-6097-4256-9d51-71338625"}),
    ],
)  # fmt: skip
def test_what_untagged_data_says_of_the_mailbox(events: list[Event], expected: dict[str, Any]):
    selected = Selected(b"x")
    assert all(note(selected, event) for event in events)
    assert {name: getattr(selected, name) for name in expected} == expected


def test_what_says_nothing_of_the_mailbox():
    selected = Selected(b"x")
    assert not note(selected, Unknown("X"))
    assert not note(selected, code("ALERT"))
    assert selected == Selected(b"x")
