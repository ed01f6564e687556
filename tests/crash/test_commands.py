"""SIGKILL around durable steps of `apply`, `archive reindex` and `archive export`: the second try is as good."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from syncd.durable import Moment, Step
from tests.crash.child import Point
from tests.crash.program import Ended, Program
from tests.crash.scenarios import two_of
from tests.crash.site import Digests, digests, maildir_files
from tests.crash.test_staged import Site

pytestmark = pytest.mark.crash

State = dict[str, list[tuple[object, ...]]]
MOMENTS: tuple[Moment, ...] = ("before", "after")
JOBS = """
[jobs.onwards]
source = "packs"
destinations = ["mails"]
schedule = "every 2 hours"
[jobs.nightly]
source = "packs"
destinations = ["mails"]
schedule = "30 3 * * *"
"""
APPLIED = {
    "jobs": "SELECT name, enabled, configuration FROM jobs ORDER BY name",
    "definitions": "SELECT name, schedule, next_due > 0 FROM definitions JOIN jobs ON id = job_id ORDER BY name",
    "documents": "SELECT count(*) FROM documents",
    "names": "SELECT configuration, kind, name FROM names ORDER BY kind, name",
}
INDEXED = {
    "messages": "SELECT hex(key), octets, sender, subject FROM messages ORDER BY key",
    "places": "SELECT hex(key), path FROM places p JOIN messages m ON m.id = p.message"
    " JOIN mailboxes b ON b.id = p.mailbox ORDER BY key, path",
}


def command(site: Site, *arguments: str, point: Point | None = None) -> Ended:
    whole = [*arguments, "--config", str(site.home / "syncd.toml"), "--quiet"]
    return Program(whole, site.home / "output", point=point).wait()


def rows(file: Path, queries: dict[str, str]) -> State:
    with closing(sqlite3.connect(file)) as connection:
        return {name: connection.execute(query).fetchall() for name, query in queries.items()}


def kill_at(tmp_path: Path, arguments: tuple[str, ...], step: Step, state: Callable[[Site], State]) -> None:
    """Kill it at some occurrences of a step, each in a place of its own; the second try ends as if nothing happened."""

    def made(name: str) -> Site:
        site = Site(tmp_path / name)
        file = site.home / "syncd.toml"
        file.write_text(f'name = "here"\n{file.read_text().split("[jobs.")[0]}{JOBS}')
        return site

    whole = made("whole")
    counted = command(whole, *arguments)
    assert counted.code == 0, counted.stderr
    expected = state(whole)
    assert all(expected.values())
    for moment in MOMENTS:
        for occurrence in two_of(counted.steps[step, moment], moment):
            site = made(f"{moment}-{occurrence}")
            ended = command(site, *arguments, point=Point(step, moment, occurrence))
            assert ended.code == -signal.SIGKILL, ended.stderr
            again = command(site, *arguments)
            assert again.code == 0, again.stderr
            assert state(site) == expected, f"killed {moment} occurrence {occurrence} of {step.value}"


def test_apply(tmp_path: Path) -> None:
    def applied(site: Site) -> State:
        return rows(site.home / "state" / "ledger.sqlite", APPLIED)

    kill_at(tmp_path, ("apply",), Step.LEDGER_COMMIT, applied)


def test_reindex(tmp_path: Path) -> None:
    def indexed(site: Site) -> State:
        [file] = [it for it in (site.home / "packs").iterdir() if "search" in it.name and it.suffix == ".sqlite"]
        return rows(file, INDEXED)

    kill_at(tmp_path, ("archive", "reindex", "packs"), Step.SEARCH_COMMIT, indexed)


def test_export(tmp_path: Path) -> None:
    """What an export has left is not added to; the archive is as it was, and gives all of it to another folder."""
    site = Site(tmp_path / "site")
    first, torn, whole = (tmp_path / name for name in ("first", "torn", "whole"))
    assert command(site, *exporting(first)).code == 0
    point = Point(Step.MAILDIR_LINK, "after", 20)
    assert command(site, *exporting(torn), point=point).code == -signal.SIGKILL
    left = sorted(torn.rglob("*"))
    again = command(site, *exporting(torn))
    assert (again.code, sorted(torn.rglob("*"))) == (2, left)
    assert "not an empty folder" in again.stderr
    assert command(site, *exporting(whole)).code == 0
    assert exported(whole) == exported(first)
    assert exported(first).total() == site.expected.total()
    assert site.fingerprint() == site.packs


def exported(path: Path) -> Digests:
    return sum((digests(maildir_files(account)) for account in path.iterdir()), digests([]))


def exporting(path: Path) -> tuple[str, ...]:
    return "archive", "export", "packs", str(path), "--format", "maildir"
