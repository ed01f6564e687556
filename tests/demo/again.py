"""The part of the demo that delivers mail again: out of an archive, through a submission server, to a receiver."""

from __future__ import annotations

import re
from pathlib import Path

from tests.demo import compare
from tests.demo.compare import Digests, must_be, must_equal
from tests.demo.terminal import Mismatch, Terminal
from tests.servers.dovecot import Dovecot
from tests.servers.sink import Sink

RECIPIENT = "me@example.org"
USER = "new"

CONFIG = """
# The mail of the archive once more, to another provider: a server and a login of its own.
[accounts.new]
protocol = "smtp"
host = "localhost"
port = {port}
ca_file = "ca.pem"
username = "new"
password = "env:DEMO_PASSWORD"

[jobs.forward]
source = "home"                   # the archive: the POP3 server is not asked again
destinations = [{{ to = "new", recipient = "me@example.org" }}]
"""
_SIGN_IN = re.compile(rf"submission-login: Info: Login: user=<{USER}>, method=([A-Z0-9-]+),.*, TLS")


class Again:
    """Delivers the archive `home` again through `server`, which hands on to `sink`."""

    def __init__(self, server: Dovecot, sink: Sink, folder: Path, terminal: Terminal) -> None:
        self._server = server
        self._sink = sink
        self._folder = folder
        self._terminal = terminal

    def tell(self, expected: Digests, password: str) -> None:
        """`expected` is the mail of the archive in canonical form. Raises Mismatch."""
        tell, server = self._terminal, self._server
        tell.part("Delivered again, by SMTP")
        server.add_user(USER, password)
        with (self._folder / "syncd.toml").open("a") as file:
            file.write(CONFIG.format(port=server.submissions_port))
        tell.say(f"Dovecot also takes mail: submission with TLS on port {server.submissions_port}, for who signs in.")
        tell.run("What the configuration has for it:", "tail", "-n", str(CONFIG.count("\n") - 1), "syncd.toml")
        tell.run("Send what is in the archive.", "syncd", "run", "forward")
        self._must_have_arrived(expected)
        tell.run("The same command again sends nothing twice.", "syncd", "run", "forward")
        must_be("messages that arrived", len(self._sink.arrivals), expected.total())
        first = self._folder / "arrived.eml"
        first.write_bytes(self._sink.arrivals[0].octets)
        tell.run(
            "One as it arrived: the server's line, our two, and below them every octet as it was.",
            *("sed", "-n", "1,12p", first.name),
        )

    def _must_have_arrived(self, expected: Digests) -> None:
        method = _SIGN_IN.search(self._server.log())
        if method is None:
            raise Mismatch("nobody signed in to the submission server inside TLS")
        must_equal(compare.as_sent(self._sink.received(RECIPIENT)), expected, "to be sent")
        self._terminal.good(
            f"{expected.total():,} messages arrived behind a server that syncd signed in to ({method[1]} inside TLS);"
            " below the trace lines each has the SHA-256 it had on the POP3 server"
        )
