"""Folders of eml files: mailboxes, dates and flags, with and without the list that an export writes."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from syncd.errors import ArchiveMissing
from syncd.formats.eml.view import EmlView
from syncd.mail.listing import Wanted
from syncd.mail.message import Key

WHEN = datetime(2018, 3, 1, 9, 5, 7, tzinfo=UTC)


def seen(root: Path) -> dict[str, list[tuple[bytes, tuple[str, ...], datetime | None]]]:
    """Every message by the path of its mailbox: octets, flags, date."""
    view, found = EmlView(root), {}
    for mailbox in (mailbox for chunk in view.mailboxes() for mailbox in chunk):
        box = view.open(mailbox.name)
        assert box is not None
        rows = [row for rows in box.rows() for row in rows]
        got = [box.find(Wanted(Key(1), row.number, row.uid, row.octets)) for row in rows]
        messages = [(b"".join(it.chunks), it.flags, it.internal_date) for it in got if it is not None]
        assert len(messages) == len(rows) == box.totals().messages
        found["/".join(mailbox.path)] = messages
    view.close()
    return found


def write(path: Path, octets: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(octets)
    os.utime(path, (WHEN.timestamp(), WHEN.timestamp()))


def test_folders_are_mailboxes_and_files_are_messages(tmp_path: Path) -> None:
    write(tmp_path / "b.eml", b"A: b\n\n")
    write(tmp_path / "a.EML", b"A: a\r\n\r\n\n")
    write(tmp_path / "Work" / "2019" / "x.eml", b"Date: Thu, 1 Mar 2018 10:05:07 +0100\n\n")
    write(tmp_path / "Work" / "y.eml", b"Received: a; Thu, 1 Mar 2018 09:05:07 +0000\n\n")
    (tmp_path / "Empty").mkdir()
    for name in ("c.txt", ".d.eml", ".hidden/e.eml"):
        write(tmp_path / name, b"no mail")
    (tmp_path / "f.eml").symlink_to(tmp_path / "b.eml")
    os.mkfifo(tmp_path / "g.eml")
    assert seen(tmp_path) == {
        "INBOX": [(b"A: a\r\n\r\n\n", (), WHEN), (b"A: b\r\n\r\n", (), WHEN)],
        "Work": [(b"Received: a; Thu, 1 Mar 2018 09:05:07 +0000\r\n\r\n", (), WHEN)],
        "Work/2019": [(b"Date: Thu, 1 Mar 2018 10:05:07 +0100\r\n\r\n", (), WHEN)],
        "Empty": [],
    }


def note(root: Path, file: str, account: str, path: list[str], flags: list[str]) -> None:
    line = {"file": file, "account": account, "path": path, "mailbox": "/".join(path), "flags": flags, "labels": []}
    with (root / "messages.jsonl").open("a") as lines:
        lines.write(json.dumps({**line, "date": WHEN.isoformat()}) + "\n")
    write(root / file, b"A: b\r\n\r\n")


def test_the_list_of_an_export_tells_mailboxes_flags_and_dates(tmp_path: Path) -> None:
    note(tmp_path, "road/a=2Fb/000001.eml", "1", ["a/b"], ["\\Seen", "$Work"])
    note(tmp_path, "road/INBOX/000001.eml", "1", ["INBOX"], [])
    write(tmp_path / "road" / "Later" / "own.eml", b"A: c\n\n")
    (tmp_path / "road" / "Empty").mkdir()
    with (tmp_path / "messages.jsonl").open("a") as lines:
        lines.write('no JSON\n["a"]\n{"file": "x"}\n')
    assert seen(tmp_path) == {
        "a/b": [(b"A: b\r\n\r\n", ("\\Seen", "$Work"), WHEN)],
        "INBOX": [(b"A: b\r\n\r\n", (), WHEN)],
        "Later": [(b"A: c\r\n\r\n", (), WHEN)],
        "Empty": [],
    }
    view = EmlView(tmp_path)
    assert [finding.what[:7] for finding in view.check(lambda _, __: None)] == ["3 lines"]
    view.close()


def test_accounts_stay_apart_where_there_are_several(tmp_path: Path) -> None:
    note(tmp_path, "road/INBOX/000001.eml", "1", ["INBOX"], [])
    note(tmp_path, "home/INBOX/000001.eml", "2", ["INBOX"], [])
    assert set(seen(tmp_path)) == {"road/INBOX", "home/INBOX"}


def test_a_folder_without_mail_may_be_a_disk_that_is_not_mounted(tmp_path: Path) -> None:
    (tmp_path / "Empty").mkdir()
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(ArchiveMissing, match="mount its disk"):
            EmlView(path)
