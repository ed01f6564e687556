"""The order of words: what is packed comes out again, from the same words in any order."""

from __future__ import annotations

import random
import zlib
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from syncd.errors import FormatDamaged
from syncd.formats.search.order import packed, unpacked

WORDS = st.text("abé語1", min_size=1, max_size=3)


@given(st.lists(st.lists(WORDS, max_size=30), max_size=5), st.randoms())
@example([[], ["a"], [], []], random.Random(1))
def test_texts_come_out_as_they_went_in(texts: list[list[str]], rng: random.Random) -> None:
    there = [*{word for text in texts for word in text}, "\x81a", "\x8510"]
    order = packed(there, texts)
    rng.shuffle(there)
    assert unpacked(there, order) == texts


@pytest.mark.parametrize("number", [1, 253, 254, 255, 256, 257, 20_000])
def test_any_number_of_words(number: int) -> None:
    texts = [[f"w{it}" for it in range(number)], [f"w{number - 1}", "w0"]]
    assert unpacked(set(texts[0]), packed(set(texts[0]), texts)) == texts


def test_a_word_that_the_index_lacks_stands_between_its_neighbours() -> None:
    assert unpacked(["a", "b"], packed(["a", "b"], [["a", "gone", "b"]])) == [["a", "", "b"]]


def test_a_message_whose_texts_were_not_read_has_none() -> None:
    assert unpacked(["\x8510"], b"") == []


@given(st.binary(max_size=20), st.sampled_from([3, 300]))
def test_damage_is_told_or_gives_other_words_of_the_message(octets: bytes, number: int) -> None:
    there = [f"w{it}" for it in range(number)]
    for order in (octets, zlib.compress(octets)):
        with suppress(FormatDamaged):
            assert {word for text in unpacked(there, order) for word in text} <= {*there, ""}


@pytest.mark.parametrize(("number", "order"), [(3, b"\x05"), (300, b"\0"), (300, zlib.compress(b"\0"))])
def test_damage_names_what_to_do(number: int, order: bytes) -> None:
    with pytest.raises(FormatDamaged, match="syncd archive reindex NAME --all"):
        unpacked([f"w{it}" for it in range(number)], order)
