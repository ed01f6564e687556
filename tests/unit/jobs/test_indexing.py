"""The indexer gives way to runs, and comes back to what it left."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from jobs.indexing import PATIENCE_S, PURGE_S, Indexer
from syncd import clock
from syncd.destinations.packs import PacksArchive
from syncd.errors import StorageError
from syncd.formats.search.question import parse
from syncd.services import answers, search
from syncd.services.archive import open_view
from syncd.services.indexes import FILES
from tests.contract.destination_kit import ROAD, delivered, message


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    made = PacksArchive(tmp_path / "mail")
    made.create(uuid4())
    made.open()
    delivered(made, [message(n, b"Subject: %d\r\n\r\nalike\r\n" % n, ROAD) for n in range(250)])
    made.close()
    return made.path


def found(path: Path) -> int:
    with closing(open_view(None, str(path))) as view:
        return len(answers.find([answers.of_view(view, "mail")], parse("alike"), 1_000).hits)


class Runs:
    """How many runs are under way."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> int:
        return self.number


def test_an_archive_is_indexed_once_no_run_is_under_way(archive: Path) -> None:
    runs = Runs()
    indexer = Indexer(runs)
    assert not indexer.look()
    runs.number = 1
    indexer.changed({archive: FILES})
    assert not indexer.look()
    assert found(archive) == 0
    runs.number = 0
    assert indexer.look()
    assert found(archive) == 250
    assert not indexer.look()


def test_a_run_that_begins_stops_the_work_and_the_rest_comes_later(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "BATCH", 100)
    runs, now = Runs(), [0.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    indexer = Indexer(runs)
    runs.number = 1
    indexer.changed({archive: FILES})
    for number in (100, 200, 250):  # a batch each time that the patience is over
        assert not indexer.look()
        now[0] += PATIENCE_S
        assert indexer.look()
        assert found(archive) == number


def test_what_cannot_be_indexed_is_told_once(archive: Path, caplog: pytest.LogCaptureFixture) -> None:
    indexer = Indexer(Runs())
    indexer.changed({archive.parent / "nowhere": FILES, archive: FILES})
    with caplog.at_level(logging.WARNING):
        assert indexer.look()
    assert "search.not_indexed" in caplog.text
    assert indexer.look()
    assert found(archive) == 250
    assert not indexer.look()


def test_the_thread_indexes_and_ends(archive: Path) -> None:
    indexer = Indexer(Runs())
    indexer.start()
    indexer.changed({archive: FILES})
    indexer._thread.join(0)
    while not found(archive):
        clock.sleep(0.01)
    indexer.stop()
    indexer._thread.join(30)
    assert not indexer._thread.is_alive()


def test_former_indexes_are_purged_at_the_start_and_once_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    now, purged = [0.0], list[float]()
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    indexer = Indexer(Runs(), lambda: purged.append(now[0]))
    for now[0] in (0.0, 10.0, PURGE_S, PURGE_S + 10):
        indexer.tidy()
    assert purged == [0.0, PURGE_S]


def test_a_purge_that_fails_is_told_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise StorageError("gone")

    with caplog.at_level(logging.WARNING):
        Indexer(Runs(), fail).tidy()
    assert "search.not_purged: gone" in caplog.text
