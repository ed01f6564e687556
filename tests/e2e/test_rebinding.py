"""An account whose server or user is spelled anew: what --rebind believes, and when. Against a scripted server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from syncd.db.catalog import Catalog
from syncd.db.rows import AccountRow
from syncd.engine.events import RunReport
from syncd.engine.exit_codes import ExitCode
from syncd.errors import TransportError
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from syncd.services.wiring import open_ledger
from syncd.settings.load import Loaded, load
from syncd.sources.pop3.account import Pop3Source
from tests.fakes.pop3 import PASSWORD, USERNAME, FakePop3
from tests.support import mail

OLD, NEW = "127.0.0.1", "localhost"  # two names of one server


class Bench:
    """One account in one archive."""

    def __init__(self, directory: Path, server: FakePop3) -> None:
        self.directory = directory
        self.server = server

    def loaded(self, host: str, password: str = PASSWORD, port: int = 0, state: str = "state") -> Loaded:
        config = self.directory / "syncd.toml"
        config.write_text(
            f'state_directory = "{state}"\n[archives]\nhome = {{ path = "home" }}\n'
            f'[accounts.road]\nprotocol = "pop3"\nhost = "{host}"\nport = {port or self.server.port}\n'
            f'security = "none"\nallow_insecure = true\nusername = "{USERNAME}"\npassword = "env:PASSWORD"\n'
            f'[jobs.backup]\nsource = "road"\ndestinations = ["home"]\n'
        )
        return load(config, environment={"PASSWORD": password})

    def run(self, loaded: Loaded, **options: Any) -> RunReport:
        [report] = RunsByHand(loaded, [], RunOptions(**options), lambda _: None).execute()
        return report

    def account(self, loaded: Loaded) -> AccountRow | None:
        with open_ledger(loaded) as database:
            return Catalog(database).find_account("road")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with FakePop3(list(mail.small(3, seed=1))) as server:
        yield Bench(tmp_path, server)


def test_p07_the_same_mailbox_under_another_name_of_its_server(bench: Bench) -> None:
    assert bench.run(bench.loaded(OLD)).fetched == 3
    assert bench.run(bench.loaded(NEW)).exit_code is ExitCode.STOPPED
    report = bench.run(bench.loaded(NEW), rebind=True)
    assert (report.exit_code, report.fetched, report.unchanged) == (ExitCode.DONE, 0, True), report.errors
    report = bench.run(bench.loaded(NEW))
    assert (report.exit_code, report.unchanged) == (ExitCode.DONE, True)


@pytest.mark.parametrize(
    ("password", "port", "code"), [("wrong", 0, ExitCode.SIGN_IN_REFUSED), (PASSWORD, 1, ExitCode.TEMPORARY)]
)
def test_what_cannot_be_signed_in_to_takes_nobodys_place(
    bench: Bench, password: str, port: int, code: ExitCode
) -> None:
    bench.run(bench.loaded(OLD))
    before = bench.account(bench.loaded(OLD))
    assert bench.run(bench.loaded(NEW, password, port), rebind=True).exit_code is code
    assert bench.account(bench.loaded(OLD)) == before
    assert bench.run(bench.loaded(OLD)).exit_code is ExitCode.DONE


def test_another_port_of_the_same_host_is_another_server(bench: Bench) -> None:
    """Tunnels and containers: ids that count are the same at both, and their mail is not."""
    bench.run(bench.loaded(OLD))
    with FakePop3(list(mail.small(3, seed=2))) as other:
        report = bench.run(bench.loaded(OLD, port=other.port))
        assert report.exit_code is ExitCode.STOPPED
        assert f"pop3 {OLD}:{other.port} {USERNAME}" in report.errors[0]
    assert bench.run(bench.loaded(OLD)).exit_code is ExitCode.DONE


def test_a_new_laptop_is_told_the_old_name_once_even_if_nobody_answers_there(bench: Bench) -> None:
    bench.run(bench.loaded(OLD))
    bench.run(bench.loaded(NEW), rebind=True)
    with patch.object(Pop3Source, "connect", side_effect=TransportError("nobody answers")):
        assert bench.run(bench.loaded(OLD, state="laptop")).exit_code is ExitCode.TEMPORARY
    report = bench.run(bench.loaded(NEW, state="laptop"), rebind=True)
    assert (report.exit_code, report.listed, report.fetched) == (ExitCode.DONE, 3, 0), report.errors


def test_a_new_laptop_does_not_guess_from_the_accounts_name(bench: Bench) -> None:
    """Another mailbox may have been given the name of an old one: with the same unique-ids it would not be fetched."""
    bench.run(bench.loaded(OLD))
    bench.server.messages = list(mail.small(3, seed=2))
    assert bench.run(bench.loaded(NEW, state="laptop")).fetched == 3


def test_without_a_change_it_costs_no_sign_in(bench: Bench) -> None:
    bench.run(bench.loaded(OLD))
    bench.run(bench.loaded(OLD), rebind=True)
    assert bench.server.connections == 2


def test_it_ends_when_it_is_cancelled(bench: Bench) -> None:
    bench.run(bench.loaded(OLD))
    bench.server.commands.clear()
    bench.server.hangs_on = {"CAPA"}
    reports: list[RunReport] = []
    runner = RunsByHand(bench.loaded(NEW), [], RunOptions(rebind=True), lambda _: None)
    thread = threading.Thread(target=lambda: reports.extend(runner.execute()))
    thread.start()
    while not bench.server.commands:
        time.sleep(0.001)
    runner.cancel()
    thread.join(5)
    assert [report.exit_code for report in reports] == [ExitCode.INTERRUPTED]
