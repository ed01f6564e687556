"""SIGKILL around durable steps of `apply`, `archive reindex` and `archive export`: the second try is as good."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from syncd.durable import Moment, Step
from syncd.services.export_place import UNFINISHED
from tests.crash.child import Point
from tests.crash.program import Ended, Program
from tests.crash.scenarios import one_of
from tests.crash.site import digests, maildir_files
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
        occurrence = one_of(counted.steps[step, moment], moment)
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


@pytest.mark.parametrize("form", ["mbox", "maildir", "eml"])
def test_export(tmp_path: Path, form: str) -> None:
    """The second try removes what the first has left, and is as good as an export that nothing stopped."""
    site = Site(tmp_path / "site")
    whole = command(site, *exporting(tmp_path / "whole", form))
    assert whole.code == 0
    expected = exported(tmp_path / "whole")
    written = Step.MAILDIR_LINK if form == "maildir" else Step.EXPORT_SYNC
    moments = [(written, "after"), *((Step.EXPORT_MOVE, moment) for moment in MOMENTS), (Step.EXPORT_DONE, "before")]
    for step, moment in moments:
        occurrence = one_of(whole.steps[step, moment], moment)
        path = tmp_path / f"{step.value}-{moment}-{occurrence}"
        ended = command(site, *exporting(path, form), point=Point(step, moment, occurrence))
        assert ended.code == -signal.SIGKILL, ended.stderr
        assert (path / UNFINISHED).is_dir()
        again = command(site, *exporting(path, form))
        assert again.code == 0, again.stderr
        assert exported(path) == expected
    if form == "maildir":
        accounts = [maildir_files(account) for account in (tmp_path / "whole").iterdir()]
        assert sum(map(digests, accounts), digests([])).total() == site.expected.total()
    assert site.fingerprint() == site.packs


def test_an_export_that_was_complete_is_not_removed(tmp_path: Path) -> None:
    site, path = Site(tmp_path / "site"), tmp_path / "out"
    assert command(site, *exporting(tmp_path / "whole", "eml")).code == 0
    ended = command(site, *exporting(path, "eml"), point=Point(Step.EXPORT_DONE, "after", 1))
    assert ended.code == -signal.SIGKILL, ended.stderr
    again = command(site, *exporting(path, "eml"))
    assert again.code == 2
    assert "not an empty folder" in again.stderr
    assert exported(path) == exported(tmp_path / "whole")


def exported(path: Path) -> dict[str, bytes]:
    """The files of an export by name, but for those in which each Maildir is another archive."""
    own = {".syncd-archive.json", ".syncd-lock"}
    files = (each for each in path.rglob("*") if each.is_file() and each.name not in own)
    return {str(each.relative_to(path)): each.read_bytes() for each in files}


def exporting(path: Path, form: str) -> tuple[str, ...]:
    return "archive", "export", "packs", str(path), "--format", form
