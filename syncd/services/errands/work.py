"""The work of each kind of errand. All of it only looks, and can be cancelled from another thread."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from syncd.db.errands import Kind
from syncd.engine.events import Event, Noted
from syncd.errors import Cancelled, UsageError
from syncd.formats.zstd import ZstdDecompressor, compressor
from syncd.services import archive, places
from syncd.services.check import Check
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from syncd.services.verify.formats import FORMATS, results
from syncd.services.verify.report import canonical
from syncd.services.verify.service import Verification

if TYPE_CHECKING:
    from syncd.services.verify.report import Report
    from syncd.settings.load import Loaded

MOST: Final = 1000  # of each list in a result; `left_out` counts the others
PIECE_OCTETS: Final = 64 << 10  # of a report that is sent
MAX_REPORT_OCTETS: Final = 8 << 20  # compressed, in each form: about a million messages that differ


@dataclass(slots=True)
class Task:
    """The state that the thread which works shares with those that watch it."""

    progress: dict[str, object] = field(default_factory=dict)
    cancel: Callable[[], None] | None = None  # ends it sooner than it looks at `why`
    why: str = ""  # it is to end
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def stop(self, why: str) -> None:
        """Have it end. Repeatable; from any thread."""
        with self._lock:
            self.why = self.why or why
            cancel = self.cancel
        if cancel is not None:
            cancel()

    def ends_by(self, cancel: Callable[[], None]) -> None:
        """Say what ends it. Raises Cancelled where it is to end already."""
        with self._lock:
            self.cancel = cancel
        self.check()

    def check(self) -> None:
        """Raise Cancelled where it is to end."""
        if self.why:
            raise Cancelled(self.why)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A result: plain values, and compressed files by their form. `error`: it was found that something failed."""

    result: Mapping[str, Any]
    error: str = ""
    reports: Mapping[str, bytes] = field(default_factory=dict)


def dry_run(loaded: Loaded, job: str, task: Task, *, read: bool) -> Outcome:  # noqa: ARG001  as the others
    """Sign in, list and compare as a run of `job` would."""
    notes: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Noted):
            notes.append(event.text)

    runner = RunsByHand(loaded, [job], RunOptions(dry_run=True), listen)
    task.ends_by(runner.cancel)
    (report,) = runner.execute()
    shown: dict[str, Any] = report.as_json()
    result: dict[str, Any] = {"report": shown, "notes": notes}
    result["left_out"] = {**_cut(shown, "mapping"), **_cut(result, "notes")}
    return Outcome(result, report.errors[0] if report.errors else "")


def check_archive(loaded: Loaded, name: str, task: Task, *, read: bool) -> Outcome:  # noqa: ARG001
    """Read every octet of an archive again, and compare the archive with the ledger."""

    def progress(octets: int, whole: int) -> None:
        task.progress = {"octets": octets, "of_octets": whole}
        task.check()

    if not loaded.settings.archives[name].path.is_dir():
        raise UsageError(places.NOT_HERE)
    with closing(archive.open_view(loaded, name)) as view:
        found: list[dict[str, object]] = []
        number = wrong = 0
        for number, finding in enumerate(archive.check(loaded, view, progress), 1):
            wrong += not finding.harmless
            if number <= MOST:
                found.append(finding._asdict())
        left_out = {"findings": number - MOST} if number > MOST else {}
        return Outcome({"figures": asdict(view.figures()), "wrong": wrong, "findings": found, "left_out": left_out})


def check_account(loaded: Loaded, name: str, task: Task, *, read: bool) -> Outcome:  # noqa: ARG001
    """Sign in to an account and ask its server what there is."""
    check = Check(loaded, (), lambda _: None)
    task.ends_by(check.cancel)
    found = check.account(name)
    result: dict[str, Any] = found.as_json()
    result["left_out"] = _cut(result, "table")
    return Outcome(result, str(found.error) if found.error else "")


def verify(loaded: Loaded, job: str, task: Task, *, read: bool) -> Outcome:
    """Compare source, ledger and destinations of a job."""

    def progress(mailbox: str, number: int, of: int) -> None:
        task.progress = {"mailbox": mailbox, "number": number, "of": of}

    with Verification(loaded, job, read=read, progress=progress) as verification:
        task.ends_by(verification.cancel)
        report = verification.execute()
        task.progress = {}
        digest = report.digest()
        reports = {suffix[1:]: packed for suffix in FORMATS if (packed := _packed(report, digest, suffix, task))}
        shown: dict[str, Any] = json.loads("".join(canonical(report, MOST)))
        entries = sum(1 for _ in report.entries()) - MOST
        left_out = {
            **({"entries": entries} if entries > 0 else {}),
            **_cut(shown, "mailboxes"),
            **_cut(shown, "others"),
        }
        result = {"report": shown, "sha256": digest, "lines": list(results(report)), "forms": sorted(reports)}
        return Outcome({**result, "left_out": left_out}, reports=reports)


def unpacked(content: bytes) -> Iterator[bytes]:
    """Yields the octets of a report."""
    one = ZstdDecompressor()
    yield one.decompress(content, max_length=PIECE_OCTETS)
    while not one.eof:
        yield one.decompress(b"", max_length=PIECE_OCTETS)


Work = Callable[..., Outcome]
WORKS: Final[Mapping[Kind, Work]] = {
    Kind.DRY_RUN: dry_run,
    Kind.ARCHIVE: check_archive,
    Kind.ACCOUNT: check_account,
    Kind.VERIFY: verify,
}


def do(kind: Kind, loaded: Loaded, name: str, task: Task, *, read: bool) -> Outcome:
    """Do an errand. Raises SyncdError."""
    apart = replace(loaded)  # with secrets of its own: a cancelled errand ends those commands, and no others
    return WORKS[kind](apart, name, task, read=read)


def _cut(of: MutableMapping[str, Any], name: str) -> dict[str, int]:
    """Leave out what is too much of a list; returns how much that is."""
    more = len(of[name]) - MOST
    of[name] = of[name][:MOST]
    return {name: more} if more > 0 else {}


def _packed(report: Report, digest: str, suffix: str, task: Task) -> bytes:
    """Returns the report in a form, compressed; nothing where it is too large to be kept."""
    packer, kept = compressor(), bytearray()
    for piece in FORMATS[suffix](report, digest):
        kept += packer.compress(piece.encode())
        if len(kept) > MAX_REPORT_OCTETS:
            return b""
        task.check()
    kept += packer.flush()
    return bytes(kept) if len(kept) <= MAX_REPORT_OCTETS else b""
