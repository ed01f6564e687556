"""Results of several archives: every message once, the newest first, in parts of whatever size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.errors import ArchiveMissing, StorageError, UsageError
from syncd.formats.search.contract import Hit
from syncd.formats.search.question import parse
from syncd.formats.search.statement import EPOCH
from syncd.services import answers
from syncd.services.answers import Below, Searched, Target, find


class FakeIndex:
    """An index of messages with these ids: whether they say "one two", or the other way round."""

    keeps_order = True

    def __init__(self, ids: Sequence[tuple[int, bool]]) -> None:
        self._says = dict(ids)
        self.hits = [
            Hit(number, b"%d" % number, EPOCH, 1, 0, "", "", (), ()) for number in sorted(self._says, reverse=True)
        ]

    def find(self, _question: object, limit: int, below: int | None, *_: object) -> list[Hit]:
        return [hit for hit in self.hits if below is None or hit.id < below][:limit]

    def texts(self, messages: Sequence[int]) -> dict[int, list[list[str]]]:
        return {it: [[], ["one", "two"] if self._says[it] else ["two", "one"], ["two"]] for it in messages}


def searched(number: int, ids: Sequence[tuple[int, bool]]) -> Searched:
    index: Any = FakeIndex(ids)
    view: Any = SimpleNamespace(unindexed=lambda _: 0)

    @contextmanager
    def opened() -> Iterator[Target]:
        yield Target(index, view, bytes.decode)

    return Searched(str(number), opened)


def failing(name: str, error: Exception) -> Searched:
    def opened() -> AbstractContextManager[Target]:
        raise error

    return Searched(name, opened)


IDS = st.lists(st.tuples(st.integers(-3, 12), st.booleans()), max_size=12)


@given(
    archives=st.lists(IDS, min_size=1, max_size=4),
    limit=st.integers(1, 5),
    looks=st.integers(1, 4),
    words=st.integers(0, 10),
    is_read=st.booleans(),
)
def test_parts_together_have_every_message_once_in_order(
    *, archives: list[list[tuple[int, bool]]], limit: int, looks: int, words: int, is_read: bool
) -> None:
    asked = [searched(number, ids) for number, ids in enumerate(archives)]
    question = parse('"one two"' if is_read else "one")
    expected = sorted(
        (-number, archive)
        for archive, ids in enumerate(archives)
        for number, says in dict(ids).items()
        if says or not is_read
    )
    found, below, parts = list[tuple[int, int]](), None, 0
    with (
        patch.object(answers, "LOOKS", looks),
        patch.object(answers, "FEWEST_LOOKS", looks),
        patch.object(answers, "WORDS_A_LOOK", words),
    ):
        while parts == 0 or below is not None:
            part = find(asked, question, limit, below, alone=True)
            assert len(part.hits) <= limit
            found += [(-it.hit.id, int(it.archive)) for it in part.hits]
            below, parts = part.below and Below.read(str(part.below)), parts + 1
            assert parts < 200
    assert found == expected


def test_an_archive_that_cannot_be_searched_is_left_out_and_told() -> None:
    broken, missing = failing("broken", StorageError("no")), failing("missing", ArchiveMissing("gone"))
    answer = find([broken, searched(1, [(5, True)]), missing], parse("one"), 10)
    assert [it.hit.id for it in answer.hits] == [5]
    assert [(it.archive, it.here, it.error) for it in answer.looked] == [
        ("broken", True, "no"),
        ("1", True, ""),
        ("missing", False, "gone"),
    ]
    with pytest.raises(StorageError, match="no"):
        find([broken], parse("one"), 10, alone=True)


def test_too_many_archives_are_refused() -> None:
    with pytest.raises(UsageError, match="201 archives are too many to search at once; choose 200 or fewer"):
        find([searched(1, [])] * 201, parse("one"), 10)
