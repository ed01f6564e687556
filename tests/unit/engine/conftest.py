"""An engine with a ledger of its own and a maildrop in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from syncd.db.database import Database
from syncd.destinations.base import Destination
from tests.fakes.source import MemorySource
from tests.support.engine import Engine, Make, mail


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes an engine of so many messages and these destinations."""
    with Database.open(None, tmp_path) as database:

        def engine(count: int, destinations: Mapping[str, Destination], **more: Any) -> Engine:
            return Engine(database, MemorySource(mail(count)), destinations, **more)

        yield engine
