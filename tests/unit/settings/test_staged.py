"""Jobs that read archives: what they must not say, and which comes after which."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncd.settings.load import load
from syncd.settings.staged import stages
from tests.unit.settings.test_checks import mistakes


def job(name: str, source: str, *destinations: str, more: str = "") -> str:
    return f"[jobs.{name}]\nsource = {source!r}\ndestinations = {list(destinations)!r}\n{more}\n"


def test_an_archive_may_be_a_source(tmp_path: Path) -> None:
    assert mistakes(tmp_path, job("a", "road", "home") + job("b", "home", "second")) == []


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ("leave_on_server = false", 'leave_on_server: "home" is an archive'),
        ('leave_on_server = "30 days"', 'leave_on_server: "home" is an archive'),
        ('mode = "move"', 'mode: "home" is an archive'),
    ],
)
def test_nothing_is_removed_from_an_archive(tmp_path: Path, more: str, key: str) -> None:
    [found] = mistakes(tmp_path, job("a", "home", "second", more=more))
    assert found.startswith(f"jobs.a.{key}, from which nothing is ever removed; accepted: ")


def test_a_job_does_not_write_to_the_archive_that_it_reads(tmp_path: Path) -> None:
    [found] = mistakes(tmp_path, job("a", "home", "second", "home"))
    assert found.startswith('jobs.a.destinations[1]: "home" is the source of this job; a job cannot write to')


def test_mail_that_would_go_round_in_a_circle(tmp_path: Path) -> None:
    third = '[archives.third]\npath = "third"\n'
    jobs = job("a", "home", "second") + job("b", "second", "third") + job("c", "third", "home")
    first, second, last = mistakes(tmp_path, third + jobs)
    circle = "in which mail would be copied without end"
    assert first == f"jobs.a.destinations[0]: the jobs form a circle, home → second → third → home, {circle}"
    assert second == f"jobs.b.destinations[0]: the jobs form a circle, second → third → home → second, {circle}"
    assert last == f"jobs.c.destinations[0]: the jobs form a circle, third → home → second → third, {circle}"


def test_two_ways_to_one_archive_are_no_circle(tmp_path: Path) -> None:
    third = '[archives.third]\npath = "third"\n'
    jobs = job("a", "home", "second", "third") + job("b", "second", "third")
    assert mistakes(tmp_path, third + jobs) == []


def test_who_reads_comes_after_who_fills(tmp_path: Path) -> None:
    third = '[archives.third]\npath = "third"\n'
    jobs = job("last", "third", "second") + job("next", "home", "third") + job("a", "road", "home")
    assert mistakes(tmp_path, third + jobs + job("b", "road", "third")) == []
    configured = load(tmp_path / "syncd.toml", environment={}).settings.jobs
    assert stages(configured, ["last", "next", "a", "b"]) == [["a", "b"], ["next"], ["last"]]
    assert stages(configured, ["last", "next"]) == [["next"], ["last"]]
    assert stages(configured, ["last", "b"]) == [["b"], ["last"]]
    assert stages(configured, ["last"]) == [["last"]]
    assert stages(configured, []) == []
