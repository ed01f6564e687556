"""`syncd errors`, `retry` and `drop` on a job with an archive and a mail server, from the ledger alone."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from syncd.cli.main import call
from syncd.db.catalog import Catalog
from syncd.db.database import Database
from syncd.db.holder import Holder
from syncd.db.leases import LeaseSet, job_resource
from syncd.db.ledger import Ledger, of_route
from syncd.db.routing import DestinationSpec
from syncd.db.rows import MailboxScope, ProblemKind, ProblemRow, RunScope, Suspension
from syncd.db.runs import Runs
from syncd.db.states import DeliveryState, MessageState
from syncd.destinations.packs import PacksArchive
from syncd.errors import LeaseHeld, MessageRefused
from syncd.mail.body import Body
from syncd.mail.listing import Totals
from syncd.mail.mailbox import INBOX, INBOX_PATH, MAILDROP
from syncd.mail.message import Key, Message, MessageRef, Origin, Uid
from syncd.mail.outcome import Outcome, Repeat, Verdict
from syncd.services.problems import chosen, drop, problems
from syncd.services.selection import Selector, Why, is_done, why_of
from syncd.settings.load import Loaded, load
from tests.support.ledger import BEGIN, START, Clock, add

CONFIG = """
[accounts.road]
protocol = "pop3"
host = "pop.example.net"
username = "me"
password = "env:NOTHING"
[accounts.new]
protocol = "smtp"
host = "smtp.example.org"
username = "me"
password = "env:NOTHING"
[archives.home]
path = "home"
[jobs.forward]
source = "road"
destinations = ["home", { to = "new", recipient = "me@example.org" }]
[jobs.idle]
source = "road"
destinations = ["home"]
"""
WORDS = {1: "rejected", 2: "deferred", 3: "held", 4: "uncertain", 5: "unsent", 6: "unfetchable"}  # 7: delivered, twice?


def octets(number: int) -> bytes:
    head = f"From: Ann <ann@example.net>\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe_{number}?=\r\n"
    return f"{head}Date: Mon, 2 Mar 2026 10:00:00 +0100\r\n\r\ntext\r\n".encode()


@pytest.fixture(autouse=True)
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNCD_HOME", str(tmp_path / "state"))
    Path("syncd.toml").write_text(CONFIG)
    return load()


class Past:
    """The job has run: of seven messages each waits for something else."""

    def __init__(self, database: Database, loaded: Loaded) -> None:
        self.database = database
        self.settings = loaded
        self.catalog = Catalog(database)
        account = self.catalog.account("road", "pop3", "pop.example.net", "me")
        relay = self.catalog.account("new", "smtp", "smtp.example.org", "me")
        self.archive = PacksArchive(loaded.settings.archives["home"].path)
        self.archive.create(account.uuid)
        row = self.catalog.archive("home", str(self.archive.path), "packs", self.archive.identity())
        mail = DestinationSpec("account", relay.id, "me@example.org", Repeat.UNCERTAIN)
        specs = [DestinationSpec("archive", row.id), mail]
        self.job = self.catalog.job("forward", account.id, specs, removes=False)
        runs = Runs(database)
        claim = runs.claim(runs.enqueue(self.job.id, "hand") or 0, Holder.me("a test"))
        assert claim is not None
        self.run = RunScope(claim.run_id, claim.generation, self.job.id, account.id, self.job.routes)
        self.ledger = Ledger(database, lambda _: None)
        (known,) = self.ledger.mailboxes.known(self.run, [MAILDROP])
        self.scope: MailboxScope = known.scope
        self.origin = Origin(account.uuid, "road", INBOX, self.scope.epoch)
        self.pull()

    def pull(self) -> None:
        with self.ledger.listing(self.scope) as listing:
            add(listing, [(b"uid%d" % n, len(octets(n))) for n in range(1, 8)])
            listing.record(Totals(7, 0))
            self.keys = [row.key for row in listing.work(BEGIN, 10)]
        bodies = [(key, Body.of(octets(n))) for n, key in enumerate(self.keys, 1) if n != 6]
        stored = [(key, body.octets, body.sha256, body.header_hash) for key, body in bodies]
        home, relay = (route.id for route in self.job.routes)
        self.archive.open()
        (group,) = self.archive.deliver(
            [Message(key, MessageRef(self.origin, Uid(b"uid"), key), body) for key, body in bodies]
        )
        self.archive.close()
        self.ledger.commit(self.run, stored, [(home, outcome) for outcome in group], [])
        one, two, three, four, five, six, seven = self.keys
        self.ledger.commit(self.run, [], [], [(six, MessageRefused("cannot be \x1b[2Jread"))])
        self.ledger.commit(
            self.run, [], [(relay, Outcome(key, Verdict.SENDING)) for key in self.keys if key != six], []
        )
        self.ledger.uncertain.record(self.run, [relay], "no reply", {three})
        self.ledger.uncertain.resolve(self.run, {relay})
        self.ledger.uncertain.record(self.run, [relay], "no reply", {four, seven})
        self.ledger.uncertain.resolve(self.run, ())
        told = [
            Outcome(one, Verdict.REJECTED, reason="550 5.1.1 no such user"),
            Outcome(two, Verdict.DEFERRED, reason="450 greylisted"),
            Outcome(five, Verdict.NOT_SENT, reason="the connection went"),
            Outcome(seven, Verdict.DELIVERED),
        ]
        self.ledger.commit(self.run, [], [(relay, outcome) for outcome in told], [])

    def store(self, key: Key, content: bytes) -> None:
        """The archive has these octets of a message."""
        body = Body.of(content)
        self.ledger.commit(self.run, [(key, body.octets, body.sha256, body.header_hash)], [], [])
        self.archive.open()
        list(self.archive.deliver([Message(key, MessageRef(self.origin, Uid(b"hostile"), 1), body)]))
        self.archive.close()

    def states(self) -> dict[int, str]:
        """Number of the message → state of its delivery to the mail server."""
        found = {row.key: row.delivery for row in self.ledger.problems(self.job.id)}
        return {n: state.name if (state := found.get(key)) is not None else "-" for n, key in enumerate(self.keys, 1)}


@pytest.fixture
def past(loaded: Loaded) -> Iterator[Past]:
    with Database.open(None, loaded.settings.state_directory) as database:
        yield Past(database, loaded)


Shown = Callable[[], list[str]]


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Shown:
    """What was written to standard output since."""

    def lines() -> list[str]:
        return capsys.readouterr().out.splitlines()

    return lines


def test_looking_makes_no_ledger(loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(problems(loaded, None, None)) == []
    assert call(["errors"]) == 0
    assert capsys.readouterr().err == "no message waits\n"
    assert call(["retry", "forward"]) == 0
    assert call(["drop", "--all"]) == 0
    assert call(["retry", "forward", "17"]) == 2
    assert "no message 17 is waiting" in capsys.readouterr().err
    assert not loaded.settings.state_directory.exists()


def test_everything_that_waits_is_shown_with_its_reason(past: Past, shown: Shown) -> None:
    assert call(["errors", "forward"]) == 0
    lines = shown()
    one = past.keys[0]
    assert lines[0] == (
        f"{one}  INBOX, unique-id uid1: road → new (me@example.org): rejected, 1 try, waits for you:"
        " 550 5.1.1 no such user"
    )
    sent = datetime(2026, 3, 2, 9, tzinfo=UTC).astimezone()
    assert lines[1] == f"    Ann <ann@example.net> · grüße 1 · {sent:%Y-%m-%d %H:%M} · {len(octets(1))} B"
    heads = [line for line in lines if not line.startswith(" ")]
    assert "deferred, 1 try, next try " in heads[1]
    assert "held, 1 try, 1 × uncertain, waits for you: no reply" in heads[2]
    assert "uncertain, 1 try, 1 × uncertain, tried by the next run: no reply" in heads[3]
    assert "unsent, 1 try, tried by the next run: the connection went" in heads[4]
    assert "  INBOX, unique-id uid6: road: unfetchable, 1 try, next try " in heads[5]
    assert heads[5].endswith("cannot be \\x1b[2Jread")
    assert "uncertain, 1 × uncertain, delivered, at most 2 copies: no reply" in heads[6]
    assert len(lines) == 13  # no preview of what was never fetched
    assert call(["errors", "idle"]) == 0
    assert shown() == []


def test_as_json(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["errors", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["why"] for row in found] == [*WORDS.values(), "uncertain"]
    assert [row["number"] for row in found] == past.keys
    assert [row["uncertain"] for row in found] == [0, 0, 1, 1, 0, 0, 1]
    first = found[0]
    assert (first["job"], first["destination"], first["target"]) == ("forward", "new", "me@example.org")
    assert first["preview"]["subject"] == "grüße 1"
    assert first["preview"]["date"] == "2026-03-02T09:00:00+00:00"
    assert (found[5]["uid"], found[5]["message"], found[5]["delivery"]) == ("uid6", "unfetchable", None)


@pytest.mark.parametrize(
    "subject",
    [
        b"\x1b[2J\x1b]0;title\x07",
        "\u202egnp.exe \u2066 \u200f \u2028 \x85 \x9b31m".encode(),
        b"=?utf-8?b?G1sySg==?=",
        b"=?utf-8?q?=0d=0aFrom:_you?=",
        b"=?utf-8?q?=ed=a0=80?= =?unknown-8?q?=1b?= =?idna?q?xn--=?=",
        b"\xff\xfe\r\n\tcontinued\x00",
    ],
)
def test_a_hostile_preview_is_harmless_on_a_terminal(past: Past, subject: bytes, capsys: pytest.CaptureFixture[str]):
    hostile = b"From: %b\r\nSubject: %b\r\nDate: 31 Dec 9999 23:59 -1400\r\n\r\n" % (subject, subject)
    past.store(past.keys[0], hostile)
    assert call(["errors"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("    ")
    assert all(line.isprintable() for line in lines)
    assert len(lines) == 13, "seven problems, six previews"
    assert call(["errors", "--json"]) == 0
    assert capsys.readouterr().out.replace("\n", "").isprintable()


def test_an_archive_that_is_away_takes_only_the_previews(past: Past, loaded: Loaded) -> None:
    path = loaded.settings.archives["home"].path
    path.rename(path.with_name("unmounted"))
    assert [each.preview for each in problems(loaded, past.database, "forward")] == [None] * 7


@pytest.mark.parametrize(
    ("selector", "numbers"),
    [
        (Selector(), [1, 2, 3, 4, 5, 6]),
        (Selector(whys=frozenset({Why.HELD, Why.REJECTED})), [1, 3]),
        (Selector(place="new"), [1, 2, 3, 4, 5]),
        (Selector(place="home"), []),
        (Selector(place="Me@example.org"), [1, 2, 3, 4, 5]),
        (Selector(frozenset({1}), frozenset({Why.REJECTED})), [1]),
        (Selector(whys=frozenset({Why.UNFETCHABLE})), [6]),
    ],
)
def test_which_are_meant(past: Past, loaded: Loaded, selector: Selector, numbers: list[int]) -> None:
    found = chosen(loaded, past.database, ["forward"], selector, drop=False)["forward"]
    assert [past.keys.index(row.key) + 1 for row in found] == numbers


def test_retry_all_of_a_job(past: Past, shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    at = Clock(monkeypatch)
    relay = past.job.routes[1].id
    past.ledger.suspensions.put(of_route(relay), Suspension(at.now + timedelta(hours=20), "421"))
    assert call(["retry", "forward"]) == 0
    assert shown() == [
        "forward: new is no longer suspended",
        "forward: 6 messages will be tried again by the next run",
    ]
    assert past.states() == {**dict.fromkeys(range(1, 6), "PENDING"), 6: "-", 7: "DELIVERED"}
    assert past.ledger.suspensions.find([of_route(relay)]) == {}
    assert {row.retry_at is not None for row in past.ledger.problems(past.job.id)} == {True, False}
    assert past.ledger.accounting(past.run).waiting_person == 0


def test_retry_some(past: Past, shown: Shown) -> None:
    assert call(["retry", "forward", str(past.keys[2]), "held"]) == 0
    assert shown() == ["forward: 1 message will be tried again by the next run"]
    assert (past.states()[1], past.states()[3]) == ("REJECTED", "PENDING")
    assert past.states()[2] == "DEFERRED"
    assert call(["retry", "--all", "deferred", "--to", "new", "--json"]) == 0
    assert json.loads(shown()[0])["messages"] == [past.keys[1]]
    assert past.states()[2] == "PENDING"


def test_drop_asks_first(past: Past, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    before = past.states()
    assert call(["drop", "forward"]) == 7
    assert capsys.readouterr().err == (
        "syncd: 6 messages would be given up for good; nothing was changed. To do it, add --yes\n"
    )
    for answer, code in (("\n", 7), ("y\n", 0)):
        monkeypatch.setattr(sys, "stdin", _Terminal(answer))
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        assert past.states() == before
        assert call(["drop", "forward"]) == code
    assert list(past.ledger.problems()) == []
    assert past.ledger.accounting(past.run).final == 7


class _Terminal:
    def __init__(self, answer: str) -> None:
        self._answer = answer

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self._answer


def test_drop_one(past: Past, shown: Shown) -> None:
    assert call(["drop", "forward", str(past.keys[2]), "--yes"]) == 0
    assert shown() == ["forward: 1 message dropped"]
    assert past.states()[3] == "-"
    assert call(["drop", "forward", str(past.keys[6]), "--yes"]) == 0  # only the line goes
    assert past.states()[7] == "-"
    with past.database.read() as connection:
        states = connection.exec_driver_sql(
            f"SELECT state FROM deliveries WHERE message_id = {past.keys[6]} AND route_id = {past.job.routes[1].id}"
        )
        assert states.scalar_one() == DeliveryState.DELIVERED


def test_f34_what_an_archive_cannot_give_back_is_decided_like_the_rest(past: Past, shown: Shown) -> None:
    home = past.job.routes[0].id
    for number in (0, 1):
        past.ledger.archives.mark_damaged(past.run, past.keys[number], home, "offset 7 is not what was stored")
    assert call(["errors", "forward"]) == 0
    told = [line for line in shown() if "damaged" in line]
    assert [line.split("  ")[0] for line in told] == [str(past.keys[0]), str(past.keys[1])]
    assert told[0].endswith(
        "INBOX, unique-id uid1: road → home: damaged, 1 try, waits for you: offset 7 is not what was stored"
    )
    assert call(["retry", "forward", "damaged", str(past.keys[0])]) == 0
    assert call(["drop", "forward", "damaged", "--yes"]) == 0
    assert shown() == ["forward: 1 message will be tried again by the next run", "forward: 1 message dropped"]
    assert all(row.destination != "home" for row in past.ledger.problems())
    assert past.keys[0] in past.ledger.archives.having(past.keys)
    assert past.keys[1] not in past.ledger.archives.having(past.keys)


def test_not_while_the_job_runs(past: Past, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    with LeaseSet.acquire(past.database, [job_resource(past.job.id)], 'run of job "forward"'):
        assert call(["retry", "forward"]) == 10
        assert f"process {os.getpid()} " in capsys.readouterr().err
        with pytest.raises(LeaseHeld):
            LeaseSet.acquire(past.database, [job_resource(past.job.id)], "a test")
    assert call(["retry", "forward"]) == 0


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["1", "3", "held"],
            "a number selects nothing: message 1 is rejected. Nothing was changed; `syncd errors` lists",
        ),
        (["7"], "a number selects nothing: message 7 is delivered. Nothing was changed; "),
        (
            ["6", "--to", "new"],
            "a number selects nothing: message 6 is unfetchable. Nothing was changed; `syncd errors`",
        ),
        (
            ["2", "99", "100"],
            "a number selects nothing: no message 99 is waiting, no message 100 is waiting. Nothing was",
        ),
        (["99999999999999999999999"], "no number or word '99999999999999999999999'; known: "),
    ],
)
def test_a_number_that_selects_nothing_is_a_mistake(
    past: Past, words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = past.states()
    numbers = [str(past.keys[int(word) - 1]) if word in {*"1234567"} else word for word in words]
    assert numbers == words, "the numbers of a new ledger"
    for job in ("forward", "--all"):
        assert call(["retry", job, *words]) == 2
        assert capsys.readouterr().err.startswith(f"syncd: {line}")
    assert past.states() == before


def test_what_a_run_changes_between_the_choice_and_the_decision_is_not_touched(
    past: Past, loaded: Loaded, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was sent again, or given up, although what was chosen is not what it waits for any more."""
    found = chosen(loaded, past.database, ["forward"], Selector(), drop=True)["forward"]
    one, two, three, four, five, six, seven = past.keys
    relay = past.job.routes[1].id
    past.ledger.commit(
        past.run,
        [],
        [(relay, Outcome(two, Verdict.REJECTED, reason="554 no")), (relay, Outcome(five, Verdict.SENDING))],
        [],
    )
    past.ledger.commit(past.run, [], [(relay, Outcome(five, Verdict.DELIVERED))], [])
    body = Body.of(octets(6))
    past.ledger.commit(past.run, [(six, body.octets, body.sha256, body.header_hash)], [], [])
    past.ledger.decisions.retry([(three, relay)])
    assert drop(past.settings, past.database, "forward", found) == [one, four, seven]
    assert past.states() == {1: "-", 2: "REJECTED", 3: "PENDING", 4: "-", 5: "-", 6: "-", 7: "-"}
    assert past.ledger.accounting(past.run).undelivered == 0
    with past.database.read() as connection:
        of_six = "SELECT count(*) FROM deliveries WHERE message_id = %d AND state = %d"
        assert connection.exec_driver_sql(of_six % (six, DeliveryState.DROPPED)).scalar_one() == 0
    call(["retry", "forward", str(three)])
    assert capsys.readouterr().out == "forward: 1 message will be tried again by the next run\n"


