from __future__ import annotations

import pytest

from syncd.mail.mailbox import Mailbox, Path
from syncd.mail.patterns import EVERYTHING, Selection, check, matches


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("*", ("a",), True),
        ("*", ("a", "b", "c"), True),
        ("**", ("a", "b"), True),
        ("Archive", ("Archive",), True),
        ("Archive", ("Archive", "2019"), False),
        ("Archive", ("archive",), False),
        ("Archive/*", ("Archive", "2019"), True),
        ("Archive/*", ("Archive",), False),
        ("Archive/*", ("Archive", "2019", "may"), False),
        ("Archive/**", ("Archive",), True),
        ("Archive/**", ("Archive", "2019", "may"), True),
        ("Archive/**", ("Archives",), False),
        ("**/old", ("old",), True),
        ("**/old", ("a", "b", "old"), True),
        ("**/old", ("a", "older"), False),
        ("a/**/z", ("a", "z"), True),
        ("a/**/z", ("a", "b", "c", "z"), True),
        ("20*", ("2019",), True),
        ("20*", ("2019", "may"), False),
        ("*2019*/may", ("in 2019!", "may"), True),
        ("inbox", ("INBOX",), True),
        ("InBox/Sub", ("INBOX", "Sub"), True),
        ("INBOX/**", ("inbox", "sub"), True),
        ("a/inbox", ("a", "INBOX"), False),
        (r"a\/b/c.d", ("a/b", "c.d"), True),
        ("a/b", ("a/b",), False),
        ("*", ("a/b",), True),
        ("a*", ("a/b",), True),
        (r"\*", ("*",), True),
        (r"\*", ("x",), False),
        ("Entwürfe", ("Entwürfe",), True),
        (r"x\\y", ("x\\y",), True),
        ("a.b[1]?", ("a.b[1]?",), True),
        ("a.b", ("axb",), False),
        ("line", ("li\nne",), False),
        ("*", ("li\nne",), True),
        (r"\Trash", ("Papierkorb",), False),
    ],
)
def test_patterns(pattern: str, path: Path, expected: bool) -> None:  # noqa: FBT001
    check(pattern)
    assert matches(pattern, path) is expected


def test_special_uses_whatever_a_mailbox_is_called() -> None:
    check(r"\trash")
    assert matches(r"\trash", ("Papierkorb",), "\\Trash")
    assert not matches(r"\Trash", ("Sent",), "\\Sent")
    assert not matches(r"\Trash", ("Trash",))


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("", "is empty"),
        ("/a", "begins or ends with /"),
        ("a/", "begins or ends with /"),
        ("a//b", "has // in it"),
        ("a**", "inside a level"),
        ("**a/b", "inside a level"),
        (r"a\b", "before a character that needs none"),
        ("a\\", "before a character that needs none"),
        (r"\Bin", "is no special use"),
        ("a\tb", "control character"),
    ],
)
def test_patterns_that_mean_nothing(pattern: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check(pattern)


@pytest.mark.parametrize("pattern", [r"a\/", r"a\\", r"**/\*", r"\**"])
def test_escapes_at_the_edges(pattern: str) -> None:
    check(pattern)


def test_what_is_included_and_not_excluded_is_chosen() -> None:
    chosen = Selection(("*",), ("Trash", "Junk/**"))
    assert chosen.chooses(Mailbox(b"Sent", ("Sent",)))
    assert chosen.chooses(Mailbox(b"Trash.sub", ("Trash", "sub")))
    assert not chosen.chooses(Mailbox(b"Trash", ("Trash",)))
    assert not chosen.chooses(Mailbox(b"Junk.a.b", ("Junk", "a", "b")))
    assert EVERYTHING.chooses(Mailbox(b"x", ("x",)))


def test_a_mailbox_is_named_by_a_pattern_other_than_everything() -> None:
    spam = Mailbox(b"[Gmail]/Spam", ("[Gmail]", "Spam"), "\\Junk")
    assert not EVERYTHING.names(spam)
    assert Selection(("*", r"\Junk")).names(spam)
    assert Selection(("[Gmail]/**",)).names(spam)
    assert not Selection(("*", r"\Junk"), ("[Gmail]/Spam",)).names(spam)
