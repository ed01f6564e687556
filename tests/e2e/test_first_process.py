"""`syncd serve` as the first process of a container, which gets no signal that it has no handler for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

UNSHARE = shutil.which("unshare")
STARTS_SLOWLY = """
import sys, time
from syncd.services import apply
apply.apply = lambda *_: (print("applying", flush=True), time.sleep(60))
from syncd.cli.main import call
sys.exit(call(sys.argv[1:]))
"""


@pytest.mark.skipif(UNSHARE is None or os.geteuid() != 0, reason="only root may make a namespace of process ids")
def test_it_can_be_ended_while_it_applies_its_configuration(tmp_path: Path) -> None:
    """It went on until it was killed: `docker stop` took ten seconds."""
    assert UNSHARE is not None
    (tmp_path / "syncd.toml").write_text('state_directory = "state"\n[service]\nlisten = ""\n')
    command = [UNSHARE, "--pid", "--fork", "--kill-child", sys.executable, "-c", STARTS_SLOWLY]
    with subprocess.Popen([*command, "-c", str(tmp_path / "syncd.toml"), "serve"], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"applying\n"
            (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(child), signal.SIGTERM)
            assert process.wait(20) == 128 + signal.SIGTERM
        finally:
            process.kill()
