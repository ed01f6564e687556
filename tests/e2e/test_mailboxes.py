"""A configuration says where mailboxes go in a Maildir, and how it is laid out."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

import pytest

from syncd.cli.main import call
from syncd.destinations.packs import PacksArchive
from syncd.mail.body import Body
from syncd.mail.mailbox import Epoch
from syncd.mail.mailbox import Path as MailboxPath
from syncd.mail.message import Key, Message, MessageRef, Origin, Uid

CONFIGURATION = """
state_directory = "state"
[archives]
home = { path = "home" }
mails = { path = "mails", format = "maildir", layout = "LAYOUT" }
[jobs.onwards]
source = "home"
destinations = [{ to = "mails", OPTIONS }]
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive of one account with four mailboxes, two of which read alike."""
    monkeypatch.chdir(tmp_path)
    archive = PacksArchive(tmp_path / "home")
    archive.create(uuid4())
    archive.open()
    boxes: list[tuple[bytes, MailboxPath]] = [
        (b"INBOX", ("INBOX",)),
        (b"Gesendet/2026", ("Gesendet", "2026")),
        (b"R&-D", ("R&D",)),
        (b"R&D", ("R&D",)),
    ]
    origins = [Origin(UUID(int=1), "road", name, Epoch(7), path) for name, path in boxes]
    messages = [
        Message(Key(n), MessageRef(origin, Uid(b"1"), 1), Body.of(b"%d\r\n" % n)) for n, origin in enumerate(origins)
    ]
    assert [len(group) for group in archive.deliver(messages)] == [4]
    archive.close()


def run(layout: str, options: str) -> int:
    Path("syncd.toml").write_text(CONFIGURATION.replace("LAYOUT", layout).replace("OPTIONS", options))
    return call(["run", "--quiet"])


def filed() -> set[str]:
    """Folders of the Maildir that have messages."""
    return {str(file.parent.parent.relative_to("mails")) for file in Path("mails").rglob("new/*.syncd")}


@pytest.mark.parametrize(
    ("layout", "folders"),
    [
        ("maildir++", {".Old.INBOX", ".Sent.2026", ".Old.R&-D", ".Research"}),
        ("nested", {"Old/INBOX", "Sent/2026", "Old/R&-D", "Research"}),
    ],
)
def test_mailboxes_go_where_the_job_says(layout: str, folders: set[str]) -> None:
    assert run(layout, 'prefix = "Old", map = { "Gesendet" = "Sent", "R&-D" = "Research" }') == 0
    assert filed() == folders


def test_mailboxes_that_would_become_one_wait_for_a_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("nested", 'prefix = "Old"') == 6
    assert filed() == {"Old/INBOX", "Old/Gesendet/2026"}
    assert "would become one mailbox in" in capsys.readouterr().err
    assert run("nested", 'prefix = "Old", map = { "R&D" = "Old/R&D" }') == 0
    assert filed() == {"Old/INBOX", "Old/Gesendet/2026", "Old/R&-D"}


def test_a_maildir_keeps_the_layout_that_it_was_made_with(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("maildir++", 'map = { "R&D" = "R" }') == 0
    assert run("nested", 'map = { "R&D" = "R" }') == 6
    assert 'has layout = "maildir++": set that, or make another one' in capsys.readouterr().err
