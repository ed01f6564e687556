"""Processes that are started with something missing: standard streams, a home, a working directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from syncd.cli import process

REPORT = (
    "import os, sys; from syncd.cli.process import open_streams; open_streams();"
    "new = os.open('file', os.O_WRONLY | os.O_CREAT);"
    "print('out'); print('err', file=sys.stderr); sys.stdout.flush(); sys.stderr.flush();"
    "os.write(new, repr((new > 2, sys.stdin.read(), sys.stdin.isatty())).encode())"
)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_never_become_a_file_of_ours(tmp_path: Path, closed: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f'exec "{sys.executable}" -c "{REPORT}" {closed}'],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (tmp_path / "file").read_text() == repr((True, "", False))
    assert done.stdout == ("" if " >&-" in f" {closed}" else "out\n")
    assert done.stderr == ("" if "2>&-" in closed else "err\n")


@pytest.mark.parametrize(("home", "kept"), [("/home/me", True), ("", False), ("me", False)])
def test_a_home_that_is_no_whole_path_does_not_count(monkeypatch: pytest.MonkeyPatch, home: str, *, kept: bool) -> None:
    monkeypatch.setenv("HOME", home)
    process.forget_bad_home()
    assert ("HOME" in os.environ) is kept
    monkeypatch.delenv("HOME", raising=False)
    process.forget_bad_home()
