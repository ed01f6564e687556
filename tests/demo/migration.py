"""The part of the demo that moves the IMAP account to a second server: copied, compared, copied again, proved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.demo.compare import must_be
from tests.demo.imap import USER
from tests.demo.terminal import Mismatch, Terminal
from tests.servers.dovecot import Dovecot
from tests.servers.imap import FLAVOURS, Login, Shown, dovecot, shown

JOB = "office-move"
CONFIG = """
# The same user at the new server. Nothing is removed at the old one.
[accounts.office-new]
protocol = "imap"
host = "localhost"
port = {port}
ca_file = "ca-new.pem"
username = "office"
password = "env:DEMO_PASSWORD"

[jobs.office-move]
source = "office"
destinations = ["office-new"]
"""
Messages = dict[str, Counter[tuple[bytes, frozenset[str], str]]]


class Migration:
    """Moves the account that `Imap` has filled on `server` to another server, which runs meanwhile."""

    def __init__(self, server: Dovecot, folder: Path, terminal: Terminal) -> None:
        self._server = server
        self._folder = folder
        self._terminal = terminal

    def tell(self, password: str, must_have_fetched: Callable[[str, int], None]) -> None:
        """Raises Mismatch."""
        tell = self._terminal
        tell.part("The IMAP account moves to another server")
        old = Login(self._server.host, self._server.imap_port, USER, password)
        with dovecot(FLAVOURS["slash"]) as second:
            second.server.add_user(USER, password)
            new = Login(second.server.host, second.server.imap_port, USER, password)
            (self._folder / "ca-new.pem").write_bytes(second.server.ca_file.read_bytes())
            with (self._folder / "syncd.toml").open("a") as file:
                file.write(CONFIG.format(port=second.server.imaps_port))
            tell.say("A second private Dovecot is the new server. Its mailboxes have “/” between levels, not “.”.")
            tell.run("What the configuration has for it:", "tail", "-n", str(CONFIG.count("\n") - 1), "syncd.toml")
            tell.run("Copy every mailbox, with names, flags and dates.", "syncd", "run", JOB)
            count = self._must_be_equal(shown(old), shown(new))
            must_have_fetched(JOB, count)
            tell.run("The same command again moves nothing.", "syncd", "run", JOB)
            must_have_fetched(JOB, 0)
            tell.run(
                "The proof: every message of the old account, the ledger and the new account, compared.",
                *("syncd", "verify", JOB, "--report", "office-move.md"),
            )

    def _must_be_equal(self, old: Mapping[str, Sequence[Shown]], new: Mapping[str, Sequence[Shown]]) -> int:
        """Compare octets, flags and dates, mailbox by mailbox. Returns how many messages there are."""
        before = {name.replace(".", "/"): mails for name, mails in _messages(old).items()}
        after = _messages(new)
        if set(before) != {name for name in after if after[name] or name in before}:
            raise Mismatch(f"the new server has the mailboxes {sorted(after)}, the old one {sorted(before)}")
        count = sum(mails.total() for mails in before.values())
        alike = sum((mails & after[name]).total() for name, mails in before.items())
        must_be("messages that are equal on both servers", alike, count)
        must_be("messages on the new server", sum(mails.total() for mails in after.values()), count)
        self._terminal.good(
            f"{count:,} messages in {len(before)} mailboxes, read from both servers by Python's imaplib: the same"
            " octets, flags and dates"
        )
        return count


def _messages(account: Mapping[str, Sequence[Shown]]) -> Messages:
    return {name: Counter((it.octets, it.flags, it.date) for it in mails) for name, mails in account.items()}
