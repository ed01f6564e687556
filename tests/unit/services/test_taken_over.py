"""Archives and mail servers that another process took over, as this one was frozen for longer than its leases last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from syncd.db.database import Database
from syncd.db.leases import EXPIRY_S
from syncd.db.models import leases
from syncd.db.renewal import renewer
from syncd.errors import ConfigError, LeaseHeld
from syncd.services import destinations
from syncd.services.wiring import open_ledger
from syncd.services.workplace import Common, Running, Workplace
from syncd.settings.load import load

CONFIG = """
state_directory = "state"
[accounts.road]
protocol = "pop3"
host = "pop.example.net"
username = "me"
password = "env:P"
[accounts.new]
protocol = "smtp"
host = "smtp.example.org"
username = "me"
password = "env:P"
[archives.home]
path = "home"
[jobs.a]
source = "road"
destinations = ["home", { to = "new", recipient = "me@example.org" }]
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workplace]:
    (tmp_path / "syncd.toml").write_text(CONFIG)
    loaded = load(tmp_path / "syncd.toml", environment={"P": "secret"})
    with (
        open_ledger(loaded) as database,
        Common(database, Running(), alone=True) as common,
        Workplace(loaded, common) as place,
    ):
        place.registry.job("a", place.registry.account("road"))
        yield place


def take_over(database: Database) -> None:
    """Another process took everything, and ended; our next renewal learns of it."""
    with database.write() as connection:
        connection.execute(update(leases).values(generation=leases.c.generation + 1, holder="", expires_at=0.0))
    renewer(database, EXPIRY_S).renew()


def owned(database: Database) -> list[str]:
    with database.read() as connection:
        resources = connection.execute(select(leases.c.resource).where(leases.c.holder != "")).scalars()
        return [resource.partition(":")[0] for resource in resources]


def test_an_archive_that_was_taken_over_is_not_given_to_further_runs(place: Workplace) -> None:
    """Each of them would fail, for as long as one of them follows the other."""
    archives = place.destinations.take("a")
    archives[0].lease.take()
    take_over(place.database)
    with pytest.raises(LeaseHeld, match=r'archive "home" was taken over'):
        place.destinations.take("a")
    place.destinations.give_back(archives)
    with place.destinations.taken("a") as again:
        assert again[0].archive is not archives[0].archive
        again[0].lease.take()
        assert not again[0].is_lost()
        assert owned(place.database) == ["archive"]


def test_an_archive_that_was_taken_over_while_nobody_used_it_is_opened_again(place: Workplace) -> None:
    with place.destinations.taken("a") as before:
        before[0].lease.take()
    take_over(place.database)
    with place.destinations.taken("a") as again:
        assert again[0].archive is not before[0].archive


def test_a_mail_server_through_which_another_process_sends_is_left_alone(place: Workplace) -> None:
    account = 2
    relay = place.destinations._relay(account, "new")
    take_over(place.database)
    with Workplace(place.loaded, place.common) as other:
        with pytest.raises(LeaseHeld, match='sends through account "new"'):
            other.destinations._relay(account, "new")
        place.destinations.close()
        assert other.destinations._relay(account, "new") is not relay


def test_a_mail_server_whose_settings_are_wrong_leaves_no_lease_behind(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise ConfigError("the password is gone")

    monkeypatch.setattr(destinations, "make_relay", refused)
    with pytest.raises(ConfigError):
        place.destinations._relay(2, "new")
    assert owned(place.database) == []
