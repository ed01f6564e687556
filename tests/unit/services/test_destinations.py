"""From the destinations of a configuration to routes: one for each recipient, with what follows from its account."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from syncd.db.catalog import Catalog
from syncd.db.database import Database
from syncd.db.rows import JobRow
from syncd.destinations.base import Repeat
from syncd.destinations.packs import PacksArchive
from syncd.destinations.smtp.route import SmtpDestination, SmtpOptions
from syncd.engine.job import Route
from syncd.errors import ArchiveMissing, ConfigError
from syncd.mail.message import Receipt
from syncd.services.destinations import Destinations
from syncd.services.wiring import identity, open_ledger
from syncd.settings.load import Loaded, load
from tests.contract.destination_suite import ROAD, delivered, octets
from tests.support.packs import mail, messages

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
[archives.spare]
path = "spare"
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
        with Destinations(loaded, dry_run=False) as found:
            found.take(self.database, "a")
            return list(found.routes(self.database, self.register(loaded, found)))

    def register(self, loaded: Loaded, found: Destinations, job: str = "a") -> JobRow:
        catalog = Catalog(self.database)
        account = catalog.account("road", *identity(loaded, "road"))
        return catalog.job(job, account.id, found.specs(self.database, job), removes=False)

    def sharing(self, found: Destinations) -> list[Route]:
        """The routes of two jobs to one archive, open."""
        routes = []
        for job in ("a", "b"):
            found.take(self.database, job)
            routes += found.routes(self.database, self.register(self.loaded('"home"'), found, job))
        routes[0].destination.open()
        return routes


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
    assert [one.destination._pace.take(), two.destination._pace.take()] == [0, 0]
    assert one.destination._pace.take() > 0


def test_jobs_that_send_by_one_account_count_each_other_s_mail_and_keep_to_their_own_limits(bench: Bench):
    strict, lax = bench.routes(
        '{ to = "new", recipient = "a@example.org", rate = "2/minute" }',
        '{ to = "new", recipient = "b@example.org", rate = "3/minute" }',
    )
    assert isinstance(strict.destination, SmtpDestination)
    assert isinstance(lax.destination, SmtpDestination)
    assert [strict.destination._pace.take(), lax.destination._pace.take()] == [0, 0]
    assert strict.destination._pace.take() > 0
    assert lax.destination._pace.take() == 0
    assert lax.destination._pace.take() > 0


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
    with Destinations(bench.loaded('"home"'), dry_run=False) as found:
        found.take(bench.database, "b")
    (route,) = bench.routes('{ to = "new", recipient = "a@example.org" }', source="home")
    assert (options(route).source, options(route).protocol) == ("", "")


def test_two_names_for_one_server_and_one_recipient(bench: Bench):
    with pytest.raises(ConfigError, match=r"a@example.org is named at two accounts of one host and username"):
        bench.routes('{ to = "lmtp", recipient = "a@example.org" }', '{ to = "twin", recipient = "a@example.org" }')


# --- archives that jobs share ---


def test_what_a_job_reads_goes_on_while_another_job_opens_the_archive(bench: Bench) -> None:
    """The other one closed the index in the middle of a statement."""
    with Destinations(bench.loaded('"home"'), dry_run=False) as found:
        one, two = bench.sharing(found)
        assert one.archive is not None
        delivered(one.destination, messages(1, 2))
        places = one.archive.places(ROAD.account)
        assert next(places).ref.uid == b"uid-1"
        with two.lock:
            two.destination.open()
        assert [place.ref.uid for place in places] == [b"uid-2"]
        one.archive.close()


def test_jobs_read_from_one_archive_in_threads_while_it_is_written_to(bench: Bench) -> None:
    """They closed each other's files: octets of another pack, a closed index, a crash of the interpreter."""
    batches = [messages(*range(start, start + 5), size=20_000) for start in range(0, 50, 5)]
    with Destinations(bench.loaded('"home"'), dry_run=False) as found:
        routes = bench.sharing(found)
        assert isinstance(routes[0].destination, PacksArchive)
        routes[0].destination._seal_octets = 150_000
        routes[0].destination.open()
        for batch in batches:
            delivered(routes[0].destination, batch)
        wrong: list[object] = []

        def read(route: Route) -> None:
            assert route.archive is not None
            try:
                for message in [message for batch in batches for message in batch] * 5:
                    assert octets(route.archive.read(Receipt(message.body.sha256))) == mail(message.key, 20_000)
            except BaseException as error:  # noqa: BLE001  of a thread: for the assertion below
                wrong.append(error)
            finally:
                route.archive.close()

        readers = [threading.Thread(target=read, args=(route,)) for route in routes]
        for reader in readers:
            reader.start()
        number = 1000
        while any(reader.is_alive() for reader in readers):
            with routes[1].lock:
                routes[1].destination.open()
                delivered(routes[1].destination, messages(number := number + 1))
        assert wrong == []


def test_an_archive_that_was_exchanged_between_two_jobs_is_not_written_to(bench: Bench, tmp_path: Path) -> None:
    with Destinations(bench.loaded('"home"'), dry_run=False) as found:
        one, _ = bench.sharing(found)
        one.destination.close()
        (tmp_path / "home").rename(tmp_path / "unmounted")
        PacksArchive(tmp_path / "home").create(uuid4())
        with pytest.raises(ArchiveMissing, match="another one"):
            one.destination.open()
        assert one.archive is not None
        for _ in range(2):
            with pytest.raises(ArchiveMissing, match="another one"):
                list(one.archive.places(ROAD.account))


def test_a_copy_is_no_second_archive(bench: Bench, tmp_path: Path) -> None:
    """Both were one row of the ledger: the job delivered to one of them, and both were taken for filled."""
    bench.routes('"home"')
    shutil.copytree(tmp_path / "home", tmp_path / "spare")
    for destinations in ('"home", "spare"', '"spare"'):
        with pytest.raises(ConfigError, match=r'archives "home" and "spare" are one|archives "spare" and "home" are'):
            bench.routes(destinations)


def test_a_copy_that_no_job_uses_is_left_alone(bench: Bench, tmp_path: Path) -> None:
    bench.routes('"home"')
    shutil.copytree(tmp_path / "home", tmp_path / "spare")
    assert len(bench.routes('"home"')) == 1


def test_refill_is_for_the_archives_of_the_jobs_that_were_named(bench: Bench, tmp_path: Path) -> None:
    """The archive of another job was begun anew while its disk was not mounted."""
    loaded = bench.loaded('"spare"')
    with Destinations(loaded, dry_run=False) as found:
        found.identified(bench.database, "home")
        found.identified(bench.database, "spare")
    (tmp_path / "home").rename(tmp_path / "unmounted")
    (tmp_path / "spare").rename(tmp_path / "lost")
    with Destinations(loaded, dry_run=False, refill=["a"]) as found:
        found.identified(bench.database, "spare")
        with pytest.raises(ArchiveMissing, match='archive "home"'):
            found.identified(bench.database, "home")
    assert (tmp_path / "spare").is_dir()
    assert not (tmp_path / "home").exists()
