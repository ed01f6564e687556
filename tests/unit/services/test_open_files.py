from __future__ import annotations

import resource
from pathlib import Path

import pytest

from syncd.engine.budget import SESSIONS
from syncd.errors import UsageError
from syncd.services.open_files import FOR_JOB, allow_open_files, files_needed
from syncd.settings.load import Loaded, load

JOBS = 30


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    """Thirty jobs into one archive, and one of them to a mail server too."""
    text = '[archives.home]\npath = "home"\n[accounts.new]\nprotocol = "smtp"\nhost = "h"\nconnections = 4\n'
    for number in range(JOBS):
        to = '"home", { to = "new", recipient = "me@example.org", sender = "empty" }' if number == 0 else '"home"'
        text += (
            f'[accounts.a{number}]\nprotocol = "pop3"\nhost = "h"\nusername = "u{number}"\npassword = "env:P"\n'
            f'[jobs.j{number}]\nsource = "a{number}"\ndestinations = [{to}]\n'
        )
    (tmp_path / "syncd.toml").write_text(text)
    return load(tmp_path / "syncd.toml", environment={})


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The limits (soft, hard) that are set; the last ones are in force."""
    in_force = [(1024, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: in_force[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, both: in_force.append(both))
    return in_force


def test_enough_is_left_as_it_is(loaded: Loaded, limits: list[tuple[int, int]]) -> None:
    for soft in (1024, resource.RLIM_INFINITY):
        limits[:] = [(soft, 4096)]
        allow_open_files(loaded, list(loaded.settings.jobs), 64)
        assert limits == [(soft, 4096)]


@pytest.mark.parametrize("hard", [4096, resource.RLIM_INFINITY])
def test_the_soft_limit_is_raised_as_far_as_it_must(loaded: Loaded, limits: list[tuple[int, int]], hard: int) -> None:
    limits[:] = [(64, hard)]
    jobs = list(loaded.settings.jobs)
    allow_open_files(loaded, jobs, 64)
    assert limits[-1] == (files_needed(loaded.settings, jobs, JOBS), hard)


def test_too_few_are_told_before_anything_begins(loaded: Loaded, limits: list[tuple[int, int]]) -> None:
    limits[:] = [(64, 128)]
    jobs = list(loaded.settings.jobs)
    with pytest.raises(UsageError) as caught:
        allow_open_files(loaded, jobs, 64)
    assert str(caught.value) == (
        "30 jobs at a time need up to 384 open files, and 128 are allowed: allow more before (ulimit -n 384), "
        "or use --parallel 8; nothing was begun"
    )
    allow_open_files(loaded, jobs, 8)
    assert limits[-1] == (120, 128)


def test_too_few_for_one_job(loaded: Loaded, limits: list[tuple[int, int]]) -> None:
    limits[:] = [(16, 16)]
    with pytest.raises(UsageError, match=r"^one job needs up to 32 open files, and 16 are allowed: [^,]*; nothing was"):
        allow_open_files(loaded, ["j1"], 64)


def test_more_sessions_with_a_source_need_more_files(tmp_path: Path) -> None:
    text = '[archives]\nhome = { path = "home" }\nkept = { path = "kept" }\n'
    for number in (1, 4):
        text += (
            f'[accounts.a{number}]\nprotocol = "imap"\nhost = "h"\nusername = "u"\npassword = "env:P"\n'
            f'connections = {number}\n[jobs.j{number}]\nsource = "a{number}"\ndestinations = ["home"]\n'
            f'[jobs.back{number}]\nsource = "kept"\ndestinations = ["a{number}"]\n'
        )
    (tmp_path / "syncd.toml").write_text(text)
    settings = load(tmp_path / "syncd.toml", environment={}).settings
    assert files_needed(settings, ["j4"], 1) == files_needed(settings, ["j1"], 1) + 3 * FOR_JOB
    assert files_needed(settings, ["back4"], 1) == files_needed(settings, ["back1"], 1) + 3 * FOR_JOB + 3
    assert files_needed(settings, ["j4"], 64) == files_needed(settings, ["j1"], 64) + SESSIONS * FOR_JOB
