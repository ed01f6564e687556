"""Mbox files and folders of eml files: from other programs into IMAP, from servers into mbox, and back again."""

from __future__ import annotations

import mailbox
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from syncd.cli.main import call
from tests.servers.imap import FLAVOURS, DovecotImap, Letter, Login, dovecot, fill, shown

CONFIGURATION = """
state_directory = "state"
[accounts]
old = { protocol = "imap", ACCESS, username = "OLD" }
pop = { protocol = "pop3", POP, username = "OLD" }
new = { protocol = "imap", ACCESS, username = "NEW" }
[archives]
thunderbird = { path = "Mail", format = "mbox" }
packs = { path = "packs" }
second = { path = "second" }
files = { path = "files", format = "mbox" }
single = { path = "spool/mbox", format = "mbox" }
exported = { path = "exported", format = "eml" }
[jobs]
JOBS
"""
PATHS = ("INBOX", "Sent", "Projekte/M&APw-ller/2019", "R&-D &AOQ-")
DATE = "01-Feb-2019 03:04:05 +0000"


@pytest.fixture(scope="module")
def server() -> Iterator[DovecotImap]:
    with dovecot(FLAVOURS["slash"]) as server:
        yield server


@pytest.fixture
def logins(server: DovecotImap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Login, Login]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAIL_PASSWORD", "secret")
    return server.user(f"old-{tmp_path.name}"), server.user(f"new-{tmp_path.name}")


def configure(server: DovecotImap, logins: tuple[Login, Login], **jobs: str) -> None:
    """Write a configuration with jobs `name = "source destination"`."""
    access = 'host = "{}", port = {}, security = "none", allow_insecure = true, password = "env:MAIL_PASSWORD"'
    old, new = logins
    lines = []
    for name, way in jobs.items():
        source, destination = way.split()
        lines.append(f'{name} = {{ source = "{source}", destinations = ["{destination}"] }}')
    text = CONFIGURATION.replace("ACCESS", access.format(old.host, old.port))
    text = text.replace("POP", access.format(old.host, server.server.pop3_port))
    text = text.replace("OLD", old.username).replace("NEW", new.username).replace("JOBS", "\n".join(lines))
    Path("syncd.toml").write_text(text)


def contents(login: Login) -> dict[str, list[tuple[bytes, frozenset[str], str]]]:
    found = {name: [(it.octets, it.flags, it.date) for it in mails] for name, mails in shown(login).items()}
    return {name: sorted(mails, key=repr) for name, mails in found.items() if mails}


def letter(number: int, body: bytes = b"From here\r\n>From there\r\n") -> bytes:
    return b"Subject: %d\r\nMessage-ID: <%d@example.org>\r\n\r\n%b" % (number, number, body)


def plain(number: int) -> bytes:
    """A message that an mboxo gives back as it was."""
    return letter(number, b"From here\r\n> From there\r\n")


def some_mail() -> dict[str, list[Letter]]:
    flags = [(), ("\\Seen",), ("\\Flagged", "\\Answered", "$Work")]
    return {
        name: [Letter(letter(10 * place + number), flags[number], DATE) for number in range(3)]
        for place, name in enumerate(PATHS)
    }


@pytest.mark.servers
def test_from_a_server_through_files_of_each_kind_into_another_one(
    server: DovecotImap, logins: tuple[Login, Login], capsys: pytest.CaptureFixture[str]
) -> None:
    """Server → packs → mbox → eml → server: every mailbox, flag and date is there at the end, and each octet."""
    fill(logins[0], some_mail())
    configure(server, logins, keep="old packs", copy="packs files")
    assert call(["run", "--quiet"]) == 0
    assert call(["archive", "check", "files", "--quiet"]) == 0
    assert call(["archive", "export", "files", "exported", "--format", "eml", "--quiet"]) == 0
    configure(server, logins, restore="exported new", keep="exported second")
    for verb in (["config", "check"], ["doctor"], ["check"]):
        assert call([*verb, "--quiet"]) == 0
    assert call(["run", "--quiet"]) == 0
    assert contents(logins[1]) == contents(logins[0])
    assert call(["run", "--quiet"]) == 0
    assert contents(logins[1]) == contents(logins[0])
    capsys.readouterr()
    assert call(["archive", "list", "files", "--mailboxes"]) == 0
    assert "Projekte/Müller/2019" in capsys.readouterr().out


@pytest.mark.servers
def test_mbox_files_of_other_programs_go_into_imap_and_pop3_mail_into_mbox(
    server: DovecotImap, logins: tuple[Login, Login], tmp_path: Path
) -> None:
    (tmp_path / "Mail" / "Work.sbd").mkdir(parents=True)
    for name in ("Inbox", "Work.sbd/2019"):
        box = mailbox.mbox(tmp_path / "Mail" / name)
        for number in range(3):
            message = mailbox.mboxMessage(plain(number).replace(b"\r\n", b"\n"))
            message.set_flags("RA" if number == 1 else "O")
            message.set_from("anna@example.org Fri Feb  1 03:04:05 2019")
            box.add(message)
        box.close()
    (tmp_path / "Mail" / "Inbox.msf").write_text("an index")
    configure(server, logins, move="thunderbird old")
    assert call(["check", "--quiet"]) == 0
    assert call(["run", "--quiet"]) == 0
    there = contents(logins[0])
    assert set(there) == {"INBOX", "Work/2019"}
    flags = [frozenset[str](), frozenset({"\\Seen", "\\Answered"}), frozenset[str]()]
    expected = [(plain(number), flags[number], DATE) for number in range(3)]
    assert there["INBOX"] == there["Work/2019"] == sorted(expected, key=repr)
    assert call(["run", "--quiet"]) == 0
    assert contents(logins[0]) == there
    configure(server, logins, fetch="pop files")
    assert call(["run", "--quiet"]) == 0
    with closing(mailbox.mbox(tmp_path / "files" / "INBOX.mbox")) as box:
        assert [message["Subject"] for message in box] == ["0", "1", "2"]
    assert call(["run", "--quiet"]) == 0
    (tmp_path / "spool").mkdir()
    shutil.copy(tmp_path / "files" / "INBOX.mbox", tmp_path / "spool" / "mbox")
    configure(server, logins, restore="single new")
    assert call(["run", "--quiet"]) == 0
    assert [it[0] for it in contents(logins[1])["INBOX"]] == [plain(n) for n in range(3)]
