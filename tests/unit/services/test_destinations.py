"""From the destinations of a configuration to routes: one for each recipient, with what follows from its account."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from syncd.db.catalog import Catalog
from syncd.db.database import Database
from syncd.destinations.packs import PacksArchive
from syncd.destinations.smtp.route import SmtpDestination, SmtpOptions
from syncd.engine.job import Route
from syncd.errors import ArchiveMissing, ConfigError, LeaseHeld
from syncd.mail.message import Receipt
from syncd.mail.outcome import Repeat
from syncd.services.registry import Registered, Registry, refilled
from syncd.services.wiring import open_ledger
from syncd.services.workplace import Common, Running, Workplace
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
port = 24
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

    @contextmanager
    def place(self, loaded: Loaded, **options: Any) -> Iterator[Workplace]:
        with Common(self.database, Running()) as common, Workplace(loaded, common, **options) as place:
            yield place

    def routes(self, *destinations: str, source: str = "road") -> list[Route]:
        with self.place(self.loaded(*destinations, source=source)) as place:
            return ready(place, "a")

    def sharing(self, place: Workplace) -> list[Route]:
        """The routes of two jobs to one archive, open."""
        routes = [route for job in ("a", "b") for route in ready(place, job)]
        routes[0].destination.open()
        return routes


def register(registry: Registry, job: str) -> Registered:
    return registry.job(job, registry.account("road"))


def ready(place: Workplace, job: str) -> list[Route]:
    """The routes of a job that may begin now: its archives are taken and made."""
    registered = register(place.registry, job)
    archives = place.destinations.take(job)
    place.destinations.make(archives)
    return list(place.destinations.routes(registered, archives))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    with open_ledger(made.loaded('"home"')) as made.database:
        yield made


def test_an_archive_is_given_back_when_no_run_uses_it_any_more(bench: Bench):
    """It stayed open and leased to the end: hundreds of jobs, a few at a time, had hundreds of archives open."""
    with bench.place(bench.loaded('"home"')) as place, bench.place(place.loaded) as other:
        routes = bench.sharing(place)  # two jobs that use it
        register(other.registry, "a")
        archives = place.destinations.take("a")
        place.destinations.give_back(archives * 2)
        with other.destinations.taken("a") as waiting:
            with pytest.raises(LeaseHeld):
                waiting[0].lease.take()
            place.destinations.give_back(archives)
            waiting[0].lease.take()
        with place.destinations.taken("a") as again:
            assert again[0].archive is not archive_of(routes[0])
            assert again[0].made, "it was made before"
            place.destinations.make(again)


def test_an_archive_is_nobodys_until_it_is_written_to(bench: Bench):
    """Each poll took its lease and gave it back, and kept others from it, although nothing was new."""
    with bench.place(bench.loaded('"home"')) as place, bench.place(place.loaded) as other:
        ready(place, "a")
        place.destinations.give_back(place.destinations.take("a") * 2)
        (mine,), (theirs,) = ready(place, "a"), ready(other, "a")
        theirs.take()
        theirs.take()
        with pytest.raises(LeaseHeld):
            mine.take()


def archive_of(route: Route) -> PacksArchive:
    assert isinstance(route.destination, PacksArchive)
    return route.destination


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


def test_in_a_service_one_process_at_a_time_sends_through_an_account(bench: Bench) -> None:
    loaded = bench.loaded('{ to = "new", recipient = "a@example.org" }')
    with Common(bench.database, Running(), alone=True) as ours, Common(bench.database, Running(), alone=True) as theirs:
        with Workplace(loaded, ours) as place:
            ready(place, "a")
            with (
                Workplace(loaded, theirs) as other,
                pytest.raises(LeaseHeld, match='account "new" is being used to send'),
            ):
                ready(other, "a")
        with Workplace(loaded, theirs) as other:
            ready(other, "a")


def test_what_follows_from_the_account(bench: Bench):
    smtp, lmtp = bench.routes(
        '{ to = "new", recipient = "a@example.org" }', '{ to = "lmtp", recipient = "a@example.org" }'
    )
    relay = options(smtp).relay
    end = relay.endpoint
    assert (end.host, end.port, end.security, relay.connections, relay.lmtp) == (
        "smtp.example.org", 465, "tls", 3, False,
    )  # fmt: skip
    assert relay.endpoint.password().reveal() == "secret"
    assert (options(smtp).sender, options(smtp).send_eight_bit, options(smtp).trace) == ("me@example.org", False, True)
    assert (options(smtp).source, options(smtp).protocol) == ("pop.example.net", "POP3")
    assert (options(lmtp).sender, options(lmtp).send_eight_bit, options(lmtp).relay.lmtp) == ("", True, True)
    assert options(lmtp).relay.endpoint.username == ""


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
    bench.routes('"home"')
    (route,) = bench.routes('{ to = "new", recipient = "a@example.org" }', source="home")
    assert (options(route).source, options(route).protocol) == ("", "")


def test_two_names_for_one_server_and_one_recipient(bench: Bench):
    with pytest.raises(ConfigError, match=r"destinations\[1\].recipient: \"a@example.org\" is a recipient of another"):
        bench.routes('{ to = "lmtp", recipient = "a@example.org" }', '{ to = "twin", recipient = "a@example.org" }')


# --- archives that jobs share ---


def test_what_a_job_reads_goes_on_while_another_job_opens_the_archive(bench: Bench) -> None:
    """The other one closed the index in the middle of a statement."""
    with bench.place(bench.loaded('"home"')) as place:
        one, two = bench.sharing(place)
        assert one.archive is not None
        delivered(archive_of(one), messages(1, 2))
        places = one.archive.places(ROAD.account)
        assert next(places).ref.uid == b"uid-1"
        with two.lock:
            two.destination.open()
        assert [place.ref.uid for place in places] == [b"uid-2"]
        one.archive.close()


def test_jobs_read_from_one_archive_in_threads_while_it_is_written_to(bench: Bench) -> None:
    """They closed each other's files: octets of another pack, a closed index, a crash of the interpreter."""
    batches = [messages(*range(start, start + 5), size=20_000) for start in range(0, 50, 5)]
    with bench.place(bench.loaded('"home"')) as place:
        routes = bench.sharing(place)
        assert isinstance(routes[0].destination, PacksArchive)
        routes[0].destination._seal_octets = 150_000
        routes[0].destination.open()
        for batch in batches:
            delivered(archive_of(routes[0]), batch)
        wrong: list[object] = []

        def read(route: Route) -> None:
            assert route.archive is not None
            try:
                for message in [message for batch in batches for message in batch] * 5:
                    assert octets(route.archive.read(Receipt(message.body.sha256)).body) == mail(message.key, 20_000)
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
                delivered(archive_of(routes[1]), messages(number := number + 1))
        assert wrong == []