def test_two_who_decide_at_once_do_it_once(past: Past, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    found = chosen(loaded, past.database, ["forward"], Selector(), drop=True)
    assert call(["drop", "forward", "--yes"]) == 0
    assert drop(past.settings, past.database, "forward", found["forward"]) == []


def test_errors_shows_what_is_meant(past: Past, shown: Shown) -> None:
    def numbers(*words: str) -> list[str]:
        assert call(["errors", *words]) == 0
        return [line.split()[0] for line in shown() if not line.startswith(" ")]

    assert numbers("forward", "held", "rejected") == numbers("held", "rejected") == ["1", "3"]
    assert numbers("forward", "3", "4", "held") == ["3"]
    assert numbers("--to", "me@example.org", "deferred") == ["2"]
    assert numbers("--to", "home") == []
    assert call(["errors", "forwrad"]) == call(["errors", "rejectd"]) == call(["errors", "--to", "HOME"]) == 2


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["forward", "kept"], "syncd: kept messages are decided for a whole job: after a look at them, syncd run JOB"),
        (["forward", "--to", "HOME"], "syncd: no destination or recipient 'HOME'; "),
        ([], "syncd: name a job, or add --all (syncd retry --help)"),
        (["forwrad"], "syncd: no job 'forwrad'; did you mean forward?"),
        (["forward", "refused"], "syncd: no number or word 'refused'; "),
        (["forward", "--to", "nwe"], "syncd: no destination or recipient 'nwe'; did you mean new?"),
    ],
)
def test_what_cannot_be_meant(words: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["retry", *words]) == 2
    assert capsys.readouterr().err.startswith(line)


