from __future__ import annotations

import json
import mailbox
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncd.errors import DiskFull, Locked, SyncdError, UsageError
from syncd.formats import writer_lock
from syncd.formats.view import Stored
from syncd.mail.body import Body, BodyWriter
from syncd.mail.mailbox import Epoch
from syncd.mail.message import MessageRef, Origin, Uid
from syncd.services.export import Exported, ExportFormat, export
from syncd.services.export_place import UNFINISHED

ROAD = Origin(UUID(int=1), "road", b"INBOX", Epoch(1))
SENT = ROAD._replace(mailbox=b"&Sent;2019", path=("Sent", "2019"))
WHEN = datetime(2001, 9, 9, 1, 46, 40, tzinfo=UTC)
MAIL = b"Subject: x\r\n\r\nFrom here\r\n>From there\r\n"
EVERY_FORMAT = pytest.mark.parametrize("form", list(ExportFormat))


def stored(
    uid: bytes = b"u",
    data: bytes = MAIL,
    origin: Origin = ROAD,
    flags: tuple[str, ...] = (),
    date: datetime | None = WHEN,
) -> Stored:
    return Stored(MessageRef(origin, Uid(uid), 1), flags, date, Body.of(data))


def tree(path: Path) -> set[str]:
    ours = {".syncd-archive.json", ".syncd-lock", "maildirfolder"}
    return {str(each.relative_to(path)) for each in path.rglob("*") if each.is_file() and each.name not in ours}


def test_mbox(tmp_path: Path):
    path = tmp_path / "out"
    messages = [stored(b"1"), stored(b"2", origin=SENT), stored(b"3", b"no line end", flags=("\\Seen", "\\Flagged"))]
    assert export(messages, path, ExportFormat.MBOX) == Exported(3, 2 * len(MAIL) + 11, 2, unflagged=1)
    assert tree(path) == {"road/INBOX.mbox", "road/Sent/2019.mbox"}
    line = b"From MAILER-DAEMON Sun Sep  9 01:46:40 2001\n"
    first = line + b"Subject: x\n\n>From here\n>>From there\n\n"
    assert (path / "road/INBOX.mbox").read_bytes() == first + line + b"no line end\n\n"


def test_an_mbox_has_flags_where_they_are_asked_for(tmp_path: Path):
    messages = [stored(b"1"), stored(b"3", b"no line end", flags=("\\Seen", "\\Flagged"))]
    assert export(messages, tmp_path / "out", ExportFormat.MBOX, status=True).unflagged == 0
    octets = (tmp_path / "out/road/INBOX.mbox").read_bytes()
    assert octets.endswith(b"2001\nStatus: RO\nX-Status: F\nno line end\n\n")
    assert octets.count(b"Status: ") == 2
    messages = [stored(b"1", flags=("\\SEEN",)), stored(b"2", flags=("\\Seen", "$Forwarded"))]
    assert export(messages, tmp_path / "keywords", ExportFormat.MBOX, status=True).unflagged == 1


@EVERY_FORMAT
def test_mailboxes_without_messages_are_written(tmp_path: Path, form: ExportFormat):
    path = tmp_path / "out"
    empty = [SENT, SENT._replace(mailbox=b"x", path=("Entwürfe",), use="\\Drafts")]
    assert export([stored()], path, form, mailboxes=empty).mailboxes == 3
    names = {str(each.relative_to(path / "road")) for each in (path / "road").rglob("*")}
    expected = {
        ExportFormat.EML: {"Sent/2019", "Entwürfe", "INBOX/000001.eml"},
        ExportFormat.MBOX: {"Sent/2019.mbox", "Entwürfe.mbox", "INBOX.mbox"},
        ExportFormat.MAILDIR: {".Sent.2019/cur", ".Entw&APw-rfe/cur", ".Entw&APw-rfe/.syncd-mailbox.json"},
    }
    assert expected[form] <= names


