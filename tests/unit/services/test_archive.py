"""Archives as people look at them: the services, and the verbs that print what they find."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from syncd.cli.main import call
from syncd.destinations.maildir import MaildirArchive
from syncd.destinations.packs import PacksArchive
from syncd.errors import StorageError
from syncd.formats.packs.frame import Frame, scan
from syncd.mail.body import Body
from syncd.mail.message import Message, MessageRef, Origin
from syncd.services import archive as service
from syncd.services.archive import Filter, entries, open_shelf
from syncd.services.shelf import Finding, Held, Shelf
from syncd.services.shelf_maildir import MaildirShelf

ROAD = Origin(UUID(int=1), "road", b"INBOX", 1)
WORK = Origin(UUID(int=2), "work", b"Lists/caf=C3", 7)
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


def fill(archive: PacksArchive | MaildirArchive) -> Path:
    archive.create(uuid4())
    archive.open()
    messages = [
        Message(1, MessageRef(ROAD, b"u1", 1), Body.of(MAIL["spring"]), ("\\Seen",)),
        Message(2, MessageRef(ROAD, b"u2", 1), Body.of(MAIL["old"])),
        Message(3, MessageRef(WORK, b"u1", 1), Body.of(MAIL["plain"])),
        Message(4, MessageRef(WORK, b"u2", 1), Body.of(MAIL["old"])),
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
def opened() -> Iterator[Callable[[Path], Shelf]]:
    shelves: list[Shelf] = []

    def make(path: Path) -> Shelf:
        shelves.append(open_shelf(None, str(path)))
        return shelves[-1]

    yield make
    for shelf in shelves:
        shelf.close()


Opened = Callable[[Path], Shelf]


def store(path: Path, message: Message) -> None:
    archive = PacksArchive(path)
    archive.open()
    assert list(archive.deliver([message]))
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
    assert opened(maildir).uuid() == MaildirArchive(maildir).identity()


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
    assert (spring.accounts, spring.mailboxes, spring.octets) == (("road",), (b"INBOX",), len(MAIL["spring"]))
    assert spring.at == datetime(2026, 3, 1, 11, tzinfo=UTC)
    assert (spring.subject, spring.sender) == ("Frühling", "Lena <l@example.net>")
    assert old.accounts == ("road", "work")  # the same octets at two places
    assert plain.subject == ""
    assert plain.at is not None
    assert datetime.now(UTC) - plain.at < timedelta(hours=1)


def test_entries_of_a_maildir(maildir: Path, opened: Opened) -> None:
    found = {(entry.subject, entry.mailboxes) for entry in opened(maildir).entries()}
    assert found == {
        ("Frühling", (b"INBOX",)),
        ("\x1b[2Jold", (b"INBOX",)),
        ("", (b"Lists/caf=C3",)),
        ("\x1b[2Jold", (b"Lists/caf=C3",)),
    }


def test_filters(packs: Path, opened: Opened) -> None:
    shelf = opened(packs)

    def subjects(**which: object) -> list[str]:
        return [entry.subject for entry in entries(shelf, Filter(**which))]  # type: ignore[arg-type]

    assert subjects(account="work") == ["\x1b[2Jold", ""]
    assert subjects(account=str(ROAD.account)) == ["Frühling", "\x1b[2Jold"]
    assert subjects(account="nobody") == []
    assert subjects(since=datetime(2026, 1, 1, tzinfo=UTC)) == ["Frühling", ""]
    assert subjects(subject="FRÜH") == ["Frühling"]


def test_a_list_is_safe_to_look_at(packs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["archive", "list", str(packs)]) == 0
    shown = capsys.readouterr()
    head, _, old, _ = shown.out.splitlines()
    assert head.split() == ["DATE", "ACCOUNT", "OCTETS", "ID", "SUBJECT"]
    assert old.endswith(f"{sha('old')[:12]}  \\x1b[2Jold")
    assert "\x1b" not in shown.out
    assert shown.err == "3 messages\n"


def test_a_list_as_json(packs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["archive", "list", str(packs), "--json", "--account", "work"]) == 0
    old, plain = json.loads(capsys.readouterr().out)
    assert (old["id"], old["accounts"], plain["mailboxes"]) == (sha("old"), ["road", "work"], ["Lists/caf=C3"])
    assert call(["archive", "list", str(packs), "--json", "--subject", "nothing like it"]) == 0
    assert json.loads(capsys.readouterr().out) == []


# --- show ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(MAIL))
def test_show_gives_the_octets_as_they_were_received(
    packs: Path, capfdbinary: pytest.CaptureFixture[bytes], name: str
) -> None:
    assert call(["archive", "show", str(packs), sha(name)[:8]]) == 0
    assert capfdbinary.readouterr().out == MAIL[name]


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
    shelf = opened(maildir)
    assert isinstance(shelf, MaildirShelf)
    spring = next(entry for entry in shelf.entries() if entry.subject == "Frühling")
    sound, other = Held(Body.of(MAIL["spring"]).sha256, spring.id), Held(b"x" * 32, spring.id)
    gone = Held(b"x" * 32, "0" * 24)
    assert list(shelf.missing([sound])) == []
    assert [finding.file for finding in shelf.missing([other, gone])] == [
        str(maildir / spring.id),
        str(maildir / gone.hint),
    ]
    monkeypatch.setattr(service, "_held", lambda *_: [sound, gone])
    Path("syncd.toml").write_text("")
    assert call(["archive", "check", str(packs)]) == 8
    lost = "message " + gone.sha256.hex() + " is not here, and the ledger says it was delivered here"
    assert capsys.readouterr().out.splitlines()[0] == f"{packs}: {lost}"


def test_a_file_that_cannot_be_read(maildir: Path, opened: Opened) -> None:
    shelf = opened(maildir)
    name = next((maildir / "new").iterdir())
    name.unlink()
    name.mkdir()
    (finding,) = shelf.check(lambda *_: None)
    assert finding == Finding(str(name), None, f"cannot read {name}: Is a directory")


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


def test_export_of_a_maildir(maildir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["archive", "export", str(maildir), "out", "--format", "mbox", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["messages"] == 4
    (inbox,) = Path("out").glob("*/INBOX.mbox")
    text = inbox.read_bytes()
    assert text.count(b"\nFrom ") == 1
    assert b"\n>From here\n" in text
    assert b"Status: RO\n" in text


def test_export_leaves_out_what_is_damaged_and_says_so(packs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It stopped there, and what lay behind could not be had."""
    offset = damage(packs)
    more = Message(5, MessageRef(ROAD, b"u5", 1), Body.of(b"Subject: behind\r\n\r\n"))
    store(packs, more)
    assert call(["archive", "export", str(packs), "out", "--format", "eml", "--json"]) == 8
    shown = capsys.readouterr()
    assert (json.loads(shown.out)["messages"], json.loads(shown.out)["lost"]) == (1, 4)
    assert f"000001.mbox.zst at offset {offset}: " in shown.err
    assert "4 messages cannot be read" in shown.err
    assert shown.err.count("\n") == 1
    assert [file.read_bytes() for file in Path("out").glob("*/*/*.eml")] == [b"Subject: behind\r\n\r\n"]


