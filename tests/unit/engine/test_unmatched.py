from __future__ import annotations

import pytest

from syncd.engine.mapping import Paths, Rules
from syncd.engine.unmatched import nothing_chosen, unmatched
from syncd.mail.mailbox import Mailbox
from syncd.mail.patterns import Selection

THERE = [
    Mailbox(b"INBOX", ("INBOX",)),
    Mailbox(b"INBOX.Projekte.Entw&APw-rfe", ("Projekte", "Entwürfe")),
    Mailbox(b"INBOX.Gesendet", ("Gesendet",), "\\Sent"),
]


def told(include: tuple[str, ...] = ("*",), exclude: tuple[str, ...] = (), names: tuple[str, ...] = ()) -> list[str]:
    maps = {"new": Paths(Rules(dict.fromkeys(names, ("to",)))), "mails": Paths()}
    return list(unmatched(Selection(include, exclude), maps, THERE, "old"))


@pytest.mark.parametrize("pattern", ["*", "inbox", "Projekte/**", "Projekte/*", "\\Sent", "Gesendet"])
def test_a_pattern_that_matches_is_not_told(pattern: str):
    assert told(include=(pattern,)) == []
    assert told(exclude=(pattern, "Gesendet"))[1:] == []


@pytest.mark.parametrize("name", ["INBOX", "Projekte", "Projekte/Entwürfe", "INBOX.Projekte.Entw&APw-rfe", "Gesendet"])
def test_a_name_that_map_finds_is_not_told(name: str):
    """`Projekte` may be no mailbox itself: what is below it follows it."""
    assert told(names=(name,)) == []


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gesendet", "did you mean “Gesendet”?"),  # case counts
        ("INBOX.Projekte.Entw&APw-rfe", "did you mean “Projekte/Entwürfe”?"),  # as the server spells it
        ("INBOX/Projekte/Entwurfe", "did you mean “Projekte/Entwürfe”?"),
        ("Gesendt/**", "did you mean “Gesendet”?"),
        ("Kunden", "none has a similar name"),
    ],
)
def test_the_nearest_mailbox_is_named(name: str, hint: str):
    line = f"mailboxes.include: “{name}” matches no mailbox of old; {hint}"
    assert told(include=("INBOX", name)) == [line]
    assert nothing_chosen(Selection((name,)), THERE, "old").endswith(line)


def test_of_exclude_only_what_must_be_a_mistake_is_told():
    assert told(exclude=("\\Junk", "\\Trash", "Trash")) == []
    assert [line.split("“")[1].split("”")[0] for line in told(exclude=("\\Junk", "Trash"))] == ["Trash"]


def test_only_where_every_pattern_matches_nothing_can_nothing_be_copied():
    assert nothing_chosen(Selection(("Kunden", "INBOX")), THERE, "old") == ""
    assert nothing_chosen(Selection(("Kunden",)), [], "old") == ""
    assert nothing_chosen(Selection(("INBOX",), ("*",)), THERE, "old") == ""
    assert told(("INBOX",), ("*",)) == [
        "no mailbox is chosen: mailboxes.exclude leaves out all that mailboxes.include has"
    ]