@EVERY_FORMAT
def test_mailboxes_that_a_file_system_may_take_for_one_are_kept_apart(tmp_path: Path, form: ExportFormat):
    names = ["Work", "work", "a", "a.mbox", "a/000001.eml", "ö", "o\u0308", "x" * 300, "x" * 301]
    paths = [tuple(name.split("/")) for name in names] + [("y" * 90,) * 50]
    messages = [stored(origin=ROAD._replace(mailbox=b"%d" % n, path=path)) for n, path in enumerate(paths)]
    assert export(messages, tmp_path / "out", form).mailboxes == len(paths)
    if form is not ExportFormat.MAILDIR:
        found = {str(each).casefold() for each in (tmp_path / "out").rglob("*") if each.suffix == f".{form.value}"}
        assert len(found) == len(paths)


def test_maildir(tmp_path: Path):
    path = tmp_path / "out"
    messages = [
        stored(b"1"),
        stored(b"2", origin=SENT, flags=("\\Seen",)),
        stored(b"1", origin=ROAD._replace(epoch=Epoch(2))),
    ]
    assert export(messages, path, ExportFormat.MAILDIR).messages == 3
    box = mailbox.Maildir(path / "road", create=False)
    assert [sorted(box.list_folders()), len(box), len(box.get_folder("Sent.2019"))] == [["Sent.2019"], 2, 1]
    (seen,) = (path / "road/.Sent.2019/cur").iterdir()
    assert seen.name.endswith(":2,S")
    assert seen.read_bytes() == MAIL.replace(b"\r\n", b"\n")
    assert seen.stat().st_mtime == WHEN.timestamp()


def test_a_maildir_takes_other_octets_at_the_same_place_too(tmp_path: Path):
    """A server gave an id a second time, and the export stopped at the second message."""
    path = tmp_path / "out"
    others = [MAIL + b"%d" % number for number in range(3)]
    messages = [stored(), *(stored(data=data) for data in others), stored(origin=SENT, data=others[0])]
    assert export(messages, path, ExportFormat.MAILDIR) == Exported(5, 5 * len(MAIL) + 4, 2, renamed=3)
    box = mailbox.Maildir(path / "road", create=False)
    assert sorted(map(box.get_bytes, box.keys())) == sorted(data.replace(b"\r\n", b"\n") for data in (MAIL, *others))


def test_the_same_octets_have_the_same_names_in_every_export(tmp_path: Path):
    messages = [(), ("\\Seen",)]
    for name in ("one", "two"):
        export([stored(data=b"%d" % n, flags=f) for n, f in enumerate(messages)], tmp_path / name, ExportFormat.MAILDIR)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_eml(tmp_path: Path):
    path = tmp_path / "out"
    undated = stored(b"2", origin=SENT, flags=("\\Seen", "$Junk"), date=None)
    assert export([stored(b"1"), undated, stored(b"3", b"")], path, ExportFormat.EML).mailboxes == 2
    names = {"road/INBOX/000001.eml", "road/INBOX/000002.eml", "road/Sent/2019/000001.eml"}
    assert tree(path) == {"messages.jsonl", *names}
    assert (path / "road/INBOX/000001.eml").read_bytes() == MAIL
    assert (path / "road/INBOX/000001.eml").stat().st_mtime == WHEN.timestamp()
    lines = [json.loads(line) for line in (path / "messages.jsonl").read_bytes().splitlines()]
    assert {line["file"] for line in lines} == names
    assert lines[1] == {
        "file": "road/Sent/2019/000001.eml",
        "account": str(ROAD.account),
        "mailbox": "Sent/2019",
        "path": ["Sent", "2019"],
        "flags": ["\\Seen", "$Junk"],
        "labels": [],
        "date": None,
        "sha256": sha256(MAIL).hexdigest(),
    }


@EVERY_FORMAT
def test_mailboxes_of_one_path_are_one(tmp_path: Path, form: ExportFormat):
    """An IMAP server gave a mailbox another name, or an archive has it of two epochs."""
    path = tmp_path / "out"
    again = SENT._replace(mailbox=b"another name")
    assert export([stored(origin=SENT), stored(origin=again)], path, form).mailboxes == 1
    names = {name.partition("/new/")[0].removesuffix("000001.eml").removesuffix("000002.eml") for name in tree(path)}
    expected = {
        ExportFormat.EML: "road/Sent/2019/",
        ExportFormat.MBOX: "road/Sent/2019.mbox",
        ExportFormat.MAILDIR: "road/.Sent.2019",
    }
    assert names - {"messages.jsonl", "road/subscriptions", "road/.Sent.2019/.syncd-mailbox.json"} == {expected[form]}


