"""The part of the demo that backs up an IMAP account: nested and oddly named mailboxes, twice."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from tests.demo import compare
from tests.demo.compare import must_be, must_equal
from tests.demo.terminal import Terminal
from tests.servers.dovecot import Dovecot
from tests.servers.imap import Letter, Login, Shown, fill, shown
from tests.support import mail

USER, JOB, ARCHIVE = "office", "office-backup", "office-archive"
CONFIG = """
# An IMAP account: all its mailboxes, but the one for junk, however it is called.
[accounts.office]
protocol = "imap"
host = "localhost"
port = {port}
ca_file = "ca.pem"
username = "office"
password = "env:DEMO_PASSWORD"

[archives.office-archive]
path = "office"

[jobs.office-backup]
source = "office"
destinations = ["office-archive"]
mailboxes = {{ include = ["*"], exclude = ['\\Junk', "Junk"] }}
"""
DATES = ("17-Jul-1996 02:44:25 -0700", "29-Feb-2004 23:59:59 +0100", " 1-Jan-2020 00:00:00 +0000")
FLAGS = (("\\Seen",), (), ("\\Seen", "\\Answered", "$label"), ("\\Flagged",))


def mailboxes() -> dict[str, list[Letter]]:
    """Names as they go over the wire, in modified UTF-7, with mail in them."""
    letters = [
        Letter(octets, FLAGS[number % len(FLAGS)], DATES[number % len(DATES)])
        for number, octets in enumerate(mail.realistic(60, seed=9))
    ]
    return {
        "INBOX": letters[:25],
        "Projekte": [],
        "Projekte.M&APw-ller &- S&APY-hne": letters[25:40],
        "Projekte.M&APw-ller &- S&APY-hne.2019": letters[40:45],
        "&ZeVnLIqe-": letters[45:52],
        "odd (name) #1": letters[52:58],
        "Junk": letters[58:],
    }


class Imap:
    """Backs up an account of `server` that is filled for this."""

    def __init__(self, server: Dovecot, folder: Path, terminal: Terminal) -> None:
        self._server = server
        self._folder = folder
        self._terminal = terminal

    def tell(self, password: str, must_have_fetched: Callable[[str, int], None]) -> None:
        """Raises Mismatch."""
        tell, server = self._terminal, self._server
        tell.part("An IMAP account, with all its mailboxes")
        server.add_user(USER, password)
        login = Login(server.host, server.imap_port, USER, password)
        fill(login, mailboxes())
        before = shown(login)
        with (self._folder / "syncd.toml").open("a") as file:
            file.write(CONFIG.format(port=server.imaps_port))
        tell.say(f"The same Dovecot speaks IMAP on port {server.imaps_port}.")
        tell.run("What the configuration has for it:", "tail", "-n", str(CONFIG.count("\n") - 1), "syncd.toml")
        tell.run("Each mailbox, and what a run would do with it.", "syncd", "check", "office")
        tell.run("Fetch everything, with flags, dates and names.", "syncd", "run", JOB)
        count = self._must_be_the_same(before)
        must_have_fetched(JOB, count)
        tell.run("The same command again asks one question for all mailboxes, and moves nothing.", "syncd", "run", JOB)
        must_have_fetched(JOB, 0)
        must_be("accounts that changed by it", int(shown(login) != before), 0)
        tell.good("nothing moved, and nothing changed on the server: not even what is marked as read")
        tell.run("Its mailboxes, from the archive.", "syncd", "archive", "list", ARCHIVE, "--mailboxes")

    def _must_be_the_same(self, before: dict[str, list[Shown]]) -> int:
        expected = Counter(
            sha256(message.octets).digest() for name, it in before.items() if name != "Junk" for message in it
        )
        out = self._folder / "office.eml"
        self._terminal.ask("syncd", "archive", "export", ARCHIVE, str(out), "--format", "eml")
        must_equal(compare.in_files(out), expected)
        shutil.rmtree(out)
        self._terminal.good(
            f"the {expected.total():,} messages on the server, read by Python's imaplib, and those exported from the"
            " archive have the same SHA-256, one by one"
        )
        return expected.total()
