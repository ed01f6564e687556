"""The demo's parts, in order: each shows something and then makes sure that it is so."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.demo import compare, letters
from tests.demo.again import Again
from tests.demo.compare import Digests, must_be, must_equal
from tests.demo.imap import Imap
from tests.demo.migration import Migration
from tests.demo.service import Serving
from tests.demo.terminal import Mismatch, Terminal, wait
from tests.servers.dovecot import Dovecot
from tests.servers.sink import Sink

PASSWORD = "demo"
POLL_S = 0.005
KILL_AT = 0.4  # of the second account's messages: then the batches on their way make it about half
COMMITTED = """\
SELECT count(*) FROM deliveries JOIN routes ON routes.id = route_id JOIN jobs ON jobs.id = job_id
WHERE jobs.name = ? AND deliveries.state = 2"""  # delivered, and committed as such

CONFIG = """\
# Written by `make demo`. This is all there is to a backup on the road.
state_directory = "state"

[accounts.road]
protocol = "pop3"
host = "localhost"
port = {port}
ca_file = "ca.pem"                # the demo's own certificate authority
username = "road"
password = "env:DEMO_PASSWORD"    # where the password is, never the password

[archives.home]
path = "home"

[jobs.road-backup]
source = "road"
destinations = ["home"]
leave_on_server = true            # the default: nothing is removed

# A second, larger account, with an archive of its own.
[accounts.old]
protocol = "pop3"
host = "localhost"
port = {port}
ca_file = "ca.pem"
username = "old"
password = "env:DEMO_PASSWORD"

[archives.attic]
path = "attic"

