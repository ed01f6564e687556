"""An older copy of the ledger is put back: the next run says so, and is careful."""

from __future__ import annotations

import shutil
from pathlib import Path

from syncd.db.catalog import Catalog
from syncd.db.database import FILE_NAME
from syncd.db.restored import REASON
from syncd.engine.events import Event, Noted, RunReport
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from syncd.services.wiring import open_ledger, read_only
from syncd.settings.load import load
from tests.e2e.test_imap_migration import Bench, between
from tests.e2e.test_imap_migration import mail as letter
from tests.fakes.imap import FakeImap
from tests.fakes.pop3 import PASSWORD, USERNAME, FakePop3
from tests.support import mail

MAIL = list(mail.small(4, seed=6))


def test_f54_an_older_copy_is_noticed_once_and_nothing_is_fetched_again(tmp_path: Path) -> None:
    with FakePop3(MAIL) as server:
        (tmp_path / "syncd.toml").write_text(
            f'state_directory = "state"\n[archives]\nhome = {{ path = "home" }}\n'
            f'[accounts.road]\nprotocol = "pop3"\nhost = "{server.host}"\nport = {server.port}\n'
            f'security = "none"\nallow_insecure = true\nusername = "{USERNAME}"\npassword = "env:PASSWORD"\n'
            '[jobs.backup]\nsource = "road"\ndestinations = ["home"]\n'
        )
        loaded = load(tmp_path / "syncd.toml", environment={"PASSWORD": PASSWORD})
        events: list[Event] = []

        def run() -> RunReport:
            events.clear()
            [report] = RunsByHand(loaded, [], RunOptions(), events.append).execute()
            return report

        def told() -> bool:
            return any(isinstance(event, Noted) and REASON in event.text for event in events)

        server.messages, server.uids = MAIL[:2], [b"a", b"b"]
        assert run().fetched == 2
        state = tmp_path / "state"
        shutil.copy(state / FILE_NAME, tmp_path / "copy")
        server.messages, server.uids = MAIL, [b"a", b"b", b"c", b"d"]
        assert run().fetched == 2
        assert not told()
        for file in state.glob(f"{FILE_NAME}*"):
            file.unlink()
        shutil.copy(tmp_path / "copy", state / FILE_NAME)
        assert run().fetched == 0
        assert told()
        with open_ledger(loaded) as database:
            account = Catalog(database).find_account("road")
            assert account is not None
            assert [it.reason for it in read_only(database).mailboxes.frozen(account.id)] == [REASON]
        assert run().fetched == 0
        assert not told()


def test_f54_imap_mailboxes_tell_what_they_have_got_since(tmp_path: Path) -> None:
    """Mail that was delivered after the copy was made was put there a second time."""
    with FakeImap() as old, FakeImap() as new:
        new.box("Sent")
        bench: Bench = between(tmp_path, (old, new))
        old.box("INBOX").add(letter(1))
        assert bench.run().delivered == {"new": 1}
        state = tmp_path / "state"
        shutil.copy(state / FILE_NAME, tmp_path / "copy")
        old.box("INBOX").add(letter(2), letter(2), letter(3))
        old.box("Sent").add(letter(4))
        assert bench.run().delivered == {"new": 4}
        new.box("INBOX").expunge(4)  # its owner deleted the third
        for file in state.glob(f"{FILE_NAME}*"):
            file.unlink()
        shutil.copy(tmp_path / "copy", state / FILE_NAME)
        old.box("INBOX").add(letter(5))
        assert bench.run().delivered == {"new": 5}
        assert bench.run().delivered == {}
        inbox = sorted(one.octets for one in new.box("INBOX").mail)
        assert inbox == sorted(map(letter, (1, 2, 2, 3, 5))), "what is not there is not known to have been there"
        assert [one.octets for one in new.box("Sent").mail] == [letter(4)]
