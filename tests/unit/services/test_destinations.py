"""From the destinations of a configuration to routes: one for each recipient, with what follows from its account."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.db.catalog import Catalog, JobRow
from syncd.db.database import Database
from syncd.destinations.base import Repeat
from syncd.destinations.smtp import SmtpDestination, SmtpOptions
from syncd.engine.job import Route
from syncd.errors import ConfigError
from syncd.services.destinations import Destinations
from syncd.services.wiring import identity, open_ledger
from syncd.settings.load import Loaded, load

CONFIG = """
state_directory = "state"
[accounts.road]
protocol = "pop3"
host = "pop.example.net"
username = "me@example.net"
password = "env:P"
[accounts.new]
protocol = "smtp"
host = "smtp.example.org"
username = "me@example.org"
password = "env:P"
connections = 3
[accounts.lmtp]
protocol = "lmtp"
host = "127.0.0.1"
security = "none"
allow_insecure = true
[accounts.twin]
protocol = "lmtp"
host = "127.0.0.1"
port = 2400
security = "none"
allow_insecure = true
[archives.home]
path = "home"
"""


class Bench:
    """A configuration and its ledger."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "syncd.toml"
        self.database: Database

    def loaded(self, *destinations: str, source: str = "road") -> Loaded:
        self._file.write_text(
            f'{CONFIG}[jobs.a]\nsource = "{source}"\ndestinations = [{", ".join(destinations)}]\n'
            '[jobs.b]\nsource = "road"\ndestinations = ["home"]\n'
        )
        return load(self._file, environment={"P": "secret"})

    def routes(self, *destinations: str, source: str = "road") -> list[Route]:
        loaded = self.loaded(*destinations, source=source)
        with Destinations(loaded, dry_run=False, refill=False) as found:
            found.take(self.database, "a")
            return list(found.routes(self.database, self.register(loaded, found)))

    def register(self, loaded: Loaded, found: Destinations) -> JobRow:
        catalog = Catalog(self.database)
        account = catalog.account("road", *identity(loaded, "road"))
        return catalog.job("a", account.id, found.specs(self.database, "a"), removes=False)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    with open_ledger(made.loaded('"home"')) as made.database:
        yield made


def options(route: Route) -> SmtpOptions:
    assert isinstance(route.destination, SmtpDestination)
    return route.destination._options


def test_a_route_for_each_recipient_archives_first(bench: Bench):
    several = '{ to = "new", recipient = ["a@example.org", "b@example.org"], uncertain = "hold" }'
    routes = bench.routes(several, '{ to = "lmtp", recipient = "c@example.org" }', '"home"')
    assert [route.name for route in routes] == ["home", "new (a@example.org)", "new (b@example.org)", "lmtp"]
    assert [route.row.target for route in routes] == ["", "a@example.org", "b@example.org", "c@example.org"]
    assert [route.repeats for route in routes] == [True, False, False, False]
    assert [route.hold_uncertain for route in routes] == [False, True, True, False]
    assert [route.archive is not None for route in routes] == [True, False, False, False]
    assert routes[1].destination.repeat is Repeat.UNCERTAIN


def test_a_route_keeps_its_row_whatever_is_said_beside_its_recipient(bench: Bench):
    (before,) = bench.routes('{ to = "new", recipient = "a@example.org" }')
    first, second = bench.routes('{ to = "new", recipient = ["b@example.org", "a@example.org"], rate = "1/day" }')
    assert {first.row.target: first.row.id, second.row.target: second.row.id}["a@example.org"] == before.row.id


def test_the_routes_to_one_account_share_its_connections_and_its_count(bench: Bench):
    one, two = bench.routes('{ to = "new", recipient = ["a@example.org", "b@example.org"], rate = "2/minute" }')
    assert isinstance(one.destination, SmtpDestination)
    assert isinstance(two.destination, SmtpDestination)
    assert one.destination._relay is two.destination._relay
    assert one.destination._pace is two.destination._pace
    assert [one.destination._pace.take(), two.destination._pace.take()] == [0, 0]
    assert one.destination._pace.take() > 0


def test_what_follows_from_the_account(bench: Bench):
    smtp, lmtp = bench.routes(
        '{ to = "new", recipient = "a@example.org" }', '{ to = "lmtp", recipient = "a@example.org" }'
    )
    relay = options(smtp).relay
    assert (relay.host, relay.port, relay.security, relay.connections, relay.lmtp) == (
        "smtp.example.org", 465, "tls", 3, False,
    )  # fmt: skip
    assert relay.password().reveal() == "secret"
    assert (options(smtp).sender, options(smtp).send_eight_bit, options(smtp).trace) == ("me@example.org", False, True)
    assert (options(smtp).source, options(smtp).protocol) == ("pop.example.net", "POP3")
    assert (options(lmtp).sender, options(lmtp).send_eight_bit, options(lmtp).relay.lmtp) == ("", True, True)
    assert options(lmtp).relay.username == ""


@pytest.mark.parametrize(
    ("written", "sender", "resent_from"),
    [
        ('sender = "empty"', "", ""),
        ('sender = "account"', "me@example.org", "me@example.org"),
        ('sender = "original"', "original", ""),
        ('sender = "it@example.org"', "it@example.org", "it@example.org"),
    ],
)
def test_senders(bench: Bench, written: str, sender: str, resent_from: str):
    (route,) = bench.routes(f'{{ to = "new", recipient = "a@example.org", resent = true, {written} }}')
    assert (options(route).sender, options(route).resent_from, options(route).resent) == (sender, resent_from, True)


def test_mail_from_an_archive_names_no_server(bench: Bench):
    with Destinations(bench.loaded('"home"'), dry_run=False, refill=False) as found:
        found.take(bench.database, "b")
    (route,) = bench.routes('{ to = "new", recipient = "a@example.org" }', source="home")
    assert (options(route).source, options(route).protocol) == ("", "")


def test_two_names_for_one_server_and_one_recipient(bench: Bench):
    with pytest.raises(ConfigError, match=r"a@example.org is named at two accounts of one host and username"):
        bench.routes('{ to = "lmtp", recipient = "a@example.org" }', '{ to = "twin", recipient = "a@example.org" }')
