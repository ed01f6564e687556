"""An index is written by a thread of its own while messages are read: in order, with two batches in memory at most."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import cast

import pytest

from syncd.errors import StorageError
from syncd.formats.search.contract import Document, Index
from syncd.formats.view import ArchiveView, Fresh, Known, Mark
from syncd.mail.message import Origin
from syncd.services import search
from syncd.services.indexes import Indexes

BATCH = 4
PATIENCE_S = 30.0  # longest wait for another thread


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BATCH", BATCH)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when somebody begins to wait for a thread."""
    event, join = threading.Event(), threading.Thread.join

    def joined(thread: threading.Thread) -> None:
        event.set()
        join(thread)

    monkeypatch.setattr(threading.Thread, "join", joined)
    return event


class Archive:
    """Numbered messages with a mark after each pair; `reading` is told of each before it is read."""

    def __init__(self, messages: int, reading: Callable[[int], None] = lambda _: None) -> None:
        self._messages = messages
        self._reading = reading

    def changes(self, known: Known) -> Iterator[Fresh | Mark]:
        for number in range(int(known.mark or 0), self._messages):
            self._reading(number)
            yield Fresh(b"%d" % number, 10, None, iter([b"Subject: %d\r\n\r\n" % number]), ())
            if number % 2:
                yield Mark(str(number + 1))

    def unindexed(self, known: Known) -> int:
        return self._messages - int(known.mark or 0)


class Stored:
    """The index that is stored: all its handles see what was committed. `adding` is told of keys before they are."""

    def __init__(self, adding: Callable[[list[int]], None] = lambda _: None) -> None:
        self.adding = adding
        self.mark = ""
        self.commits: list[list[int]] = []
        self.handles: list[Handle] = []

    @property
    def messages(self) -> int:
        return sum(map(len, self.commits))

    def make(self, _view: ArchiveView) -> Index:
        self.handles.append(Handle(self))
        return cast("Index", self.handles[-1])


class Handle:
    """For one thread at a time, as any index."""

    elsewhere = True
    keeps_order = False

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self._within: tuple[list[int], list[str]] | None = None
        self.threads = set[threading.Thread]()
        self.closed = False

    @property
    def mark(self) -> str:
        self._used()
        return self._stored.mark

    @contextmanager
    def writing(self) -> Iterator[None]:
        self._used()
        added, marks = self._within = [], []
        yield
        assert not self.closed, "closed while it was written"
        self._stored.commits.append(added)
        self._stored.mark = [self._stored.mark, *marks][-1]
        assert self._stored.messages >= int(self._stored.mark or 0), "a mark before what came before it"

    def add(self, documents: Sequence[Document]) -> int:
        self._used()
        numbers = [int(one.key) for one in documents]
        self._stored.adding(numbers)
        self.inside[0].extend(numbers)
        return len(documents)

    def place(self, key: bytes, origins: Iterable[Origin]) -> None:
        pytest.fail(f"{key!r} was seen in no other mailbox: {origins}")

    def set_mark(self, mark: str) -> None:
        self.inside[1].append(mark)

    @property
    def inside(self) -> tuple[list[int], list[str]]:
        assert self._within is not None
        return self._within

    def close(self) -> None:
        self.closed = True

    def _used(self) -> None:
        assert not self.closed
        self.threads.add(threading.current_thread())


def update(archive: Archive, stored: Stored, go_on: Callable[[], bool] = lambda: True) -> search.Indexed:
    try:
        return search.update(cast("ArchiveView", archive), cast("Indexes", stored), go_on=go_on)
    finally:
        assert [it.closed for it in stored.handles[-2:]] == [True, True]
        assert not [it for it in threading.enumerate() if it.name == "search-write"]


@pytest.mark.parametrize("elsewhere", [True, False])
def test_batches_are_written_in_order_each_with_its_mark(monkeypatch: pytest.MonkeyPatch, *, elsewhere: bool) -> None:
    monkeypatch.setattr(Handle, "elsewhere", elsewhere)
    stored = Stored()
    done = update(Archive(18), stored)
    assert (done.messages, done.octets, done.left) == (18, 180, 0)
    assert stored.commits == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15], [16, 17]]
    assert stored.mark == "18"
    assert update(Archive(18), stored) == search.Indexed()


def test_a_batch_is_made_while_the_one_before_is_written_and_no_further_one(waiting: threading.Event) -> None:
    read = list[int]()

    def reading(number: int) -> None:
        assert number < stored.messages + 2 * BATCH, "three batches in memory"
        read.append(number)

    def adding(numbers: list[int]) -> None:
        if 0 in numbers:
            assert waiting.wait(PATIENCE_S)
            assert len(read) == 2 * BATCH, "the second batch is not made while the first is written"

    stored = Stored(adding)
    assert update(Archive(40, reading), stored).messages == 40


def test_reader_and_writer_have_a_handle_each() -> None:
    stored = Stored()
    update(Archive(18), stored)
    writing, reading = stored.handles
    assert reading.threads == {threading.current_thread()}
    assert writing.threads
    assert threading.current_thread() not in writing.threads


def test_what_this_process_writes_itself_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handle, "elsewhere", False)
    stored = Stored()
    update(Archive(18), stored)
    assert [it.threads for it in stored.handles] == [{threading.current_thread()}] * 2


@pytest.mark.parametrize("elsewhere", [True, False])
@pytest.mark.parametrize("failing", [0, 8, 16])
def test_an_error_of_writing_ends_the_update_and_nothing_is_written_after_it(
    failing: int, monkeypatch: pytest.MonkeyPatch, *, elsewhere: bool
) -> None:
    monkeypatch.setattr(Handle, "elsewhere", elsewhere)

    def adding(numbers: list[int]) -> None:
        if failing in numbers:
            raise StorageError("full")

    stored = Stored(adding)
    with pytest.raises(StorageError, match="full"):
        update(Archive(18), stored)
    assert stored.messages == failing
    assert stored.mark == str(failing or "")
    stored.adding = lambda _: None
    assert update(Archive(18), stored).messages == 18 - failing
    assert sorted(chain.from_iterable(stored.commits)) == list(range(18))


@pytest.mark.parametrize("error", [StorageError, KeyboardInterrupt])
def test_an_error_of_reading_leaves_what_was_read_before_it(
    error: type[BaseException], waiting: threading.Event
) -> None:
    failing = threading.Event()

    def reading(number: int) -> None:
        if number == 10:
            waiting.clear()
            failing.set()
            raise error

    def adding(numbers: list[int]) -> None:
        assert 4 not in numbers or (failing.wait(PATIENCE_S) and waiting.wait(PATIENCE_S))

    stored = Stored(adding)
    with pytest.raises(error):
        update(Archive(18, reading), stored)
    assert stored.commits == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_an_update_that_must_not_go_on_has_written_what_it_has_read() -> None:
    stored, answers = Stored(), iter([True, False])
    done = update(Archive(18), stored, lambda: next(answers))
    assert (done.messages, done.left) == (8, 10)
    assert stored.commits == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_an_error_of_writing_is_told_where_the_update_must_not_go_on() -> None:
    def adding(_: list[int]) -> None:
        raise StorageError("full")

    with pytest.raises(StorageError, match="full"):
        update(Archive(18), Stored(adding), lambda: False)
