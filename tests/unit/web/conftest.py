"""A page over a ledger of its own, called in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import argon2
import pytest

from syncd.services import people
from syncd.services.apply import apply
from syncd.services.wiring import open_ledger
from syncd.settings.load import load
from tests.support.web import Desk

CONFIG = """
timezone = "Europe/Berlin"
[accounts.road]
protocol = "pop3"
host = "pop.example.net"
username = "me"
password = "env:NOTHING_THAT_IS_SET"
[accounts.new]
protocol = "smtp"
host = "smtp.example.org"
username = "me"
password = "env:NOTHING_THAT_IS_SET"
[archives.home]
path = "home"
[jobs.road-backup]
source = "road"
destinations = ["home"]
schedule = "every 15 minutes"
late_after = "6 hours"
[jobs.forward]
source = "road"
destinations = ["home", { to = "new", recipient = "me@example.org" }]
"""


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    people._hasher.cache_clear()
    people._nobody.cache_clear()
    cheap = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(people, "_hasher", lambda: cheap)


@pytest.fixture
def config() -> str:
    return CONFIG


@pytest.fixture
def file(tmp_path: Path, config: str) -> Path:
    path = tmp_path / "syncd.toml"
    path.write_text(f'state_directory = "{tmp_path / "state"}"\n{config}')
    return path


@pytest.fixture
def desk(file: Path) -> Iterator[Desk]:
    loaded = load(file)
    with open_ledger(loaded) as database:
        apply(loaded, database)
        yield Desk(file, database)
