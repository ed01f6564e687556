"""Archives as people look at them: the services, and the verbs that print what they find."""

from __future__ import annotations

import errno
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import IO, Any
from uuid import UUID, uuid4

import pytest

from syncd.cli.main import call
from syncd.destinations.maildir import MaildirArchive
from syncd.destinations.packs import PacksArchive
from syncd.errors import StorageError
from syncd.formats.maildir.folder import Folder
from syncd.formats.maildir.view import MaildirView
from syncd.formats.packs.frame import Frame, scan
from syncd.formats.view import ArchiveView, Delivered, Finding
from syncd.mail.body import Body
from syncd.mail.mailbox import Epoch
from syncd.mail.message import Key, Message, MessageRef, Origin, Uid
from syncd.services import archive as service
from syncd.services.archive import Filter, entries, open_view
from tests.support.packs import append_frame

ROAD = Origin(UUID(int=1), "road", b"INBOX", Epoch(1))
WORK = Origin(UUID(int=2), "work", b"Lists/caf&AOk-", Epoch(7), ("Lists", "café"))
MAIL = {
    "spring": b"Date: Sun, 1 Mar 2026 12:00:00 +0100\r\nFrom: Lena <l@example.net>\r\n"
    b"Subject: =?utf-8?Q?Fr=C3=BChling?=\r\nX: a\r\n\tb\r\n\r\nhello\r\n.\r\n",
    "old": b"Date: Mon, 2 Jan 2006 15:04:05 +0000\r\nSubject: \x1b[2Jold\r\n\r\nFrom here\r\n",
    "plain": b"no header at all\r\n",
}


@pytest.fixture(autouse=True)
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNCD_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))


def message(key: int, origin: Origin, uid: bytes, octets: bytes, flags: tuple[str, ...] = ()) -> Message:
    return Message(Key(key), MessageRef(origin, Uid(uid), 1), Body.of(octets), flags, path=origin.path)


def fill(archive: PacksArchive | MaildirArchive) -> Path:
    archive.create(uuid4())
    archive.open()
    messages = [
        message(1, ROAD, b"u1", MAIL["spring"], ("\\Seen",)),
        message(2, ROAD, b"u2", MAIL["old"]),
        message(3, WORK, b"u1", MAIL["plain"]),
        message(4, WORK, b"u2", MAIL["old"]),
    ]
    assert [len(group) for group in archive.deliver(messages)] == [4]
    archive.close()
    return archive.path


@pytest.fixture
def packs(tmp_path: Path) -> Path:
    return fill(PacksArchive(tmp_path / "packs"))


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    return fill(MaildirArchive(tmp_path / "maildir"))


@pytest.fixture
def opened() -> Iterator[Callable[[Path], ArchiveView]]:
    views: list[ArchiveView] = []

    def make(path: Path) -> ArchiveView:
        views.append(open_view(None, str(path)))
        return views[-1]

    yield make
    for view in views:
        view.close()


Opened = Callable[[Path], ArchiveView]


def store(path: Path, one: Message) -> None:
    archive = PacksArchive(path)
    archive.open()
    assert list(archive.deliver([one]))
    archive.close()


def sha(name: str) -> str:
    return Body.of(MAIL[name]).sha256.hex()


