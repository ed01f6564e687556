from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from syncd.db import holder as module
from syncd.db.holder import Holder


def test_survives_the_way_through_the_database() -> None:
    me = Holder.me('run of job "böse\\" \n"')
    assert Holder.parse(str(me)) == me


def test_every_acquisition_is_told_apart() -> None:
    assert Holder.me("run").token != Holder.me("run").token


def test_a_living_process_is_not_dead() -> None:
    assert not Holder.me("run").is_dead()


def test_a_process_id_used_again_is_another_process() -> None:
    me = Holder.me("run")
    assert dataclasses.replace(me, started=me.started - 1).is_dead()


def test_a_process_that_ended_is_dead_even_before_its_parent_noticed() -> None:
    code = "import os; from syncd.db.holder import Holder; print(Holder.me('run'), flush=True)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child.stdout as output:
        holder = Holder.parse(output.readline())
        output.read()  # its end of the pipe is closed: it is ending
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and still a zombie
    assert holder.is_dead()
    child.wait()
    assert holder.is_dead()


@pytest.mark.parametrize("elsewhere", [{"host": "elsewhere"}, {"boot": "another boot"}, {"boot": ""}])
def test_nobody_is_taken_for_dead_who_cannot_be_seen(elsewhere: dict[str, Any]) -> None:
    gone = dataclasses.replace(Holder.me("run"), started=1)
    assert gone.is_dead()
    assert not dataclasses.replace(gone, **elsewhere).is_dead()


def test_without_proc_nobody_is_taken_for_dead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_PROC", tmp_path)
    module._boot.cache_clear()
    try:
        here = Holder.me("run")
        assert (here.boot, here.started) == ("", 0)
        assert not dataclasses.replace(here, pid=1 << 22).is_dead()
    finally:
        module._boot.cache_clear()


def test_a_process_that_proc_hides_is_not_taken_for_dead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = dataclasses.replace(Holder.me("run"), pid=7, started=1)
    monkeypatch.setattr(module, "_PROC", tmp_path)  # as mounted with hidepid=2: the process exists and is not shown

    def kill(_pid: int, _signal: int) -> None:
        raise error

    monkeypatch.setattr(os, "kill", kill)
    error: OSError = PermissionError()
    assert not other.is_dead()
    error = ProcessLookupError()
    assert other.is_dead()


def test_a_process_name_may_hold_anything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    fields = " ".join(["S", *map(str, range(4, 53))])  # field n holds n, from the third on
    (tmp_path / "7" / "stat").write_text(f"7 (a) R 1 (b)) {fields}\n")
    monkeypatch.setattr(module, "_PROC", tmp_path)
    assert module._started(7) == 22


def test_describes_who_and_since_when() -> None:
    holder = Holder("laptop", "boot", 42, 7, "token", 'run of job "road"', 1_770_000_000_000_000)
    assert holder.describe() == 'process 42 on laptop (run of job "road"), since 2026-02-02 02:40:00 UTC'
