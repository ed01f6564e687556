"""Words are alike in the index and in questions."""

from __future__ import annotations

import re
import tracemalloc
import unicodedata
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.formats.search.words import ALWAYS_FIT, MAX_OCTETS, MAX_WORD, MAX_WORDS, Field, _plain, indexed, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Hello, World!", ["hello", "world"]),
        ("Straße Café CAFE\u0301 ﬁn", ["strasse", "cafe", "cafe", "fin"]),
        ("snake_case a-b 3.14", ["snake", "case", "a", "b", "3", "14"]),
        ("x" * 33 + " " + "y" * 32, ["y" * 32]),
        ("日本語のメール", ["日本", "本語", "語の", "のメ", "メー", "ール"]),
        ("駅", ["駅"]),
        ("iPhone本体", ["iphone", "本体"]),
        ("Привет Ёлка", ["привет", "елка"]),
        ("\x81from \ud800", ["from"]),
        ("", []),
    ],
)
def test_words(text: str, found: list[str]) -> None:
    assert words(text) == found


@given(
    st.text(
        st.one_of(st.characters(), st.sampled_from("aB_ .-ßé\u0301日本、。\u3000\ud800\u2028ﬁİ\xa0\n")), max_size=50
    )
)
def test_words_are_runs_of_letters_and_digits_whatever_stands_between_them(text: str) -> None:
    runs = re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text.casefold()))
    expected = [word for word in chain.from_iterable(map(_plain, runs)) if len(word) <= MAX_WORD]
    assert words(text) == expected
    assert set(indexed([], [words(text)], 1, attachments=False)) == {*expected, "\x851"}


def test_everything_that_is_found_by_a_word_is_indexed_alike() -> None:
    text = "Straße 日本語 Café hello " + "z" * 100
    entry = indexed([], [words(text)], 10, attachments=False)
    assert set(words(text)) < set(entry)


def test_fields_mark_their_words() -> None:
    entry = set(indexed([(Field.FROM, ["ann"])], [["text", "text"]], 1000, attachments=True))
    assert entry == {"ann", "\x81ann", "text", "\x84attachment", "\x8510"}


def test_a_message_of_a_million_words_is_cut() -> None:
    text = " ".join(map(str, range(100_000)))
    assert len(indexed([], [words(text)], 1, attachments=False)) == MAX_WORDS


def test_words_that_no_tsvector_could_hold_are_cut() -> None:
    letters = [chr(0x10400 + 40 + n) for n in range(40)]  # of four octets each
    text = " ".join("".join(letters[n // 40**i % 40] for i in range(4)) * (MAX_WORD // 4) for n in range(9_000))
    assert (
        MAX_OCTETS - 1_000
        < sum(len(it.encode()) for it in indexed([], [words(text)], 1, attachments=False))
        <= MAX_OCTETS
    )
    longest = "\x81" + letters[0] * MAX_WORD
    assert ALWAYS_FIT * len(longest.encode()) <= MAX_OCTETS


def test_pieces_that_do_not_come_again_stay_in_no_memory() -> None:
    """Writing without spaces has whole paragraphs between two signs of ASCII."""
    paragraphs = "\n".join(f"{number}" + "日本語の文章、" * 100 for number in range(1_000))
    tracemalloc.start()
    try:
        words(paragraphs)
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < 4 << 20