def damage(path: Path) -> int:
    """Flip a bit in the mail of the only pack; the offset of the frame it is in."""
    file = path / "packs" / "000001.mbox.zst"
    octets = bytearray(file.read_bytes())
    with file.open("rb") as opened:
        frames = [found for found in scan(opened.fileno(), 0, len(octets)) if isinstance(found, Frame)]
    first = next(frame for frame in frames if frame.data_octets)
    octets[first.data_offset + first.data_octets // 2] ^= 1
    file.write_bytes(octets)
    return first.offset


# --- finding the archive -------------------------------------------------------------------------------


def test_a_name_or_a_path(packs: Path, maildir: Path, opened: Opened) -> None:
    Path("syncd.toml").write_text('[archives.home]\npath = "packs"\n')
    assert call(["archive", "stats", "home", "-q"]) == 0
    assert opened(packs).figures().format == "packs"
    assert opened(maildir).figures().format == "maildir"
    assert opened(maildir).uuid == MaildirArchive(maildir).identity()


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("empty", "is no archive of syncd: neither archive.json nor .syncd-archive.json is in it"),
        ("nowhere", "'nowhere' is neither a folder nor the name of an archive"),
    ],
)
def test_what_is_no_archive(what: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert call(["archive", "list", what]) == 6
    shown = capsys.readouterr()
    assert shown.out == ""
    assert line in shown.err
    assert shown.err.count("\n") == 1


def test_a_wrong_configuration_does_not_stand_in_the_way_of_a_path(packs: Path) -> None:
    Path("syncd.toml").write_text("nonsense")
    assert call(["archive", "stats", str(packs)]) == 0
    assert call(["archive", "stats", "home"]) == 6
    assert call(["archive", "stats", str(packs), "-c", "syncd.toml"]) == 6


# --- list ----------------------------------------------------------------------------------------------


def test_entries_of_packs(packs: Path, opened: Opened) -> None:
    spring, old, plain = opened(packs).entries()
    assert spring.id == sha("spring")
    assert (spring.accounts, spring.mailboxes, spring.octets) == (("road",), (("INBOX",),), len(MAIL["spring"]))
    assert spring.at == datetime(2026, 3, 1, 11, tzinfo=UTC)
    assert (spring.subject, spring.sender) == ("Frühling", "Lena <l@example.net>")
    assert old.accounts == ("road", "work")  # the same octets at two places
    assert plain.subject == ""
    assert plain.at is not None
    assert datetime.now(UTC) - plain.at < timedelta(hours=1)


def test_entries_of_a_maildir(maildir: Path, opened: Opened) -> None:
    found = {(entry.subject, entry.mailboxes) for entry in opened(maildir).entries()}
    assert found == {
        ("Frühling", (("INBOX",),)),
        ("\x1b[2Jold", (("INBOX",),)),
        ("", (WORK.path,)),
        ("\x1b[2Jold", (WORK.path,)),
    }


def test_filters(packs: Path, opened: Opened) -> None:
    view = opened(packs)

    def subjects(**which: object) -> list[str]:
        return [entry.subject for entry in entries(view, Filter(**which))]  # type: ignore[arg-type]

    assert subjects(account="work") == ["\x1b[2Jold", ""]
    assert subjects(account=str(ROAD.account)) == ["Frühling", "\x1b[2Jold"]
    assert subjects(mailbox="Lists/café") == subjects(mailbox="Lists/caf&AOk-") == ["\x1b[2Jold", ""]
    assert subjects(account="road", mailbox="inbox") == ["Frühling", "\x1b[2Jold"]
    assert subjects(since=datetime(2026, 1, 1, tzinfo=UTC)) == ["Frühling", ""]
    assert subjects(before=datetime(2026, 1, 1, tzinfo=UTC)) == ["\x1b[2Jold"]
    assert subjects(subject="FRÜH") == ["Frühling"]


@pytest.mark.parametrize("verb", [["list"], ["export"]])
@pytest.mark.parametrize(
    ("choice", "line"),
    [
        (["--account", "raod"], "no account 'raod' in {}: it has road, work"),
        (["--mailbox", "Sent"], "no mailbox 'Sent' in {}: it has INBOX, Lists/café"),
        (["--account", "road", "--mailbox", "Lists/café"], "no mailbox 'Lists/café' in {}: it has INBOX"),
        (["--account", "\x1b[2J"], "no account '\\\\x1b[2J' in {}: it has road, work"),
    ],
)
def test_a_name_that_matches_nothing_is_a_mistake(
    packs: Path, capsys: pytest.CaptureFixture[str], verb: list[str], choice: list[str], line: str
) -> None:
    """An empty export looked like a good one."""
    more = ["out", "--format", "mbox"] if verb == ["export"] else []
    assert call(["archive", *verb, str(packs), *more, *choice]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"syncd: {line.format(packs)}\n")
    assert not Path("out").exists()


def test_a_maildir_has_mailboxes_and_no_accounts(maildir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["archive", "list", str(maildir), "--account", "maildir"]) == 2
    assert "no account 'maildir' in" in capsys.readouterr().err
    assert call(["archive", "export", str(maildir), "out", "--format", "eml", "--mailbox", "Lists/café", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["messages"] == 2


@pytest.mark.parametrize(
    ("choice", "number"),
    [
        (["--until", "2006-01-02"], 1),
        (["--until", "2006-01-01"], 0),
        (["--since", "2006-01-02", "--until", "2026-03-01"], 2),
        (["--since", "2026-03-01T00:00:00", "--until", "2026-03-01T23:00:00"], 1),
    ],
)
def test_since_and_until(
    packs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    choice: list[str],
    number: int,
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert call(["archive", "list", str(packs), "--json", *choice]) == 0
    assert len(json.loads(capsys.readouterr().out)) == number


@pytest.mark.parametrize("date", ["yesterday", "2026-02-30", "", "0001-01-01", "9999-12-31"])
@pytest.mark.parametrize("option", ["--since", "--until"])
def test_a_date_that_is_none_is_a_mistake(
    packs: Path, capsys: pytest.CaptureFixture[str], option: str, date: str
) -> None:
    """The first and the last day ended in an OverflowError."""
    code = call(["archive", "list", str(packs), option, date])
    shown = capsys.readouterr()
    assert code in ({0, 2} if date[-6:] in {"-01-01", "-12-31"} else {2})
    assert "bug" not in shown.err


def test_a_list_is_safe_to_look_at(packs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["archive", "list", str(packs)]) == 0
    shown = capsys.readouterr()
    head, _, old, _ = shown.out.splitlines()
    assert head.split() == ["DATE", "ACCOUNT", "OCTETS", "ID", "FROM", "SUBJECT"]
    assert old.split()[-2:] == [sha("old")[:12], "\\x1b[2Jold"]
    assert "Lena <l@example.net>" in shown.out
    assert "\x1b" not in shown.out
    assert shown.err == "3 messages\n"


def test_a_list_as_json(packs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["archive", "list", str(packs), "--json", "--account", "work"]) == 0
    old, plain = json.loads(capsys.readouterr().out)
    assert (old["id"], old["accounts"], plain["mailboxes"]) == (sha("old"), ["road", "work"], ["Lists/café"])
    assert call(["archive", "list", str(packs), "--json", "--subject", "nothing like it"]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize("kind", ["packs", "maildir"])
def test_mailboxes_are_listed_with_how_much_is_in_each(
    packs: Path, maildir: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = packs if kind == "packs" else maildir
    archive = PacksArchive(path) if kind == "packs" else MaildirArchive(path)
    archive.open()
    archive.note_mailboxes([WORK._replace(mailbox=b"Trash", path=("Trash",), use="\\Trash")])
    archive.close()
    assert call(["archive", "list", str(path), "--mailboxes"]) == 0
    shown = capsys.readouterr()
    rows = [line.split() for line in shown.out.splitlines()]
    names = ["road", "work", "work"] if kind == "packs" else ["-"] * 3
    assert [row[:-1] for row in rows] == [
        ["ACCOUNT", "MAILBOX", "USE", "MESSAGES"],
        [names[0], "INBOX", "-", "2"],
        [names[1], "Lists/café", "-", "2"],
        [names[2], "Trash", "\\Trash", "0"],
    ]
    assert shown.err == "3 mailboxes\n"
    assert call(["archive", "list", str(path), "--mailboxes", "--mailbox", "Trash", "--json"]) == 0
    [document] = json.loads(capsys.readouterr().out)
    assert (document["mailbox"], document["messages"], document["octets"]) == ("Trash", 0, 0)


def test_mailboxes_have_no_subject(packs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["archive", "list", str(packs), "--mailboxes", "--subject", "x"]) == 2
    assert "leave one of the two out" in capsys.readouterr().err


def test_messages_of_one_mailbox(packs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["archive", "list", str(packs), "--mailbox", "Lists/café", "--json"]) == 0
    assert [entry["id"] for entry in json.loads(capsys.readouterr().out)] == [sha("old"), sha("plain")]


# --- show ----------------------------------------------------------------------------------------------


def test_show_where_a_message_was_seen(packs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    date = datetime(2026, 3, 1, 12, 0, 5, tzinfo=timezone(timedelta(hours=1)))
    seen = Message(
        Key(9),
        MessageRef(WORK, Uid(b"u9"), 1),
        Body.of(MAIL["spring"]),
        ("\\Flagged", "$Work"),
        date,
        labels=("Home", "two words"),
    )
    store(packs, seen)
    assert call(["archive", "show", str(packs), sha("spring")[:8], "--places"]) == 0
    head, road, work = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "ACCOUNT"
    assert "LABELS" in head
    assert "REMOVED" not in head
    assert road.split() == ["road", "INBOX", "u1", "-", "\\Seen", "-"]
    assert work.split("  ")[0] == "work"
    for cell in ("Lists/café", "u9", "2026-03-01 12:00:05+01:00", "\\Flagged $Work", "Home, two words"):
        assert cell in work
    assert call(["archive", "show", str(packs), sha("spring")[:8], "--json"]) == 0
    places = json.loads(capsys.readouterr().out)["places"]
    assert [(it["mailbox"], it["uid"], it["flags"]) for it in places] == [
        ("INBOX", "u1", ["\\Seen"]),
        ("Lists/café", "u9", ["\\Flagged", "$Work"]),
    ]


def test_show_the_flags_of_a_file(maildir: Path, opened: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    entry = next(entry for entry in opened(maildir).entries() if entry.subject == "Frühling")
    assert call(["archive", "show", str(maildir), entry.id[:8], "--places"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[-1] == "\\Seen"


@pytest.mark.parametrize("name", list(MAIL))
def test_show_gives_the_octets_as_they_were_received(
    packs: Path, capfdbinary: pytest.CaptureFixture[bytes], name: str
) -> None:
    assert call(["archive", "show", str(packs), sha(name)[:8]]) == 0
    assert capfdbinary.readouterr().out == MAIL[name]


class Terminal(io.TextIOWrapper):
    """Standard output that is a terminal of 80 columns."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def isatty(self) -> bool:
        return True

    def shown(self) -> str:
        self.seek(0)
        return self.read()


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    return terminal


ACTS = (
    b"Subject: \x1b]0;owned\x07\r\n\r\nrow\tone\r\n"
    b"over\rwritten \x9b2J \xc2\x9b \xe2\x80\xae \xff caf\xc3\xa9\x08\n\x00"
)


def test_show_prints_nothing_that_a_terminal_acts_on(packs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    store(packs, message(9, ROAD, b"u9", ACTS))
    assert call(["archive", "show", str(packs), "u9"]) == 0
    shown = terminal.shown()
    assert shown.splitlines() == [
        "Subject: \\x1b]0;owned\\x07",
        "",
        "row     one",
        "over\\rwritten \\x9b2J \\x9b \\u202e \\xff café\\x08",
        "\\x00",
    ]


def test_show_raw_gives_the_octets_on_a_terminal_too(packs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    store(packs, message(9, ROAD, b"u9", ACTS))
    assert call(["archive", "show", str(packs), "u9", "--raw"]) == 0
    assert terminal.buffer.getvalue() == ACTS  # type: ignore[attr-defined]


@pytest.mark.parametrize("step", [1, 2, 3, 1000])
def test_pieces_of_a_message_show_as_the_whole_does(step: int) -> None:
    from syncd.cli.archive import _shown

    pieces = [ACTS[at : at + step].replace(b"\t", b" ") for at in range(0, len(ACTS), step)]
    assert b"".join(_shown(pieces)) == b"".join(_shown([b"".join(pieces)]))
    assert b"".join(_shown([b"a\r", b"\nb\r"])) == b"a\nb\\r\n"
    assert b"".join(_shown([b"a\n"])) == b"a\n"


def test_a_narrow_terminal_shows_who_and_what(packs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    assert call(["archive", "list", str(packs)]) == 0
    head, spring, *_ = terminal.shown().splitlines()
    assert head.split() == ["DATE", "ID", "FROM", "SUBJECT"]
    assert spring.endswith("Lena <l@example.net>    Frühling")


def test_an_id_that_is_no_text_names_nothing(packs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["archive", "show", str(packs), "\udcff\udcfe"]) == 2
    assert "bug" not in capsys.readouterr().err


def test_show_the_header(packs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["archive", "show", str(packs), sha("spring"), "--headers"]) == 0
    assert capsys.readouterr().out.splitlines()[-3:] == ["Subject: =?utf-8?Q?Fr=C3=BChling?=", "X: a", "        b"]
    assert call(["archive", "show", str(packs), sha("spring"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["subject"] == "Frühling"


def test_show_from_a_maildir(maildir: Path, opened: Opened, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    entry = next(entry for entry in opened(maildir).entries() if entry.subject == "Frühling")
    assert call(["archive", "show", str(maildir), entry.id[:6]]) == 0
    assert capfdbinary.readouterr().out == MAIL["spring"].replace(b"\r\n", b"\n")


@pytest.mark.parametrize(
    ("what", "line"), [("ffffffff", "no message 'ffffffff' in "), ("u2", None), ("u1", "'u1' means 2 messages (")]
)
def test_an_id_means_one_message(packs: Path, capsys: pytest.CaptureFixture[str], what: str, line: str | None) -> None:
    assert call(["archive", "show", str(packs), what]) == (2 if line else 0)
    assert capsys.readouterr().err.startswith(f"syncd: {line}" if line else "")


def test_damage_is_found_when_a_message_is_shown(packs: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    damage(packs)
    assert call(["archive", "show", str(packs), sha("spring")]) == 1
    shown = capfdbinary.readouterr()
    assert b"000001.mbox.zst" in shown.err
    assert shown.err.count(b"\n") == 1


# --- check ---------------------------------------------------------------------------------------------


def test_a_sound_archive(packs: Path, maildir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["archive", "check", str(packs)]) == 0
    assert capsys.readouterr().out == f"{packs}: sound; 3 messages, {sum(map(len, MAIL.values()))} B\n"
    assert call(["archive", "check", str(maildir), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_an_archive_that_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("syncd.toml").write_text('[archives.home]\npath = "packs"\n')
    assert call(["archive", "check", "home"]) == 7
    assert capsys.readouterr().err.endswith("`syncd run JOB --refill` begins a new one and fills it\n")


def test_damage_is_named_by_file_and_offset(packs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    offset = damage(packs)
    assert call(["archive", "check", str(packs)]) == 8
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{packs}/packs/000001.mbox.zst at offset {offset}: ")
    assert call(["archive", "check", str(packs), "--json"]) == 8
    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == 8
    assert document["findings"][0]["offset"] == offset


def test_what_the_ledger_misses(
    packs: Path, maildir: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    view = opened(maildir)
    assert isinstance(view, MaildirView)
    spring = next(entry for entry in view.entries() if entry.subject == "Frühling")
    sound, other = Delivered(Body.of(MAIL["spring"]).sha256, spring.id), Delivered(b"x" * 32, spring.id)
    gone = Delivered(b"x" * 32, "0" * 24)
    assert list(view.missing([sound])) == []
    assert [finding.file for finding in view.missing([other, gone])] == [
        str(maildir / spring.id),
        str(maildir / gone.hint),
    ]
    monkeypatch.setattr(service, "_delivered", lambda *_: [sound, gone])
    Path("syncd.toml").write_text("")
    assert call(["archive", "check", str(packs)]) == 8
    lost = "message " + gone.sha256.hex() + " is not here, and the ledger says it was delivered here"
    assert capsys.readouterr().out.splitlines()[0] == f"{packs}: {lost}"


def unreadable(maildir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that the disk does not give."""
    path, open_ = next((maildir / "new").iterdir()), Folder.open

    def fail(folder: Folder, name: str) -> int:
        if name.endswith(path.name):
            raise OSError(errno.EIO, "Input/output error")
        return open_(folder, name)

    monkeypatch.setattr(Folder, "open", fail)
    return path


def test_a_file_that_cannot_be_read(maildir: Path, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    path = unreadable(maildir, monkeypatch)
    (finding,) = opened(maildir).check(lambda *_: None)
    assert finding == Finding(str(path), None, finding.what)
    assert finding.what.startswith(f"cannot read {path}: Input/output error")


# --- stats and export ----------------------------------------------------------------------------------


def test_figures(packs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["archive", "stats", str(packs), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["messages"], document["places"], document["accounts"], document["files"]) == (3, 4, 2, 1)
    assert document["octets"] == sum(map(len, MAIL.values()))
    assert call(["archive", "stats", str(packs)]) == 0
    assert "seen at 4 places of 2 accounts" in capsys.readouterr().out


def test_export(packs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["archive", "export", str(packs), "out", "--format", "eml", "--account", "road"]) == 0
    assert capsys.readouterr().out == "2 messages (193 B) written as eml: 1 mailbox in out\n"
    first, second = sorted(Path("out").glob("*/*/*.eml"))
    assert [first.read_bytes(), second.read_bytes()] == [MAIL["spring"], MAIL["old"]]
    assert datetime.fromtimestamp(first.stat().st_mtime, UTC) == datetime(2026, 3, 1, 11, tzinfo=UTC)
    assert call(["archive", "export", str(packs), "out", "--format", "mbox"]) == 2
    assert "out is not an empty folder" in capsys.readouterr().err


def test_what_an_export_keeps_on_disk_for_a_moment_goes_with_the_next_one(
    packs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system without unnamed files, one that was left beside the export made the folder not empty."""
    made, folders = tempfile.TemporaryFile, set[str]()

    def see(**options: Any) -> IO[bytes]:
        folders.add(str(options["dir"]))
        return made(**options)

    monkeypatch.setattr(tempfile, "TemporaryFile", see)
    monkeypatch.setattr("syncd.mail.body.MEMORY_CAP_OCTETS", 10)
    assert call(["archive", "export", str(packs), "out", "--format", "mbox"]) == 0
    assert folders == {"out/syncd-export.unfinished/files"}
    assert not Path("out/syncd-export.unfinished").exists()


def test_flags_before_messages_are_for_an_mbox(packs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["archive", "export", str(packs), "out", "--format", "eml", "--status"]) == 2
    assert "--status is for --format mbox" in capsys.readouterr().err
    assert not Path("out").exists()


def test_flags_that_an_mbox_does_not_get_are_told(maildir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["archive", "export", str(maildir), "out", "--format", "mbox"]) == 0
    assert capsys.readouterr().err == "1 message: flags and keywords are not written; --status writes the flags\n"
    assert call(["archive", "export", str(maildir), "again", "--format", "mbox", "--status"]) == 0
    assert capsys.readouterr().err == ""
    assert call(["archive", "export", str(maildir), "maildirs", "--format", "maildir"]) == 0
    assert capsys.readouterr().err == ""


def test_export_of_a_maildir(maildir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["archive", "export", str(maildir), "out", "--format", "mbox", "--status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["messages"] == 4
    (inbox,) = Path("out").glob("*/INBOX.mbox")
    text = inbox.read_bytes()
    assert text.count(b"\nFrom ") == 1
    assert b"\n>From here\n" in text
    assert b"Status: RO\n" in text


def test_export_leaves_out_what_is_damaged_and_says_so(packs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It stopped there, and what lay behind could not be had."""
    offset = damage(packs)
    more = message(5, ROAD, b"u5", b"Subject: behind\r\n\r\n")
    store(packs, more)
    assert call(["archive", "export", str(packs), "out", "--format", "eml", "--json"]) == 8
    shown = capsys.readouterr()
    assert (json.loads(shown.out)["messages"], json.loads(shown.out)["lost"]) == (1, 4)
    assert f"000001.mbox.zst at offset {offset}: " in shown.err
    assert "4 messages cannot be read" in shown.err
    assert shown.err.count("\n") == 1
    assert [file.read_bytes() for file in Path("out").glob("*/*/*.eml")] == [b"Subject: behind\r\n\r\n"]


def test_list_names_what_is_damaged(
    packs: Path, maildir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(packs)
    store(packs, message(5, ROAD, b"u5", b"Subject: behind\r\n\r\n"))
    assert call(["archive", "list", str(packs)]) == 8
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 5  # with the head
    assert shown.out.splitlines()[-1].endswith("behind")
    assert "3 messages cannot be read" in shown.err
    unreadable(maildir, monkeypatch)
    assert call(["archive", "list", str(maildir), "--json"]) == 8
    shown = capsys.readouterr()
    assert sum("cannot read" in entry["damage"] for entry in json.loads(shown.out)) == 1
    assert call(["archive", "export", str(maildir), "out", "--format", "mbox"]) == 8
    assert capsys.readouterr().out.startswith("3 messages ")


def test_a_pack_that_is_away_costs_its_messages_only(packs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = PacksArchive(packs, seal_octets=1)
    archive.open()
    assert list(archive.deliver([message(5, ROAD, b"u5", b"Subject: behind\r\n\r\n")]))
    archive.close()
    (packs / "packs/000001.mbox.zst").rename("aside")
    (packs / "packs/000001.mbox.zst").mkdir()
    assert call(["archive", "list", str(packs)]) == 8
    assert "000001.mbox.zst: it is not a regular file; move it away" in capsys.readouterr().err
    assert call(["archive", "check", str(packs)]) == 8
    first, *_ = capsys.readouterr().out.splitlines()
    assert "000001.mbox.zst" in first


def without_index(path: Path) -> Path:
    for file in path.glob("index.sqlite*"):
        file.unlink()
    return path / "packs" / "000001.mbox.zst"


def spoil_end(path: Path) -> None:
    file = without_index(path)
    octets = file.read_bytes()
    file.write_bytes(octets[:-1] + bytes([octets[-1] ^ 1]))


def cut_end(path: Path) -> None:
    file = without_index(path)
    file.write_bytes(file.read_bytes()[:-9])


def zeros(path: Path) -> None:
    without_index(path).write_bytes(bytes(5000))


def odd_frame(path: Path) -> None:
    append_frame(path, b'{"at": "yesterday"}')
    without_index(path)


@pytest.mark.parametrize("spoil", [spoil_end, cut_end, zeros, odd_frame])
@pytest.mark.parametrize("verb", [["list"], ["list", "--json"], ["check"], ["export", "out", "--format", "mbox"]])
def test_nothing_ends_well_where_messages_may_be_missing(
    packs: Path, capsys: pytest.CaptureFixture[str], verb: list[str], spoil: Callable[[Path], None]
) -> None:
    """Without an index, too, damage at the end was taken for an append that had been interrupted."""
    spoil(packs)
    name, *more = verb
    assert call(["archive", name, str(packs), *more]) == 8
    shown = capsys.readouterr()
    assert "000001.mbox.zst at offset " in (shown.out if name == "check" else shown.err)


def test_export_as_json_tells_what_was_left_out(packs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage(packs)
    without_index(packs)
    assert call(["archive", "export", str(packs), "out", "--format", "eml", "--json"]) == 8
    document = json.loads(capsys.readouterr().out)
    assert (document["messages"], document["lost"]) == (0, 0)
    ((why, number),) = [each.values() for each in document["left_out"]]
    assert (number, "the mail is damaged" in why) == (3, True)


@pytest.mark.parametrize("verb", ["list", "check", "export"])
def test_an_append_that_was_interrupted_is_no_damage(
    packs: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    whole = (packs / "packs/000001.mbox.zst").stat().st_size
    append_frame(packs, b'{"at": "2026-11-23T09:28:21Z"}')
    os.truncate(packs / "packs/000001.mbox.zst", whole + 40)
    more = ["out", "--format", "mbox"] if verb == "export" else []
    assert call(["archive", verb, str(packs), *more]) == 0
    assert "damaged" not in "".join(capsys.readouterr())


STRANGERS: list[Callable[[Path], object]] = [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/etc/hostname")]


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize(
    "name", ["archive.json", "index.sqlite", "index.sqlite-wal", "index.sqlite-journal", "packs/000001.mbox.zst"]
)
@pytest.mark.parametrize("verb", ["list", "check", "stats", "export"])
def test_a_stranger_in_place_of_a_file_of_packs_is_never_waited_for(
    packs: Path, capsys: pytest.CaptureFixture[str], verb: str, name: str, stranger: Callable[[Path], object]
) -> None:
    (packs / name).unlink(missing_ok=True)
    stranger(packs / name)
    more = ["out", "--format", "mbox"] if verb == "export" else []
    code = call(["archive", verb, str(packs), *more])
    assert "bug" not in capsys.readouterr().err
    expected = {"archive.json": {1}, "packs/000001.mbox.zst": {0} if verb == "stats" else {8}}
    assert code in expected.get(name, {0})


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("verb", ["list", "check", "stats", "export"])
def test_strangers_among_the_files_of_a_maildir_are_no_messages(
    maildir: Path, capsys: pytest.CaptureFixture[str], verb: str, stranger: Callable[[Path], object]
) -> None:
    for name in ("cur/1700000000.x.host:2,S", "new/1700000001.y.host", "new/.nfs0001"):
        stranger(maildir / name)
    (maildir / ".Linked").symlink_to("/etc")
    more = ["out", "--format", "eml"] if verb == "export" else []
    assert call(["archive", verb, str(maildir), *more]) == 0
    shown = capsys.readouterr()
    assert "4 messages" in shown.out + shown.err
    assert call(["archive", "show", str(maildir), "1700000000"]) == 2
    if verb == "export":
        assert len(list(Path("out").rglob("*.eml"))) == 4


def test_check_tells_of_folders_that_are_links(
    maildir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere/cur").mkdir(parents=True)
    (maildir / ".Linked").symlink_to(tmp_path / "elsewhere")
    assert call(["archive", "check", str(maildir)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"{maildir}/.Linked: is a symbolic link: what is there is no part of the archive (harmless)"
    assert "sound; 4 messages" in second


def test_a_message_without_a_date_has_that_of_its_top_received_field(packs: Path, opened: Opened) -> None:
    trace = b"Received: from a by b;\r\n Fri, 6 Mar 2026 07:00:00 +0100\r\nReceived: c; 1 Jan 2001 00:00 +0000\r\n\r\n"
    store(packs, message(9, ROAD, b"u9", b"Date: soon\r\n" + trace))
    (entry,) = opened(packs).find("u9")
    assert entry.at == datetime(2026, 3, 6, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda path: (path / "packs").rename(path / "aside"), "has lost its folder"),
        (lambda path: (path / "archive.json").write_bytes(b"{"), "restore this file from a backup"),
        (lambda path: (path / "archive.json").unlink(), "is no archive of syncd"),
    ],
)
@pytest.mark.parametrize("verb", ["list", "check", "stats", "export"])
def test_an_archive_in_pieces_is_one_line(
    packs: Path, verb: str, spoil: Callable[[Path], object], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(packs)
    more = ["out", "--format", "eml"] if verb == "export" else []
    assert call(["archive", verb, str(packs), *more]) in {1, 6}
    shown = capsys.readouterr()
    assert line in shown.err
    assert str(packs) in shown.err
    assert (shown.out, shown.err.count("\n")) == ("", 1)


def test_a_folder_that_we_may_not_look_into(packs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was called a bug."""

    def lstat(_: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "lstat", lstat)
    with pytest.raises(StorageError, match=f"cannot look into {packs}: Permission denied; run as a user who may"):
        open_view(None, str(packs))


def test_a_reader_moves_a_file_while_we_look(maildir: Path, opened: Opened) -> None:
    found = opened(maildir).entries()
    first = next(found)
    for file in (maildir / "new").iterdir():
        file.rename(maildir / "cur" / f"{file.name}:2,S")
    rest = list(found)
    assert len({entry.id for entry in (first, *rest)}) == 4