[jobs.old-backup]
source = "old"
destinations = ["attic"]
"""


class Story:
    """The demo in a folder of its own, against a running server that hands mail on to `sink`."""

    def __init__(self, server: Dovecot, sink: Sink, folder: Path, terminal: Terminal, mail: Path | None) -> None:
        self._server = server
        self._sink = sink
        self._folder = folder
        self._terminal = terminal
        self._mail = mail
        self._counts: dict[str, int] = {}

    def tell(self) -> None:
        """All of it. Raises Mismatch, NoMail."""
        self._prepare()
        self._backup()
        self._again()
        self._killed()
        self._checked()
        self._exported()
        self._over_imap()
        self._moved()
        self._sent_again()
        self._served()
        self._overview()

    def _prepare(self) -> None:
        tell, server = self._terminal, self._server
        tell.part("A POP3 account to back up")
        for user in ("road", "old"):
            server.add_user(user, PASSWORD)
        self._deliver("road", letters.first(self._mail))
        if not self._counts["road"]:
            raise letters.NoMail("there is no message in it")
        tell.say(f"A private Dovecot runs on {server.host}, POP3 over TLS on port {server.pop3s_port}.")
        tell.say(f'The account "road" has {self._counts["road"]:,} messages.')
        (self._folder / "syncd.toml").write_text(CONFIG.format(port=server.pop3s_port))
        (self._folder / "ca.pem").write_bytes(server.ca_file.read_bytes())
        tell.say(f"All the rest happens in {self._folder}; it is where the commands below run.")
        tell.run("The configuration of the first account:", "sed", "-n", "2,18p", "syncd.toml")
        tell.run("Sign in and say what a run would do; nothing is changed.", "syncd", "check", "road-backup")

    def _backup(self) -> None:
        self._terminal.part("The backup")
        self._terminal.run("Fetch everything, leave everything on the server.", "syncd", "run", "road-backup")
        self._must_have_fetched("road-backup", self._counts["road"])

    def _again(self) -> None:
        tell = self._terminal
        tell.part("Ten new messages arrive")
        self._deliver("road", letters.further())
        tell.run("The same command again fetches these ten, and nothing twice.", "syncd", "run", "road-backup")
        self._must_have_fetched("road-backup", letters.ADDED)
        tell.good(f"fetched {letters.ADDED}, left {self._counts['road']:,} on the server")

    def _killed(self) -> None:
        tell = self._terminal
        tell.part("A run is killed half-way, and goes on")
        self._deliver("old", letters.large())
        total = self._counts["old"]
        tell.say(f'A second account, "old", has {total:,} messages.')
        tell.announce("Its first run is killed half-way (SIGKILL): no time to save anything.", "syncd run old-backup")
        self._kill_at(int(total * KILL_AT))
        durable = self._durable("old-backup")
        tell.recover()
        tell.say(f"Killed. {durable:,} messages are in the archive for good.")
        tell.run("What the ledger knows of it:", "syncd", "status", "old-backup")
        tell.run("The same command takes the run over and goes on where it was.", "syncd", "run", "old-backup")
        self._must_have_fetched("old-backup", total)
        tell.good(
            f"{durable:,} before the kill and {total - durable:,} after it are {total:,}: no gap, nothing doubled"
        )
        twice = sum(session.retrieved for session in self._server.sessions("old", at_least=2)) - total
        tell.say(
            f"  The server was asked twice for {twice:,} that were on their way when the kill came (36 MiB at most)."
        )

    def _kill_at(self, messages: int) -> None:
        """Start the second account's run and kill it once so many messages are durable."""
        process = self._terminal.start("syncd", "run", "old-backup")
        try:
            while process.poll() is None and self._durable("old-backup") < messages:
                time.sleep(POLL_S)
            process.kill()
        except BaseException:
            wait(process)
            raise
        if process.wait() != -signal.SIGKILL:
            raise Mismatch("the run ended before it was killed")

    def _durable(self, job: str) -> int:
        """How many deliveries of a job are committed, from the ledger as it is this moment."""
        with closing(sqlite3.connect(f"file:{self._folder}/state/ledger.sqlite?mode=ro", uri=True)) as ledger:
            (count,) = ledger.execute(COMMITTED, (job,)).fetchone()
        return int(count)

    def _checked(self) -> None:
        tell = self._terminal
        tell.part("Is it all there, octet by octet?")
        for user, archive in (("road", "home"), ("old", "attic")):
            tell.run("Every octet is read again and held against its checksum.", "syncd", "archive", "check", archive)
            expected = compare.on_server(self._server.host, self._server.pop3_port, user, PASSWORD)
            must_equal(self._read_back(archive), expected)
            must_be(f'messages of "{user}" on the server', expected.total(), self._counts[user])
            tell.good(
                f"the {expected.total():,} messages on the server, read by other code than syncd's, and those exported"
                " from the archive have the same SHA-256, one by one"
            )

    def _read_back(self, archive: str) -> Digests:
        out = self._folder / f"{archive}.eml"
        self._terminal.ask("syncd", "archive", "export", archive, str(out), "--format", "eml")
        found = compare.in_files(out)
        shutil.rmtree(out)
        return found

    def _exported(self) -> None:
        tell = self._terminal
        tell.part("Out again, with and without syncd")
        tell.run("One mbox a mailbox, for other programs.", *"syncd archive export home exported --format mbox".split())
        found = compare.count_mbox(self._folder / "exported")
        must_be("messages that Python's mailbox module reads", found, self._counts["road"])
        tell.good(f"Python's mailbox module reads {found:,} messages from it")
        tell.pipe(
            "An archive is readable with zstd alone: it is one mbox.", "zstdcat home/packs/*.mbox.zst | head -n 12"
        )

    def _over_imap(self) -> None:
        Imap(self._server, self._folder, self._terminal).tell(PASSWORD, self._must_have_fetched)

    def _moved(self) -> None:
        Migration(self._server, self._folder, self._terminal).tell(PASSWORD, self._must_have_fetched)

    def _sent_again(self) -> None:
        road = (self._server.host, self._server.pop3_port, "road", PASSWORD)
        expected = compare.on_server(*road, form=compare.canonical)
        Again(self._server, self._sink, self._folder, self._terminal).tell(expected, PASSWORD)

    def _served(self) -> None:
        def deliver() -> int:
            self._deliver("road", letters.later())
            return self._counts["road"]

        Serving(self._folder, self._terminal, lambda: self._durable("road-backup")).tell(deliver)

    def _overview(self) -> None:
        tell = self._terminal
        tell.part("What has been done")
        tell.run("Every job and where its messages stand.", "syncd", "status")
        tell.run("The history; the killed run is in it, with both of its parts.", "syncd", "runs")

    def _deliver(self, user: str, messages: Iterator[bytes]) -> None:
        self._counts[user] = self._counts.get(user, 0) + self._server.deliver(user, messages)

    def _must_have_fetched(self, job: str, messages: int) -> None:
        (last,) = json.loads(self._terminal.ask("syncd", "runs", job, "--limit", "1", "--json"))
        must_be(f"messages fetched by the last run of {job}", last["counts"]["fetched"], messages)