@EVERY_FORMAT
def test_nothing_is_an_empty_folder(tmp_path: Path, form: ExportFormat):
    assert export([], tmp_path / "deep/out", form) == Exported()
    assert list((tmp_path / "deep/out").iterdir()) == []


@EVERY_FORMAT
@pytest.mark.parametrize("what", ["folder", "file", "link"])
def test_what_is_there_is_not_touched(tmp_path: Path, form: ExportFormat, what: str):
    path = tmp_path / "out"
    if what == "folder":
        path.mkdir()
        (path / "precious").write_text("x")
    elif what == "file":
        path.write_text("x")
    else:
        path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="is not an empty folder; name one that is new or empty"):
        export([stored()], path, form)
    assert len(list(tmp_path.rglob("*"))) == (2 if what == "folder" else 1)


@EVERY_FORMAT
def test_what_is_written_is_on_disk(tmp_path: Path, form: ExportFormat, monkeypatch: pytest.MonkeyPatch):
    """An export to mbox or eml said that it was done while the octets were in memory alone."""
    path, fsync = tmp_path / "out", os.fsync
    durable: dict[int, os.stat_result] = {}

    def seen(descriptor: int) -> None:
        fsync(descriptor)
        now = os.fstat(descriptor)
        durable[now.st_ino] = now

    monkeypatch.setattr(os, "fsync", seen)
    monkeypatch.setattr("syncd.services.export.BATCH_MESSAGES", 2)
    export([stored(b"%d" % n) for n in range(5)] + [stored(origin=SENT)], path, form, mailboxes=[SENT])
    for each in (path, *path.rglob("*")):
        now = each.stat()
        if each.is_dir():
            assert now.st_ino in durable or not any(each.iterdir()), each
        elif each.name != ".syncd-lock":
            assert not now.st_size or durable[now.st_ino].st_size == now.st_size, each


def cut_short(path: Path, form: ExportFormat) -> None:
    """Leave an unfinished export."""

    def broken() -> Iterator[Stored]:
        yield stored()
        raise SyncdError("damaged")

    with pytest.raises(SyncdError, match="damaged"):
        export(broken(), path, form)
    assert [each.name for each in path.iterdir()] == [UNFINISHED]


@EVERY_FORMAT
def test_the_next_export_removes_an_unfinished_one(tmp_path: Path, form: ExportFormat):
    """It was refused, as the folder was not empty, though the user had done nothing wrong."""
    cut_short(tmp_path / "out", ExportFormat.EML)
    for name in ("out", "new"):
        export([stored(origin=SENT)], tmp_path / name, form)
    assert tree(tmp_path / "out") == tree(tmp_path / "new")


def test_mail_of_the_user_beside_an_unfinished_export_is_not_touched(tmp_path: Path):
    path = tmp_path / "out"
    cut_short(path, ExportFormat.EML)
    (path / "road").mkdir()
    before = sorted(path.rglob("*"))
    with pytest.raises(UsageError, match="is not an empty folder"):
        export([stored()], path, ExportFormat.EML)
    assert sorted(path.rglob("*")) == before


def test_a_file_that_came_meanwhile_is_not_overwritten(tmp_path: Path):
    path = tmp_path / "out"

    def slow() -> Iterator[Stored]:
        yield stored()
        (path / "messages.jsonl").write_text("precious")

    with pytest.raises(UsageError, match="is not an empty folder"):
        export(slow(), path, ExportFormat.EML)
    assert (path / "messages.jsonl").read_text() == "precious"
    assert not (path / "road").exists()


