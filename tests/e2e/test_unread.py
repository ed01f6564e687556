"""A folder or file of a source that cannot be read holds up only itself, and is no mailbox that went away."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from syncd.db.models import messages
from syncd.db.states import MessageState
from syncd.engine.events import Event, Noted, RunReport
from syncd.engine.exit_codes import ExitCode
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from syncd.services.verify.service import Verification
from syncd.services.verify.values import Status
from syncd.services.wiring import open_ledger
from syncd.settings.load import Loaded, load

FROM = b"From - Thu Mar  1 09:05:07 2018\n"
TREES = {
    "mbox": ("Inbox", "Work.sbd/2019", "Work.sbd/2020.mbox", "Zed"),
    "eml": ("1.eml", "Work/2.eml", "Work/2019/3.eml", "Zed/4.eml"),
    "maildir": ("cur/1.host:2,S", ".Work/cur/2.host", ".Work/cur/3.host", ".Zed/cur/4.host"),
}
CASES = [
    ("mbox", "Work.sbd", 2),
    ("mbox", "Zed", 3),
    ("mbox", "Work.sbd/2020.mbox", 3),
    ("eml", "Work", 2),
    ("eml", "Work/2019", 3),
    ("maildir", ".Work", 2),
    ("maildir", ".Work/cur", 2),
]


@pytest.fixture
def close(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """From now on, a folder or file cannot be read, nor what is in it."""

    def close(closed: Path) -> None:
        def guarded(act: Callable[..., Any], *, itself: bool) -> Callable[..., Any]:
            def guard(path: object, *args: Any, dir_fd: int | None = None, **options: Any) -> Any:
                if isinstance(path, str | os.PathLike):
                    whole = Path(path) if dir_fd is None else Path(f"/proc/self/fd/{dir_fd}").readlink() / path
                    if closed in whole.parents or (itself and whole == closed):
                        raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
                return act(path, *args, **options, **({} if dir_fd is None else {"dir_fd": dir_fd}))

            return guard

        for name in ("scandir", "open"):
            monkeypatch.setattr(os, name, guarded(getattr(os, name), itself=True))
        for name in ("stat", "lstat"):
            monkeypatch.setattr(os, name, guarded(getattr(os, name), itself=False))

    return close


class Bench:
    def __init__(self, directory: Path, form: str, job: str = "") -> None:
        self.source, self.notes = directory / "source", list[str]()
        for number, name in enumerate(TREES[form]):
            file = self.source / name
            file.parent.mkdir(parents=True, exist_ok=True)
            octets = b"Subject: %d\nMessage-ID: <%d@example.org>\n\nbody %d\n" % (number, number, number)
            file.write_bytes(FROM + octets + b"\n" if form == "mbox" else octets)
        if form == "maildir":
            for folder in (self.source, self.source / ".Work", self.source / ".Zed"):
                for part in ("tmp", "new"):
                    (folder / part).mkdir()
        (directory / "syncd.toml").write_text(
            'state_directory = "state"\n[archives]\nhome = { path = "home" }\n'
            f'source = {{ path = "source", format = "{form}" }}\n'
            f'[jobs.restore]\nsource = "source"\ndestinations = ["home"]\n{job}'
        )
        self.loaded: Loaded = load(directory / "syncd.toml", environment={})

    def run(self) -> RunReport:
        self.notes.clear()

        def hear(event: Event) -> None:
            if isinstance(event, Noted):
                self.notes.append(event.text)

        (report,) = RunsByHand(self.loaded, [], RunOptions(), hear).execute()
        return report

    def states(self) -> set[int]:
        with open_ledger(self.loaded) as database, database.read() as connection:
            return set(connection.execute(select(messages.c.state)).scalars())


@pytest.mark.parametrize(("form", "closed", "others"), CASES)
def test_the_other_mailboxes_are_delivered(
    tmp_path: Path, close: Callable[[Path], None], form: str, closed: str, others: int
) -> None:
    """The source was given up, or a file passed over in silence."""
    bench = Bench(tmp_path, form)
    close(bench.source / closed)
    report = bench.run()
    assert (report.exit_code, report.errors, report.delivered) == (ExitCode.TEMPORARY, bench.notes, {"home": others})
    [note] = bench.notes
    assert f"cannot read {bench.source / closed.removesuffix('/cur')}: Permission denied" in note


@pytest.mark.parametrize(
    ("form", "closed", "path"),
    [
        ("mbox", "Work.sbd", "Work"),
        ("mbox", "Work.sbd/2020.mbox", "Work/2020"),
        ("eml", "Work/2019", "Work/2019"),
        ("maildir", ".Work/cur", "Work"),
    ],
)
def test_a_place_that_the_job_leaves_out_is_not_told_of(
    tmp_path: Path, close: Callable[[Path], None], form: str, closed: str, path: str
) -> None:
    """A lost+found beside the mail ended each run with exit 5."""
    bench = Bench(tmp_path, form, f'mailboxes = {{ exclude = ["{path}"] }}\n')
    close(bench.source / closed)
    report = bench.run()
    assert (report.exit_code, bench.notes) == (ExitCode.DONE, [])
    assert report.delivered["home"] in {2, 3}


@pytest.mark.parametrize(("form", "closed"), [case[:2] for case in CASES])
def test_what_cannot_be_read_any_more_is_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, close: Callable[[Path], None], form: str, closed: str
) -> None:
    bench = Bench(tmp_path, form)
    assert bench.run().delivered == {"home": 4}
    before = bench.states()
    close(bench.source / closed)
    for _ in range(2):
        bench.run()
        assert bench.states() == before == {MessageState.FETCHED}
    monkeypatch.undo()
    report = bench.run()
    assert (report.exit_code, report.delivered) == (ExitCode.DONE, {})


@pytest.mark.parametrize(("form", "closed"), [case[:2] for case in CASES])
def test_a_proof_tells_what_cannot_be_read_any_more(
    tmp_path: Path, close: Callable[[Path], None], form: str, closed: str
) -> None:
    """It said that the messages in there had left the source."""
    bench = Bench(tmp_path, form)
    assert bench.run().delivered == {"home": 4}
    close(bench.source / closed)
    with Verification(bench.loaded, "restore") as proof:
        report = proof.execute()
        found = {(entry.status, "cannot read" in entry.reason) for entry in report.entries()}
    assert found == {(Status.UNREADABLE, True)}
    assert report.differences
