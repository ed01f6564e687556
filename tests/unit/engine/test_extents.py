"""Archives that have less than they had are an older copy: the run stops before it believes them."""

from __future__ import annotations

import pytest

from syncd.engine.exit_codes import ExitCode
from tests.fakes.archive import MemoryArchive
from tests.support.engine import Engine, Make, mail, source


class GrowingArchive(MemoryArchive):
    """An archive that no message is ever taken from; it can lose octets."""

    lost = 0

    def extent(self) -> int:
        return 100 * self.copies - self.lost


@pytest.fixture
def engine(make: Make) -> Engine:
    made = make(3, {"home": GrowingArchive()})
    assert made.run().exit_code is ExitCode.DONE
    return made


def archive(engine: Engine) -> GrowingArchive:
    home = engine.destinations["home"]
    assert isinstance(home, GrowingArchive)
    return home


def test_an_archive_that_is_behind_stops_the_run(engine: Engine):
    archive(engine).lost = 100
    source(engine).mail = mail(4)
    report = engine.run()
    assert report.exit_code is ExitCode.STOPPED
    assert 'archive "home" is behind: it has 200 octets, and had 300' in report.errors[0]
    assert "--refill" in report.errors[0]
    assert source(engine).connects == 1


def test_an_archive_that_grew_by_another_job_is_fine(engine: Engine):
    archive(engine).lost = -1000
    assert engine.run().exit_code is ExitCode.DONE


def test_an_archive_that_is_to_be_filled_again_is_asked_and_not_compared(engine: Engine):
    row = engine.catalog.find_archive("home")
    assert row is not None
    engine.catalog.refill(row)
    archive(engine).lost = 100
    assert engine.run().exit_code is ExitCode.DONE
    assert engine.ledger.archives.extents([engine.routes["home"].id]) == {engine.routes["home"].id: 200}
    assert engine.run().unchanged