def test_a_folder_is_exported_to_by_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "out"
    monkeypatch.setattr(writer_lock, "LOCK_WAIT_S", 0)

    def slow() -> Iterator[Stored]:
        yield stored()
        with pytest.raises(Locked, match=r"has kept the unfinished export .* locked"):
            export([stored(origin=SENT)], path, ExportFormat.MBOX)

    export(slow(), path, ExportFormat.MBOX)
    assert tree(path) == {"road/INBOX.mbox"}


@EVERY_FORMAT
def test_names_from_a_server_lead_nowhere_else(tmp_path: Path, form: ExportFormat):
    path = tmp_path / "in/here/out"
    boxes = ["../../../x", "/etc/passwd", "..", "", "a\x00b", "\udcff" * 400, "CON", "x\n", "messages.jsonl"]
    names = ["../../up", "..", "", "messages.jsonl", "\udcff", "inbox", "INBOX"]
    messages = [stored(origin=ROAD._replace(mailbox=b"%d" % n, path=(box,))) for n, box in enumerate(boxes)]
    messages += [stored(origin=ROAD._replace(mailbox=b"deep", path=("..", "..", "x")))]
    messages += [
        stored(origin=ROAD._replace(account=UUID(int=9 + n), account_name=name)) for n, name in enumerate(names)
    ]
    assert export(messages, path, form).mailboxes == len(messages)
    assert {each.name for each in tmp_path.rglob("*") if each.is_file() and path not in each.parents} == set()
    files = [each for each in path.rglob("*") if each.is_file() and each.suffix in {".mbox", ".eml", ".syncd"}]
    assert len(files) == len(messages)


def test_two_accounts_of_one_name_are_kept_apart(tmp_path: Path):
    other = ROAD._replace(account=UUID(int=2))
    export([stored(), stored(origin=other), stored(b"2")], tmp_path / "out", ExportFormat.MBOX)
    assert tree(tmp_path / "out") == {"road/INBOX.mbox", f"road-{other.account}/INBOX.mbox"}


@EVERY_FORMAT
def test_only_the_owner_can_look(tmp_path: Path, form: ExportFormat):
    export([stored(), stored(origin=SENT)], tmp_path / "out", form)
    assert [each for each in (tmp_path / "out").rglob("*") if each.stat().st_mode & 0o077] == []


@EVERY_FORMAT
def test_large_messages_stream_and_every_body_is_closed(tmp_path: Path, form: ExportFormat):
    line = b"From the middle of a large message\r\n"
    writer = BodyWriter(tmp_path / "spool")
    for _ in range(200):
        writer.write(line * 1_000)
    large = Stored(MessageRef(ROAD, Uid(b"large"), 1), (), WHEN, writer.finish())
    del writer  # its spool refers to the file, too
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    export([stored(), large], tmp_path / "out", form)
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before - 1
    sizes = {ExportFormat.EML: len(line), ExportFormat.MBOX: len(line), ExportFormat.MAILDIR: len(line) - 1}  # ">", CR
    assert max(each.stat().st_size for each in (tmp_path / "out").rglob("*")) // 200_000 == sizes[form]


@EVERY_FORMAT
def test_a_full_disk_is_one_line(tmp_path: Path, form: ExportFormat, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(DiskFull, match="No space left on device; free some space"):
        export([stored()], tmp_path / "out", form)


def test_progress_is_told(tmp_path: Path):
    seen: list[tuple[int, int]] = []
    export(
        [stored(b"1"), stored(b"2")],
        tmp_path / "out",
        ExportFormat.EML,
        lambda done: seen.append((done.messages, done.octets)),
    )
    assert seen == [(1, len(MAIL)), (2, 2 * len(MAIL))]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.lists(st.sampled_from([b"\r\n", b"\n", b"\r", b"From ", b">", b"x", b"\0"])).map(b"".join),
        min_size=1,
        max_size=8,
    )
)
def test_an_mbox_holds_as_many_messages_as_were_written(tmp_path_factory: pytest.TempPathFactory, bodies: list[bytes]):
    path = tmp_path_factory.mktemp("export") / "out"
    export((stored(b"%d" % n, data) for n, data in enumerate(bodies)), path, ExportFormat.MBOX)
    box = mailbox.mbox(path / "road/INBOX.mbox", create=False)
    assert len(box) == len(bodies)
    box.close()