# --- why a message waits: a table ---

D, K = DeliveryState, ProblemKind


@pytest.mark.parametrize(
    ("kind", "delivery", "uncertain", "why", "done"),
    [
        (K.FETCH, None, 0, Why.UNFETCHABLE, False),
        (K.KEPT, None, 0, Why.KEPT, False),
        (K.DELIVERY, D.DEFERRED, 0, Why.DEFERRED, False),
        (K.DELIVERY, D.REJECTED, 0, Why.REJECTED, False),
        (K.LOOP, D.REJECTED, 0, Why.LOOP, False),
        (K.LOOP, D.PENDING, 0, Why.UNSENT, False),  # a person insists on it
        (K.DAMAGED, D.DELIVERED, 0, Why.DAMAGED, False),
        (K.DAMAGED, D.DELIVERED, 1, Why.DAMAGED, False),
        (K.DELIVERY, D.HELD, 1, Why.HELD, False),
        (K.DELIVERY, D.UNCERTAIN, 1, Why.UNCERTAIN, False),
        (K.DELIVERY, D.PENDING, 1, Why.UNCERTAIN, False),
        (K.DELIVERY, D.PENDING, 0, Why.UNSENT, False),
        (None, D.SENDING, 0, Why.UNCERTAIN, False),
        (None, D.PENDING, 2, Why.UNCERTAIN, False),
        (None, D.DELIVERED, 2, Why.UNCERTAIN, True),
    ],
)
def test_why_a_message_waits_follows_from_kind_and_state(
    kind: ProblemKind | None, delivery: DeliveryState | None, uncertain: int, why: Why, *, done: bool
) -> None:
    row = ProblemRow(
        Key(1), 1, kind, "road", INBOX, INBOX_PATH, Uid(b"u"), 1, "job", "new", "", MessageState.FETCHED, delivery,
        "any text at all", 1, START, START, None, uncertain, 10, None,
        "pop3",
    )  # fmt: skip
    assert (why_of(row), is_done(row)) == (why, done)
