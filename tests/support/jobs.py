"""A configuration whose accounts are mailboxes in memory, and runs of its jobs in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from syncd.cli.main import call
from syncd.engine.events import Event, RunReport
from syncd.services import runs, slices
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from syncd.settings.load import Loaded, load
from tests.fakes.source import MemorySource
from tests.support.engine import mail


class Jobs:
    """Jobs, each with an account of its name and an archive `NAME-home`, which has two messages to begin with."""

    def __init__(self, directory: Path, names: Sequence[str], more: str = "", *, patch: pytest.MonkeyPatch) -> None:
        """`more` is put into each job's table."""
        self.directory = directory
        self.file = directory / "syncd.toml"
        self.sources = {name: MemorySource(mail(2)) for name in names}
        self.events: list[Event] = []
        self.runner: RunsByHand | None = None
        self.configure(more)
        patch.setenv("P", "secret")
        for module in (runs, slices):
            patch.setattr(module, "open_source", self._open_source)

    def configure(self, more: str = "", *, form: str = "maildir", head: str = "") -> None:
        self.file.write_text(
            f'state_directory = "state"\n{head}\n'
            + "".join(
                f'[accounts.{name}]\nprotocol = "pop3"\nhost = "{name}.example.net"\nusername = "me"\n'
                f'password = "env:P"\n[archives.{name}-home]\npath = "{name}-home"\nformat = "{form}"\n'
                f'[jobs.{name}]\nsource = "{name}"\ndestinations = ["{name}-home"]\n{more}\n'
                for name in self.sources
            )
        )

    @property
    def loaded(self) -> Loaded:
        return load(self.file)

    @property
    def state(self) -> Path:
        return self.directory / "state"

    def run(self, listen: Callable[[Event], None] | None = None, **options: Any) -> dict[str, RunReport]:
        """Run all of them; the report of each."""
        self.runner = RunsByHand(self.loaded, [], RunOptions(**options), listen or self.events.append)
        return {report.job: report for report in self.runner.execute()}

    def shown(self, capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
        """The lines that a verb prints with --json."""
        capsys.readouterr()
        assert call(["-c", str(self.file), "--json", *arguments]) == code
        return json.loads(capsys.readouterr().out)

    def said(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
        """The lines that a verb prints for people."""
        capsys.readouterr()
        call(["-c", str(self.file), *arguments])
        return "".join(capsys.readouterr())

    def _open_source(self, _loaded: Loaded, name: str, *_: object, **__: object) -> MemorySource:
        return self.sources[name]
