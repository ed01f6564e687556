"""A TLS 1.2 server that asks to shake hands again in the middle of a session: the program `openssl`, talking POP3."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.errors import ConnectFailed
from syncd.net.endpoint import Endpoint
from syncd.net.tls import TlsPolicy
from syncd.secret import Secret
from syncd.sources.pop3.account import Pop3Options, Pop3Source
from syncd.sources.pop3.session import Pop3Session
from tests.contract.pop3_kit import Plenty, impatient, listed, wanted
from tests.servers.certificate import Authority
from tests.servers.dovecot import free_ports

HOST = "127.0.0.1"
MESSAGE = b"Subject: again\r\n\r\nand again\r\n"
ANSWERS = {
    b"CAPA": b"+OK\nUIDL\nUSER\n.\n",
    b"USER": b"+OK\n",
    b"PASS": b"+OK\n",
    b"STAT": b"+OK 1 30\n",
    b"LIST": b"+OK\n1 30\n.\n",
    b"LIST 1": b"+OK 1 30\n",
    b"UIDL": b"+OK\n1 a\n.\n",
    b"RETR 1": b"+OK\n" + MESSAGE.replace(b"\r\n", b"\n") + b".\n",
    b"QUIT": b"+OK\n",
}
AGAIN = b"r\n"  # at the start of what s_server reads: it asks the client to shake hands again

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl")


class Server:
    """`openssl s_server`, told what to say line by line. It shakes hands again in answer to the commands `again`."""

    def __init__(self, authority: Authority, *again: bytes) -> None:
        [self.port] = free_ports(1)
        keys = ("-key", str(authority.key_file), "-cert", str(authority.certificate_file))
        kind = ("-crlf", "-tls1_2", "-legacy_renegotiation", "-naccept", "1")
        self.process = subprocess.Popen(
            ["openssl", "s_server", "-accept", f"{HOST}:{self.port}", *keys, *kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.shaken = 0
        self._again = again
        self._thread = threading.Thread(target=self._talk, daemon=True)
        self._thread.start()

    def _say(self, text: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def _talk(self) -> None:
        assert self.process.stdout is not None
        waiting = b""  # the answer to say when the server has asked the client
        for line in self.process.stdout:
            command = line.strip()
            if command.startswith(b"CIPHER is"):
                self._say(b"+OK ready\n")
            elif command.startswith(b"SSL_do_handshake"):
                self.shaken += 1
                self._say(waiting)
            elif (answer := ANSWERS.get(command, ANSWERS.get(command.split(b" ")[0]))) is not None:
                waiting = answer
                self._say(AGAIN if command in self._again else answer)

    def stop(self) -> None:
        self.process.kill()
        self._thread.join()
        with contextlib.suppress(BrokenPipeError), self.process:
            pass  # closes its pipes


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), HOST)


@pytest.fixture
def server(authority: Authority) -> Iterator[Server]:
    running = Server(authority, b"PASS p", b"UIDL")
    yield running
    running.stop()


def connect(account: Pop3Source) -> Pop3Session:
    """A session, as soon as the server listens."""
    for _ in range(500):
        with contextlib.suppress(ConnectFailed):
            return account.connect()
        time.sleep(0.02)
    raise AssertionError("the server did not start")


def test_a_session_goes_on_when_the_server_asks_to_shake_hands_again(
    server: Server, authority: Authority, tmp_path: Path
):
    endpoint = Endpoint(HOST, server.port, "tls", "u", lambda: Secret("p"), tls=TlsPolicy(authority.ca_file))
    session = connect(Pop3Source(Pop3Options(endpoint, tmp_path, deadlines=impatient(greeting=10, reply=10, body=10))))
    try:
        [answer] = [answer for answer in session.fetch(wanted(listed(session)), Plenty()) if answer is not None]
        session.finish()
    finally:
        session.close()
    assert answer.body is not None
    assert answer.body.data == MESSAGE
    assert server.shaken == 2
