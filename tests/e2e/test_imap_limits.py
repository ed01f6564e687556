"""Limits of IMAP accounts: octets of a day, quotas and sizes; scripted peers, then Dovecot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.engine.context import Slice
from syncd.engine.exit_codes import ExitCode
from tests.e2e.test_imap_migration import MULTI, Bench, between, mail, octets
from tests.fakes.imap import FakeImap

Peers = tuple[FakeImap, FakeImap]
SIZE = len(mail(1))


@pytest.fixture
def peers() -> Iterator[Peers]:
    with FakeImap() as old, FakeImap() as new:
        new.inside = MULTI
        yield old, new
        assert not new.violations


def limit(bench: Bench, account: str, octets: str) -> None:
    file = bench.directory / "syncd.toml"
    lines = [line for line in file.read_text().splitlines() if not line.startswith("octets_per_day")]
    lines.insert(lines.index(f"[accounts.{account}]") + 1, f"octets_per_day = {octets}" if octets else "")
    file.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(("account", "direction"), [("old", "down"), ("new", "up")])
def test_a_day_has_so_many_octets(tmp_path: Path, peers: Peers, account: str, direction: str) -> None:
    old, new = peers
    old.box("INBOX").add(*map(mail, range(5)))
    old.box("Sent").add(*map(mail, range(5)))
    bench = between(tmp_path, peers)
    limit(bench, account, f"{{ {direction} = {3 * SIZE} }}")
    report = bench.run()
    assert report.exit_code is ExitCode.TEMPORARY
    assert any(f"octets_per_day.{direction}" in line for line in report.errors)
    assert octets(new.box("INBOX").mail) == [mail(number) for number in range(3)]
    assert not report.uncertain
    before = len(new.box("INBOX").mail), new.commands.count("APPEND")
    assert bench.run().exit_code is ExitCode.TEMPORARY
    assert (len(new.box("INBOX").mail), new.commands.count("APPEND")) == before
    limit(bench, account, f"{{ {direction} = {7 * SIZE} }}")
    assert bench.run().exit_code is ExitCode.TEMPORARY
    assert len(new.box("INBOX").mail) + len(new.box("Sent").mail) == 7
    limit(bench, account, "")
    assert bench.run().exit_code is ExitCode.DONE
    assert octets(new.box("Sent").mail) == octets(old.box("Sent").mail)


@pytest.mark.parametrize(("account", "direction"), [("old", "down"), ("new", "up")])
def test_a_worker_goes_on_when_the_day_allows(tmp_path: Path, peers: Peers, account: str, direction: str) -> None:
    old, new = peers
    old.box("INBOX").add(*map(mail, range(5)))
    bench = between(tmp_path, peers)
    limit(bench, account, f"{{ {direction} = {3 * SIZE} }}")
    report = bench.run(slice=Slice.lasting(600))
    assert (report.exit_code, report.more, report.errors) == (ExitCode.DONE, True, [])
    assert report.not_before is not None
    assert len(new.box("INBOX").mail) == 3
