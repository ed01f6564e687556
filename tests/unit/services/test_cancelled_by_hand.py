"""`syncd cancel` of a run that `syncd run` works on in its own process."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from syncd.engine.exit_codes import ExitCode
from syncd.services import runs
from syncd.services.control import cancel
from syncd.services.wiring import existing_ledger
from syncd.sources.growth import Growth
from tests.fakes.source import MemorySource
from tests.support.engine import mail
from tests.support.jobs import Jobs

LONG_S = 20.0  # far more than the watch needs


def test_a_run_by_hand_ends_where_somebody_cancels_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command said that the run ends within some seconds, and nobody looked."""
    monkeypatch.setattr(runs, "WATCH_S", 0.01)
    bench = Jobs(tmp_path, ["road"], patch=monkeypatch)

    class Slow(MemorySource):
        """Has its run cancelled at its second message, and goes on only where the run is not cancelled."""

        bodies = 0
        told = threading.Event()

        def cancel(self) -> None:
            super().cancel()
            self.told.set()

        def body(self, octets: bytes, growth: Growth) -> Any:
            self.bodies += 1
            if self.bodies == 2:
                with existing_ledger(bench.loaded) as database:
                    assert database is not None
                    cancelled = cancel(bench.loaded, database, "road")
                assert cancelled is not None
                assert not cancelled.closed
                assert self.told.wait(LONG_S)
                self.check()
            return super().body(octets, growth)

    bench.sources["road"] = Slow(mail(3), stops=True)
    (report,) = bench.run().values()
    assert report.exit_code is ExitCode.INTERRUPTED
    assert report.fetched < 3
