"""What the configuration names and the ledger remembers, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, func, insert, select

from syncd.db.catalog import Catalog
from syncd.db.database import Database
from syncd.db.fingerprints import place
from syncd.db.leases import LeaseSet, archive_resource
from syncd.db.models import archives, deliveries, jobs, mailboxes, messages, planned, routes
from syncd.db.names import Owner, Shared
from syncd.db.routing import DestinationSpec
from syncd.db.rows import AccountRow, ArchiveRow, JobRow
from syncd.db.states import DeliveryState, Disposal, MessageState
from syncd.errors import AccountChanged, ArchiveMissing, ConfigError, LeaseLost
from syncd.mail.outcome import Repeat
from tests.contract.conftest import Opener


@pytest.fixture
def catalog(database: Database) -> Catalog:
    return Catalog(database)


def road(catalog: Catalog, name: str = "road", host: str = "pop.example.net") -> AccountRow:
    return catalog.account(name, "pop3", host, "me@example.net")


def show_a_message(database: Database, account: AccountRow) -> None:
    key = make_mailbox(database, account.id)
    with database.write() as connection:
        message = {"mailbox_id": key, "epoch": 1, "uid": b"1", "occurrence": 1, "listed_octets": 1}
        states = {"state": MessageState.LISTED, "disposal": Disposal.KEPT}
        connection.execute(insert(messages).values(message | states))


def make_mailbox(database: Database, account_id: int) -> int:
    values = {"account_id": account_id, "name": b"INBOX", "path": '["INBOX"]', "subscribed": True, "epoch": 1}
    with database.write() as connection:
        return int(connection.execute(insert(mailboxes).values(values).returning(mailboxes.c.id)).scalar_one())


def home(catalog: Catalog, found: UUID | None, name: str = "home", path: str = "/mail/home") -> ArchiveRow:
    return catalog.archive(name, path, "packs", found)


def to(archive: ArchiveRow) -> DestinationSpec:
    return DestinationSpec("archive", archive.id)


# --- accounts ------------------------------------------------------------------------------------------


def test_an_account_is_registered_once(catalog: Catalog) -> None:
    first = road(catalog)
    assert first.name == "road"
    assert first.fingerprint == "pop3 pop.example.net me@example.net"
    assert road(catalog) == first == catalog.find_account("road")
    assert catalog.find_account("other") is None


def test_another_machine_computes_the_same_uuid(catalog: Catalog) -> None:
    assert road(catalog).uuid == UUID("32f19d49-f866-5bcf-aeed-e29f1de6ed05")


@pytest.mark.parametrize(
    ("protocol", "port", "same"),
    [("pop3", 995, True), ("pop3", 1100, False), ("pop3", 143, False), ("imap", 993, True), ("smtp", 25, True),
     ("smtp", 465, True), ("smtp", 2525, False), ("lmtp", 24, True), ("lmtp", 25, False), ("memory", 110, False)],
)  # fmt: skip
def test_a_port_makes_another_server_unless_it_is_a_standard_one(protocol: str, port: int, *, same: bool) -> None:
    assert place(protocol, "Mail.example.net.", port) == "mail.example.net" + ("" if same else f":{port}")


def test_the_port_of_an_address_is_told_from_its_last_group() -> None:
    assert place("pop3", "::1", 110) == "::1"
    assert place("pop3", "::1", 1100) == "[::1]:1100"


@pytest.mark.parametrize("host", ["POP.Example.Net", "pop.example.net."])
def test_the_spelling_of_a_host_does_not_make_another_account(catalog: Catalog, host: str) -> None:
    assert road(catalog, host=host) == road(catalog)


def test_the_user_name_is_taken_as_it_is(catalog: Catalog) -> None:
    names = ["me", "Me", "me you", " me"]
    assert len({catalog.account(f"a{n}", "pop3", "h", name).uuid for n, name in enumerate(names)}) == len(names)


def test_a_new_name_for_a_known_account_is_a_rename(catalog: Catalog) -> None:
    before = road(catalog)
    after = road(catalog, name="travel")
    assert after == before._replace(name="travel")
    assert catalog.find_account("road") is None


def test_a_known_name_for_another_account_stops_until_a_person_rebinds(catalog: Catalog, database: Database) -> None:
    before = road(catalog)
    show_a_message(database, before)
    with pytest.raises(AccountChanged) as caught:
        road(catalog, host="pop.example.org")
    assert str(caught.value) == (
        'account "road" was pop3 pop.example.net me@example.net and is now pop3 pop.example.org me@example.net:'
        " if that is the same mailbox, run once with --rebind; if it is another one, give it a name of its own"
    )
    assert catalog.find_account("road") == before
    after = catalog.account("road", "pop3", "pop.example.org", "me@example.net", rebind=True)
    assert after == before._replace(fingerprint="pop3 pop.example.org me@example.net")
    assert road(catalog, host="pop.example.org") == after


def test_a_typing_error_in_an_account_that_never_showed_a_message_can_be_mended(catalog: Catalog) -> None:
    wrong = road(catalog, host="pop.exmaple.net")
    mended = road(catalog)
    assert mended.id == wrong.id
    assert mended.uuid == UUID("32f19d49-f866-5bcf-aeed-e29f1de6ed05"), "the one that any other machine computes"


def test_the_old_server_of_a_rebound_account_may_come_back_as_another_account(
    catalog: Catalog, database: Database
) -> None:
    show_a_message(database, road(catalog))
    rebound = catalog.account("road", "pop3", "pop.example.org", "me@example.net", rebind=True)
    old = road(catalog, name="old")
    assert old.uuid != rebound.uuid
    assert old.id != rebound.id


def test_a_name_that_was_another_known_accounts(catalog: Catalog, database: Database) -> None:
    """The configuration had road and office; now road is what office was, and office is no longer there."""
    before = road(catalog)
    show_a_message(database, before)
    office = catalog.account("office", "pop3", "pop.example.org", "me")
    with pytest.raises(AccountChanged):
        catalog.account("road", "pop3", "pop.example.org", "me")
    after = catalog.account("road", "pop3", "pop.example.org", "me", rebind=True)
    assert after == office._replace(name="road")
    aside = catalog.find_account(f"road~{before.id}")
    assert aside == before._replace(name=f"road~{before.id}")


# --- archives ------------------------------------------------------------------------------------------


def test_an_archive_that_is_there_is_registered(catalog: Catalog) -> None:
    uuid = uuid4()
    archive = home(catalog, uuid)
    assert archive == ArchiveRow(archive.id, uuid, "home", "/mail/home", "packs", made=True)
    assert home(catalog, uuid) == archive == catalog.find_archive("home")
    assert catalog.find_archive("other") is None


def test_a_new_archive_has_its_identity_before_it_is_made(catalog: Catalog) -> None:
    """Registering makes nothing on disk; the first run that delivers to it does."""
    planned_ = home(catalog, None)
    assert not planned_.made
    assert home(catalog, None) == planned_ == catalog.find_archive("home")
    assert home(catalog, None, path="/mnt/mail") == planned_._replace(path="/mnt/mail")
    catalog.archive_made(planned_.id)
    made = home(catalog, planned_.uuid, path="/mnt/mail")
    assert made == planned_._replace(path="/mnt/mail", made=True)
    with pytest.raises(ArchiveMissing, match="it is not there"):
        home(catalog, None, path="/mnt/mail")


def test_an_archive_that_was_made_and_not_noted_is_known(catalog: Catalog) -> None:
    """A run broke off between the two."""
    planned_ = home(catalog, None)
    assert home(catalog, planned_.uuid) == planned_._replace(made=True)


def test_an_archive_that_turns_up_before_ours_is_made_is_taken_over(catalog: Catalog) -> None:
    planned_ = home(catalog, None)
    found = uuid4()
    assert home(catalog, found) == planned_._replace(uuid=found, made=True)
    other = home(catalog, None, name="disk", path="/media/disk")
    assert home(catalog, found, name="disk", path="/media/disk").id == planned_.id, "it was renamed"
    assert catalog.find_archive(f"disk~{other.id}") == other._replace(name=f"disk~{other.id}")


def test_an_archive_of_another_machine_is_taken_in(catalog: Catalog) -> None:
    home(catalog, uuid := uuid4())
    other = home(catalog, uuid4(), name="disk", path="/media/disk")
    assert other.uuid != uuid


def test_an_archive_may_be_renamed_and_moved(catalog: Catalog) -> None:
    before = home(catalog, uuid := uuid4())
    assert home(catalog, uuid, path="/mnt/mail") == before._replace(path="/mnt/mail")
    assert home(catalog, uuid, name="mail", path="/mnt/mail") == before._replace(path="/mnt/mail", name="mail")


def test_an_archive_that_is_not_there_stops(catalog: Catalog) -> None:
    home(catalog, uuid := uuid4())
    with pytest.raises(ArchiveMissing) as caught:
        catalog.archive("home", "/mail/home", "packs", None)
    assert str(caught.value) == (
        f'archive "home" ({uuid}) at /mail/home: it is not there. Mount its disk or correct its path; to begin a'
        " new archive there and have it filled again: `syncd run JOB --refill`"
    )


def test_another_archive_in_its_place_stops(catalog: Catalog) -> None:
    home(catalog, uuid4())
    other = uuid4()
    with pytest.raises(ArchiveMissing, match=f"at /mail/home: another archive \\({other}\\) is there"):
        home(catalog, other)
    known = home(catalog, other, name="disk")
    with pytest.raises(ArchiveMissing, match=f"at /mail/home: another archive \\({other}\\) is there"):
        home(catalog, other)
    assert catalog.find_archive("disk") == known


def test_refilled_an_archive_is_new_and_everything_is_pending_again(catalog: Catalog, database: Database) -> None:
    before = home(catalog, uuid4())
    elsewhere = home(catalog, uuid4(), name="disk")
    job = catalog.job("backup", road(catalog).id, [to(before), to(elsewhere)], removes=False)
    states = [DeliveryState.DELIVERED, DeliveryState.REJECTED, DeliveryState.SKIPPED]
    deliver(database, catalog, job, states)

    after = catalog.archive("home", "/mail/home", "packs", new := uuid4(), refill=True)
    assert after == before._replace(uuid=new)
    pending = [DeliveryState.PENDING, DeliveryState.REJECTED, DeliveryState.SKIPPED]
    assert delivered(database, job) == {"home": pending, "disk": states}


def test_refilled_where_nothing_is_there_an_archive_is_to_be_made(catalog: Catalog, database: Database) -> None:
    before = home(catalog, uuid4())
    job = catalog.job("backup", road(catalog).id, [to(before)], removes=False)
    deliver(database, catalog, job, [DeliveryState.DELIVERED])
    after = catalog.archive("home", "/mail/home", "packs", None, refill=True)
    assert after == before._replace(uuid=after.uuid, made=False)
    assert after.uuid != before.uuid
    assert delivered(database, job) == {"home": [DeliveryState.PENDING]}
    assert catalog.archive("home", "/mail/home", "packs", None, refill=True) == after == home(catalog, None)


def test_a_run_that_writes_to_an_archive_while_it_is_replaced_loses_its_lease(
    catalog: Catalog, database: Database
) -> None:
    old = home(catalog, uuid4())
    with LeaseSet.acquire(database, [archive_resource(old.uuid)], "a run", renew_s=0) as mine:
        catalog.archive("home", "/mail/home", "packs", uuid4(), refill=True)
        with pytest.raises(LeaseLost):
            mine.renew()


def test_refilling_an_archive_that_is_in_its_place_changes_nothing(catalog: Catalog, database: Database) -> None:
    archive = home(catalog, uuid4())
    job = catalog.job("backup", road(catalog).id, [to(archive)], removes=False)
    deliver(database, catalog, job, [DeliveryState.DELIVERED])
    assert catalog.archive("home", "/mail/home", "packs", archive.uuid, refill=True) == archive
    assert delivered(database, job) == {"home": [DeliveryState.DELIVERED]}


def test_a_known_archive_in_the_place_of_another_keeps_its_own_receipts(catalog: Catalog) -> None:
    first, second = home(catalog, uuid4()), home(catalog, uuid4(), name="disk")
    after = catalog.archive("home", "/mail/home", "packs", second.uuid, refill=True)
    assert after == second._replace(name="home")
    assert catalog.find_archive(f"home~{first.id}") == first._replace(name=f"home~{first.id}")


def deliver(database: Database, catalog: Catalog, job: JobRow, states: list[DeliveryState]) -> None:
    """A message for each state, with that delivery on every route of the job."""
    mailbox_id = make_mailbox(database, job.account_id)
    with database.write() as connection:
        for state in states:
            values = {
                "mailbox_id": mailbox_id,
                "epoch": 1,
                "uid": bytes([state]),
                "occurrence": 1,
                "state": MessageState.FETCHED,
                "disposal": Disposal.KEPT,
                "listed_octets": 1,
            }
            key = connection.execute(insert(messages).values(values).returning(messages.c.id)).scalar_one()
            rows = [{"message_id": key, "route_id": r.id, "state": state, "at": 5, "receipt": "x"} for r in job.routes]
            connection.execute(insert(deliveries), rows)


def delivered(database: Database, job: JobRow) -> dict[str, list[DeliveryState]]:
    with database.read() as connection:
        found = {}
        for route in job.routes:
            here = select(deliveries.c.state).where(deliveries.c.route_id == route.id).order_by(deliveries.c.message_id)
            found[route.name] = [DeliveryState(number) for number in connection.execute(here).scalars()]
        return found


# --- jobs ----------------------------------------------------------------------------------------------


def test_a_job_has_its_destinations_in_order(catalog: Catalog) -> None:
    account, office = road(catalog), catalog.account("office", "smtp", "mx.example.net", "me")
    archive = home(catalog, uuid4())
    mail = DestinationSpec("account", office.id, "me@example.net")
    job = catalog.job("backup", account.id, [to(archive), mail], removes=False)
    assert [(r.slot, r.name, r.kind, r.archive_id, r.account_id) for r in job.routes] == [
        (0, "home", "archive", archive.id, None),
        (1, "office", "account", None, office.id),
    ]
    assert not job.removal_confirmed
    assert catalog.job("backup", account.id, [to(archive), mail], removes=False) == job == catalog.find_job("backup")
    assert catalog.find_job("other") is None


def test_a_destination_keeps_its_slot_for_good(catalog: Catalog) -> None:
    account = road(catalog)
    a, b, c = (to(home(catalog, uuid4(), name=name)) for name in "abc")

    def slots(*destinations: DestinationSpec) -> dict[str, int]:
        job = catalog.job("backup", account.id, destinations, removes=False)
        return {route.name: route.slot for route in job.routes}

    assert slots(a, b) == {"a": 0, "b": 1}
    assert slots(b) == {"b": 1}
    assert slots(c, b) == {"b": 1, "c": 2}
    assert slots(c, a, a) == {"a": 0, "c": 2}


def test_one_account_may_be_several_destinations(catalog: Catalog) -> None:
    office = catalog.account("office", "smtp", "mx.example.net", "me")
    specs = [DestinationSpec("account", office.id, target) for target in ("me@example.net", "you@example.net")]
    assert len(catalog.job("backup", road(catalog).id, specs, removes=False).routes) == 2


def test_destinations_no_longer_named_are_not_forgotten(catalog: Catalog, database: Database) -> None:
    archive = home(catalog, uuid4())
    with_it = catalog.job("backup", road(catalog).id, [to(archive)], removes=False)
    assert catalog.job("backup", road(catalog).id, [], removes=False).routes == ()
    assert catalog.job("backup", road(catalog).id, [to(archive)], removes=False) == with_it
    with database.read() as connection:
        assert len(connection.execute(select(routes)).all()) == 1


def test_more_destinations_than_are_kept_apart(catalog: Catalog) -> None:
    account = road(catalog)
    specs = [DestinationSpec("account", account.id, f"mailbox {number}") for number in range(32)]
    catalog.job("backup", account.id, specs[:31], removes=False)
    with pytest.raises(ConfigError, match='job "backup" has had 31 destinations'):
        catalog.job("backup", account.id, specs[1:], removes=False)


def test_a_confirmation_holds_for_the_source_it_was_given_for(catalog: Catalog) -> None:
    account, other = road(catalog), road(catalog, name="other", host="pop.example.org")
    job = catalog.job("backup", account.id, [], removes=True)
    assert not job.removal_confirmed
    catalog.confirm_removal(job.id)
    assert catalog.job("backup", account.id, [], removes=True).removal_confirmed
    assert not catalog.job("backup", other.id, [], removes=True).removal_confirmed
    assert not catalog.job("backup", account.id, [], removes=True).removal_confirmed


def test_jobs_no_longer_named_are_disabled_until_they_come_back(catalog: Catalog, database: Database) -> None:
    account = road(catalog)
    for name in ("a", "b", "c"):
        catalog.job(name, account.id, [], removes=False)

    def enabled() -> list[str]:
        with database.read() as connection:
            return list(connection.execute(select(jobs.c.name).where(jobs.c.enabled).order_by(jobs.c.name)).scalars())

    catalog.retire({"b": (), "c": ()})
    assert enabled() == ["b", "c"]
    catalog.job("a", account.id, [], removes=False)
    assert enabled() == ["a", "b", "c"]
    catalog.retire({})
    assert enabled() == []


# --- routes --------------------------------------------------------------------------------------------


def test_what_a_destination_is_like_stands_in_its_row(catalog: Catalog) -> None:
    account, office = road(catalog), catalog.account("office", "imap", "mx.example.net", "me")

    def repeats(repeat: Repeat) -> list[tuple[int, Repeat]]:
        job = catalog.job("backup", account.id, [DestinationSpec("account", office.id, "", repeat)], removes=False)
        return [(route.id, route.repeat) for route in job.routes]

    ((route_id, repeat),) = repeats(Repeat.UNCERTAIN)
    assert repeat is Repeat.UNCERTAIN
    assert repeats(Repeat.ASKED) == [(route_id, Repeat.ASKED)]


@pytest.mark.parametrize("which", ["route", "job"])
def test_what_comes_into_use_again_is_planned_again_at_mail_servers(
    catalog: Catalog, database: Database, which: str
) -> None:
    """Another route may have delivered meanwhile; archives are asked for what they have only where they are new."""
    account, office = road(catalog), catalog.account("office", "smtp", "mx.example.net", "me")
    specs = [to(home(catalog, uuid4())), DestinationSpec("account", office.id, "me", Repeat.UNCERTAIN)]
    job = catalog.job("backup", account.id, specs, removes=False)
    mailbox_id = make_mailbox(database, account.id)
    with database.write() as connection:
        facts = {"mailbox_id": mailbox_id, "listing_id": 1, "contents": b"x"}
        connection.execute(insert(planned), [{**facts, "route_id": route.id} for route in job.routes])

    def known() -> set[int]:
        with database.read() as connection:
            return set(connection.execute(select(planned.c.route_id)).scalars())

    catalog.job("backup", account.id, specs, removes=False)
    assert known() == {route.id for route in job.routes}
    if which == "route":
        catalog.job("backup", account.id, [], removes=False)
    else:
        catalog.retire({})
    assert known() == {route.id for route in job.routes}
    catalog.job("backup", account.id, specs, removes=False)
    assert known() == {job.routes[0].id}


def test_nothing_is_written_when_nothing_changed(catalog: Catalog, database: Database) -> None:
    written: list[str] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            written.append(statement)

    def everything() -> None:
        account, archive = road(catalog), home(catalog, UUID(int=7))
        planned_ = catalog.archive("disk", "/mail/disk", "packs", None)
        catalog.job("backup", account.id, [to(archive), to(planned_)], removes=True)
        catalog.retire({"backup": ()})

    everything()
    done = len(written)
    assert done >= 6  # account, archives, job, routes, names
    with database.write():  # nothing waits for a writer
        everything()
    assert len(written) == done


# --- configurations that share a ledger ------------------------------------------------------------------


@pytest.fixture
def one(database: Database) -> Catalog:
    return Catalog(database, Owner("/one.toml", lambda name: name in {"", "/one.toml"}))


@pytest.fixture
def two(database: Database) -> Catalog:
    return Catalog(database, Owner("/two.toml", lambda name: name in {"", "/two.toml"}))


def test_a_name_means_in_each_configuration_what_that_one_says(one: Catalog, two: Catalog, database: Database) -> None:
    first = road(one)
    show_a_message(database, first)
    second = road(two, host="pop.example.org")
    assert (one.find_account("road"), two.find_account("road")) == (first, second)
    ours, theirs = home(one, uuid4()), home(two, None, path="/elsewhere")
    assert (one.find_archive("home"), two.find_archive("home")) == (ours, theirs)
    jobs_ = [
        catalog.job("backup", account.id, [to(archive)], removes=False)
        for catalog, account, archive in ((one, first, ours), (two, second, theirs))
    ]
    assert [one.find_job("backup"), two.find_job("backup")] == jobs_
    two.retire({"backup": []})
    one.retire({"other": []})
    with database.read() as connection:
        enabled = select(jobs.c.configuration).where(jobs.c.enabled)
        assert list(connection.execute(enabled).scalars()) == ["/two.toml"]


def test_what_two_configurations_share_has_a_name_in_each(one: Catalog, two: Catalog, database: Database) -> None:
    uuid = uuid4()
    show_a_message(database, road(one))
    assert road(two, name="travel").id == road(one).id
    assert home(one, uuid).id == home(two, uuid, name="disk").id
    assert one.shared() == [
        Shared("account", "road", "/two.toml", "travel"),
        Shared("archive", "home", "/two.toml", "disk"),
    ]
    with pytest.raises(AccountChanged):
        road(two, name="travel", host="pop.example.org")
    with pytest.raises(ArchiveMissing, match="it is not there"):
        home(two, None, name="disk")
    archive = two.find_archive("disk")
    assert archive is not None
    job = two.job("backup", road(two, name="travel").id, [to(archive)], removes=False)
    assert [route.name for route in job.routes] == ["disk"]


def test_filling_an_archive_again_takes_it_from_nobody_else(one: Catalog, two: Catalog) -> None:
    uuid = uuid4()
    before = home(one, uuid)
    home(two, uuid, name="disk")
    after = two.archive("disk", "/mnt/disk", "packs", None, refill=True)
    assert (after.id == before.id, after.made) == (False, False)
    assert home(one, uuid) == before


def test_another_configurations_archive_in_the_place_of_ours_is_named(one: Catalog, two: Catalog) -> None:
    home(one, uuid := uuid4(), name="mail")
    home(two, uuid4())
    with pytest.raises(ArchiveMissing) as caught:
        home(two, uuid)
    assert 'is there, which is "mail" of /one.toml' in str(caught.value)
    assert "--refill" not in str(caught.value)


def test_a_configuration_that_moved_has_its_names_still(one: Catalog, database: Database) -> None:
    account, archive = road(one), home(one, uuid4())
    job = one.job("backup", account.id, [to(archive)], removes=False)
    show_a_message(database, account)
    moved = Catalog(database, Owner("home", lambda name: name in {"home", "/one.toml"}))
    assert (moved.find_account("road"), moved.find_job("backup")) == (account, job)
    with pytest.raises(AccountChanged):
        road(moved, host="pop.example.org")
    with pytest.raises(ArchiveMissing):
        home(moved, None)
    assert (road(moved), home(moved, archive.uuid)) == (account, archive)
    assert moved.job("backup", account.id, [to(archive)], removes=False) == job
    assert (one.find_account("road"), one.find_archive("home"), one.find_job("backup")) == (None, None, None)


def test_archives_that_many_register_at_once_are_one_each(open_ledger: Opener) -> None:
    """On PostgreSQL none sees what the others have not committed; each is given the archive of its own name."""
    databases = [open_ledger() for _ in range(8)]

    def register(at: int) -> tuple[str, int, UUID]:
        catalog = Catalog(databases[at], Owner("home", lambda name: name == "home"))
        name = f"archive-{at % 3}"
        account = catalog.account("road", "pop3", "pop.example.net", "me")
        archive = catalog.archive(name, f"/{name}", "packs", None)
        catalog.job(f"job-{at}", account.id, [DestinationSpec("archive", archive.id)], removes=False)
        return archive.name, archive.id, archive.uuid

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(register, range(8)))
    assert sorted(name for name, *_ in found) == ["archive-0", "archive-1", "archive-2"]
    with databases[0].read() as connection:
        assert connection.execute(select(func.count()).select_from(archives)).scalar_one() == 3
        assert connection.execute(select(func.count()).select_from(routes)).scalar_one() == 8
