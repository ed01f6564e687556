"""A mailbox stays what it became at the destination, whatever special uses are given to others there later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.cli.main import call
from syncd.engine.events import PlannedPlace
from syncd.engine.exit_codes import ExitCode
from syncd.engine.mapping import Why
from tests.e2e.test_imap_migration import MULTI, Bench, between, mail, octets
from tests.fakes.imap import GMAIL, PASSWORD, FakeImap


@pytest.fixture
def old() -> Iterator[FakeImap]:
    with FakeImap() as server:
        yield server


@pytest.fixture
def new() -> Iterator[FakeImap]:
    with FakeImap() as server:
        server.inside = MULTI
        yield server


@pytest.fixture
def bench(tmp_path: Path, old: FakeImap, new: FakeImap, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A job whose first run made "Gesendet", as the destination had no mailbox for what was sent; then it got one."""
    monkeypatch.setenv("PASSWORD", PASSWORD)
    old.box("Gesendet", attributes=[b"\\Sent"]).add(mail(1))
    bench = between(tmp_path, (old, new))
    assert bench.run().exit_code is ExitCode.DONE
    new.box("Sent", attributes=[b"\\Sent"])
    return bench


def place(bench: Bench) -> PlannedPlace:
    """Returns where the mail of "Gesendet" would go, as a dry run says."""
    [found] = [plan.places for plan in bench.run(dry_run=True).mapping if plan.path == ("Gesendet",)]
    return found[0]


def test_new_mail_follows_the_mail_before_it(bench: Bench, old: FakeImap, new: FakeImap) -> None:
    old.box("Gesendet").add(mail(2))
    assert (place(bench).path, place(bench).why) == (("Gesendet",), Why.BEFORE)
    assert bench.run().exit_code is ExitCode.DONE
    assert octets(new.box("Gesendet").mail) == [mail(1), mail(2)]
    assert octets(new.box("Sent").mail) == []
    assert call(["--config", str(bench.directory / "syncd.toml"), "verify", "move"]) == 0


def test_a_mailbox_that_is_gone_is_decided_again(bench: Bench, old: FakeImap, new: FakeImap) -> None:
    """Its user joined both, as people do after a migration."""
    new.box("Sent").add(*octets(new.boxes.pop(b"Gesendet").mail))
    old.box("Gesendet").add(mail(2))
    assert (place(bench).path, place(bench).why) == (("Sent",), Why.USE)
    assert bench.run().exit_code is ExitCode.DONE
    assert b"Gesendet" not in new.boxes
    assert octets(new.box("Sent").mail) == [mail(1), mail(2)]


def test_a_map_says_otherwise(bench: Bench, old: FakeImap, new: FakeImap) -> None:
    old.box("Gesendet").add(mail(2))
    mapped = between(bench.directory, (old, new), map='{ "Gesendet" = "Sent" }')
    assert (place(mapped).path, place(mapped).why) == (("Sent",), Why.MAP)
    assert mapped.run().exit_code is ExitCode.DONE
    assert octets(new.box("Sent").mail) == [mail(2)]


def test_the_use_goes_to_another_mailbox_of_the_source(
    tmp_path: Path, old: FakeImap, new: FakeImap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both would have become one mailbox: nothing was copied from them until somebody wrote a map."""
    monkeypatch.setenv("PASSWORD", PASSWORD)
    old.box("Gesendet", attributes=[b"\\Sent"]).add(mail(1))
    new.box("Sent", attributes=[b"\\Sent"])
    bench = between(tmp_path, (old, new))
    assert bench.run().exit_code is ExitCode.DONE
    old.box("Gesendet").attributes.clear()
    old.box("Sent Items", attributes=[b"\\Sent"]).add(mail(2))
    old.box("Gesendet").add(mail(3))
    assert place(bench).path == ("Gesendet",)
    assert bench.run().exit_code is ExitCode.DONE
    assert octets(new.box("Sent").mail) == [mail(1), mail(2)]
    assert octets(new.box("Gesendet").mail) == [mail(3)]
    assert call(["--config", str(tmp_path / "syncd.toml"), "verify", "move"]) == 0


def test_a_dry_run_tells_what_a_mailbox_became_while_the_destination_is_away(
    tmp_path: Path, old: FakeImap, new: FakeImap
) -> None:
    old.box("Gesendet", attributes=[b"\\Sent"]).add(mail(1))
    new.box("Sent", attributes=[b"\\Sent"])
    bench = between(tmp_path, (old, new))
    assert bench.run().exit_code is ExitCode.DONE
    new.greeting = b"* BYE not now\r\n"
    assert (place(bench).path, place(bench).why) == (("Sent",), Why.BEFORE)


def test_an_empty_mailbox_is_proven_where_it_was_made(bench: Bench, old: FakeImap, new: FakeImap) -> None:
    """With another prefix no run made it again, and the proof said for good that somebody had removed it."""
    prefixed = between(bench.directory, (old, new), prefix='"Alt"')
    old.box("Gesendet").add(mail(2))
    assert prefixed.run().exit_code is ExitCode.DONE
    assert octets(new.box("Alt/Gesendet").mail) == [mail(2)]
    assert b"Alt/INBOX" not in new.boxes
    assert call(["--config", str(bench.directory / "syncd.toml"), "verify", "move"]) == 0


def test_labels_find_special_uses_and_stay_with_them(tmp_path: Path, old: FakeImap, new: FakeImap) -> None:
    old.inside = GMAIL
    everything = old.box("[Gmail]/All Mail", attributes=[b"\\All"])
    everything.add(mail(1), mail(2))
    everything.mail[0].labels = [b"\\Sent"]
    new.box("Gesendet", attributes=[b"\\Sent"])
    bench = between(tmp_path, (old, new))
    assert bench.run().exit_code is ExitCode.DONE
    assert octets(new.box("Gesendet").mail) == [mail(1)]
    assert octets(new.box("Archive").mail) == [mail(2)]
    new.box("Gesendet").attributes.clear()
    new.box("Sent", attributes=[b"\\Sent"])
    new.box("Ablage", attributes=[b"\\Archive"])
    everything.add(mail(3), mail(4))
    everything.mail[2].labels = [b"\\Sent"]
    assert bench.run().exit_code is ExitCode.DONE
    assert octets(new.box("Gesendet").mail) == [mail(1), mail(3)]
    assert octets(new.box("Archive").mail) == [mail(2), mail(4)]