def test_an_archive_that_was_exchanged_between_two_jobs_is_not_written_to(bench: Bench, tmp_path: Path) -> None:
    with bench.place(bench.loaded('"home"')) as place:
        one, _ = bench.sharing(place)
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
    with bench.place(loaded) as place:
        for job in ("a", "b"):
            ready(place, job)
    (tmp_path / "home").rename(tmp_path / "unmounted")
    (tmp_path / "spare").rename(tmp_path / "lost")
    with bench.place(loaded, refill=refilled(loaded, ["a"])) as place:
        ready(place, "a")
        with pytest.raises(ArchiveMissing, match='archive "home"'):
            ready(place, "b")
    assert (tmp_path / "spare").is_dir()
    assert not (tmp_path / "home").exists()


# --- archives are made by the run that takes them ---


def test_registering_makes_no_archive_and_taking_it_makes_the_one_that_was_registered(
    bench: Bench, tmp_path: Path
) -> None:
    with bench.place(bench.loaded('"home"')) as place:
        register(place.registry, "a")
        row = Catalog(bench.database).find_archive("home")
        assert row is not None
        assert (row.made, (tmp_path / "home").exists()) == (False, False)
        ready(place, "a")
    made = Catalog(bench.database).find_archive("home")
    assert made is not None
    assert (made.uuid, made.made) == (row.uuid, True)
    assert PacksArchive(tmp_path / "home").identity() == row.uuid


def test_a_process_that_died_when_it_had_made_an_archive_leaves_no_riddle(bench: Bench, tmp_path: Path) -> None:
    with bench.place(bench.loaded('"home"')) as place:
        uuid = place.registry.archive("home").uuid
    PacksArchive(tmp_path / "home").create(uuid)
    assert len(bench.routes('"home"')) == 1
    row = Catalog(bench.database).find_archive("home")
    assert row is not None
    assert (row.uuid, row.made) == (uuid, True)


def test_an_archive_that_another_process_makes_meanwhile_is_recognised(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our look at the disk and the ledger it was made: it was taken for one that is missing."""
    loaded = bench.loaded('"home"')
    look = Registry._found
    registry = Registry(loaded, bench.database)

    def at_that_moment(self: Registry, name: str) -> object:
        monkeypatch.setattr(Registry, "_found", look)
        found = look(self, name)
        bench.routes('"home"')
        return found

    monkeypatch.setattr(Registry, "_found", at_that_moment)
    assert registry.archive("home").made


def test_a_dry_run_makes_no_archive_and_tells_which_a_run_would_make(bench: Bench, tmp_path: Path) -> None:
    with bench.place(bench.loaded('"home"'), dry_run=True) as place:
        assert [route.archive for route in ready(place, "a")] == [None]
        assert place.destinations.unmade == {"home"}
    assert not (tmp_path / "home").exists()


# --- what is at the path of an archive ---


@pytest.mark.parametrize("refill", [True, False])
def test_an_archive_of_another_format_is_told_as_such(bench: Bench, *, refill: bool) -> None:
    with bench.place(bench.loaded('"home"')) as place:
        bench.sharing(place)
    file = bench.loaded('"home"').file
    assert file is not None
    file.write_text(file.read_text().replace('path = "home"', 'path = "home"\nformat = "maildir"'))
    changed = load(file)
    with pytest.raises(ConfigError, match='has format = "packs", not "maildir"') as caught:
        Registry(changed, bench.database, refill=["home"] if refill else ()).archive("home")
    assert "--refill" not in str(caught.value)
