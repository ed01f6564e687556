"""Secrets are found in a text in every form that a log line can have of them."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from syncd import secret
from syncd.secret import Secret
from syncd.telemetry.known import Known

WORD = 'hunter2 "is" not\\it/é+'
PLAIN = base64.b64encode(f"\0me@example.net\0{WORD}".encode()).decode()


@pytest.fixture
def known() -> Known:
    made = Known()
    made.learn(Secret(WORD))
    return made


FORMS = [
    WORD,
    WORD.upper(),
    repr(WORD),
    repr(WORD.encode()),
    json.dumps(WORD),
    json.dumps(WORD, ensure_ascii=False),
    quote(WORD, safe=""),
    WORD.encode().hex(),
    base64.b64encode(WORD.encode()).decode(),
    base64.urlsafe_b64encode(WORD.encode()).decode(),
    PLAIN,
    f"password={WORD}",
    WORD[:10],
]


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_blanked_in_every_form(known: Known, form: str):
    shown = known.blank(f"the server said {form} to us")
    assert shown.startswith("the server said ")
    assert shown.endswith(" to us")
    assert "…" in shown
    for leak in (WORD, "hunter2", form[:10] if "password" not in form and form != PLAIN else PLAIN[24:34]):
        assert leak.lower() not in shown.lower()


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "\0me\0"])
def test_a_secret_inside_of_other_base64_is_blanked(before: str):
    known = Known()
    known.learn("correct-horse-battery")
    whole = base64.b64encode(before.encode() + b"correct-horse-battery and more").decode()
    assert base64.b64encode(b"correct-horse-battery"[-9:])[:8].decode() not in known.blank(whole)
    assert whole[8:24] not in known.blank(whole)


def test_who_knows_nothing_changes_nothing():
    text = "any text, \udc80 é \ud800 and http://example.net/path?x=1"
    assert Known().blank(text) == text


def test_short_words_are_no_secrets():
    known = Known()
    known.learn("ab")
    assert known.blank("a cab") == "a cab"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:topsecret@broker:6379/0", "redis://:…@broker:6379/0"),
        ("postgresql://syncd:p@ss/w:rd@db/syncd", "postgresql://syncd:…@db/syncd"),
        ("amqp://me:x@rabbit//", "amqp://me:…@rabbit//"),
    ],
)
def test_the_password_of_an_address_that_nobody_learnt(url: str, shown: str):
    assert Known().blank(f"cannot connect to {url}: refused") == f"cannot connect to {shown}: refused"


def test_the_parts_of_an_address_that_is_learnt():
    known = Known()
    known.learn_url("https://hooks.example.net/services/T0123456/abcdefghijklmnopq?token=ijklmnop")
    known.learn_url("https://hooks.example.net/services/0123-4567-89ab")
    known.learn_url("postgresql://syncd:p%40ssword@db/syncd?password=elsewhere")
    for leak in ("T0123456", "abcdefghijklmnopq", "ijklmnop", "p%40ssword", "p@ssword", "elsewhere", "0123-4567-89ab"):
        assert leak not in known.blank(f"while asking for {leak}.")
    assert known.blank("the services of example.net") == "the services of example.net"


def test_an_address_is_no_secret_as_a_whole():
    known = Known()
    known.learn(Secret("memory://"))
    known.learn(Secret("redis://:topsecret@broker:6379/0"))
    known.learn(Secret("odd://[/topsecret-2"))
    assert known.blank("memory:// and redis://broker:6379/0: refused") == "memory:// and redis://broker:6379/0: refused"
    assert known.blank("topsecret [/topsecret-2") == "… …"


def test_numbers_and_names_stay(known: Known):
    line = "535 5.7.8 me@example.net: no such user or password"
    assert known.blank(line) == line


def test_what_was_learnt_first_is_forgotten_first():
    known = Known(limit=2)
    for word in ("first-word", "second-word", "first-word", "third-word"):
        known.learn(word)
    assert known.blank("first-word second-word third-word") == "… second-word …"
    for number in range(10):
        known.learn(f"word-of-number-{number}")
    assert set(known._by_head) == {form[:8] for forms in known._secrets.values() for form in forms}
    assert sum(known._lengths.values()) == len(known._by_head)


def test_every_secret_that_is_made_is_learnt():
    known = Known()
    unwatch = secret.watch(known.learn)
    Secret("made-while-watched")
    unwatch()
    Secret("made-afterwards")
    assert known.blank("made-while-watched made-afterwards") == "… made-afterwards"