def test_list_names_what_is_damaged(packs: Path, maildir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damage(packs)
    store(packs, Message(5, MessageRef(ROAD, b"u5", 1), Body.of(b"Subject: behind\r\n\r\n")))
    assert call(["archive", "list", str(packs)]) == 8
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 5  # with the head
    assert shown.out.splitlines()[-1].endswith("behind")
    assert "3 messages cannot be read" in shown.err
    name = next((maildir / "new").iterdir())
    name.unlink()
    name.mkdir()
    assert call(["archive", "list", str(maildir), "--json"]) == 8
    shown = capsys.readouterr()
    assert sum("cannot read" in entry["damage"] for entry in json.loads(shown.out)) == 1
    assert call(["archive", "export", str(maildir), "out", "--format", "mbox"]) == 8
    assert capsys.readouterr().out.startswith("3 messages ")


def test_a_pack_that_is_away_costs_its_messages_only(packs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = PacksArchive(packs, seal_octets=1)
    archive.open()
    assert list(archive.deliver([Message(5, MessageRef(ROAD, b"u5", 1), Body.of(b"Subject: behind\r\n\r\n"))]))
    archive.close()
    (packs / "packs/000001.mbox.zst").rename("aside")
    (packs / "packs/000001.mbox.zst").mkdir()
    assert call(["archive", "list", str(packs)]) == 8
    assert "000001.mbox.zst is not a regular file: 3 messages cannot be read" in capsys.readouterr().err
    assert call(["archive", "check", str(packs)]) == 8
    first, *_ = capsys.readouterr().out.splitlines()
    assert "000001.mbox.zst" in first


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
        open_shelf(None, str(packs))


def test_a_reader_moves_a_file_while_we_look(maildir: Path, opened: Opened) -> None:
    found = opened(maildir).entries()
    first = next(found)
    for file in (maildir / "new").iterdir():
        file.rename(maildir / "cur" / f"{file.name}:2,S")
    rest = list(found)
    assert len({entry.id for entry in (first, *rest)}) == 4
