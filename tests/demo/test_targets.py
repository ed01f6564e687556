"""The targets of the Makefile and a syncd.toml in the checkout, which belongs to whoever put it there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.demo import __main__ as demo

ROOT = Path(__file__).parents[2]
MINE = "this is mine, and no configuration\n"


def recipe(target: str) -> str:
    text = (ROOT / "Makefile").read_text()
    match = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", text, re.MULTILINE)
    assert match is not None
    return match[1]


def test_run_takes_only_a_configuration_that_is_named(tmp_path: Path) -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("there is no make")
    (tmp_path / "syncd.toml").write_text(MINE)
    (tmp_path / "Makefile").write_text(f"run:\n{recipe('run')}")
    done = subprocess.run([make, "run"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "say which: make run CONFIG=" in done.stderr
    assert (tmp_path / "syncd.toml").read_text() == MINE


def test_the_demo_works_in_a_folder_of_its_own_and_without_settings_of_anybody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SYNCD_CONFIG", "/mine/syncd.toml")
    monkeypatch.setenv("SYNCD_TIMEZONE", "UTC")
    assert [name for name in demo.environment() if name.startswith("SYNCD_")] == []
    assert "syncd.toml" not in recipe("demo")
