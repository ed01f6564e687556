"""The private server itself: what it presents, what it counts, and that it leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import poplib
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from tests.servers.dovecot import POLL_S, PREFIX, STOP_TIMEOUT_S, Dovecot
from tests.servers.maildrop import presented, servable
from tests.support import mail

pytestmark = pytest.mark.servers


def sign_in(dovecot: Dovecot, user: str) -> poplib.POP3:
    client = poplib.POP3(dovecot.host, dovecot.pop3_port)
    try:
        client.user(user)
        client.pass_("secret")
    except poplib.error_proto:
        client.close()
        raise
    return client


def retrieve(client: poplib.POP3, number: int) -> bytes:
    """The octets of a message; poplib's own `retr` takes the line ends away."""
    client._putcmd(f"RETR {number}")  # type: ignore[attr-defined]
    client._getresp()  # type: ignore[attr-defined]
    lines: list[bytes] = []
    while (line := client.file.readline()) != b".\r\n":
        lines.append(line[1:] if line.startswith(b".") else line)
    return b"".join(lines)


def test_presents_the_octets_that_presented_computes(dovecot: Dovecot, user: str) -> None:
    stored = [octets for octets in mail.nasty().values() if servable(octets)]
    assert dovecot.deliver(user, stored, verbatim=True) == len(stored)
    client = sign_in(dovecot, user)
    assert [retrieve(client, n) for n in range(1, len(stored) + 1)] == [presented(octets) for octets in stored]
    client.quit()


def test_crlf_mail_is_stored_with_lf_and_comes_back_as_it_was(dovecot: Dovecot, user: str) -> None:
    sent = list(mail.realistic(20, seed=3))
    dovecot.deliver(user, sent)
    assert not any(b"\r" in file.read_bytes() for file in (dovecot.maildir(user) / "cur").iterdir())
    client = sign_in(dovecot, user)
    assert client.stat() == (20, sum(map(len, sent)))
    assert [retrieve(client, n) for n in range(1, 21)] == sent
    client.quit()


def test_a_streamed_message_comes_back(dovecot: Dovecot, user: str) -> None:
    chunks = list(mail.huge(3 << 20, seed=1))
    assert dovecot.deliver_stream(user, chunks) == sum(map(len, chunks))
    client = sign_in(dovecot, user)
    assert retrieve(client, 1) == b"".join(chunks)
    client.quit()


def test_counts_what_a_session_asked_for(dovecot: Dovecot, user: str) -> None:
    dovecot.deliver(user, mail.small(3, seed=1))
    client = sign_in(dovecot, user)
    client.top(1, 0)
    client.retr(2)
    client.retr(3)
    client.dele(3)
    client.quit()
    sign_in(dovecot, user).close()
    first, second = dovecot.sessions(user, at_least=2)
    assert (first.top, first.retrieved, first.deleted, first.messages) == (1, 2, 1, 3)
    assert (second.top, second.retrieved, second.deleted, second.messages) == (0, 0, 0, 2)


def test_tls_verifies_against_the_private_authority_only(dovecot: Dovecot, user: str) -> None:
    trusted = ssl.create_default_context(cafile=str(dovecot.ca_file))
    client = poplib.POP3_SSL("localhost", dovecot.pop3s_port, context=trusted)
    client.user(user)
    client.pass_("secret")
    client.quit()
    upgraded = poplib.POP3(dovecot.host, dovecot.pop3_port)
    upgraded.stls(trusted)
    upgraded.user(user)
    upgraded.pass_("secret")
    upgraded.quit()
    plain = socket.create_connection((dovecot.host, dovecot.pop3s_port))
    with plain, pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")


def test_apop(dovecot: Dovecot, user: str) -> None:
    client = poplib.POP3(dovecot.host, dovecot.pop3_port)
    assert client.apop(user, "secret").startswith(b"+OK")
    client.quit()


def test_settings_and_restart() -> None:
    with Dovecot({"login_greeting": "first"}) as server:
        server.add_user("u")
        server.deliver("u", mail.small(2, seed=2))
        client = sign_in(server, "u")
        before = client.uidl()[1]
        assert client.getwelcome().startswith(b"+OK first")
        client.quit()
        server.restart({"login_greeting": "second"})
        client = sign_in(server, "u")
        assert client.getwelcome().startswith(b"+OK second")
        assert client.uidl()[1] == before
        client.quit()


def test_nothing_is_left_after_the_block() -> None:
    with Dovecot() as server:
        family = psutil.Process(server.process_id).children(recursive=True)
        base = server.ca_file.parent
        assert family
    _, left = psutil.wait_procs(family, timeout=10)  # they end by themselves, some of them a moment after the server
    assert all(process.status() == psutil.STATUS_ZOMBIE for process in left)
    assert not base.exists()


def test_a_killed_parent_takes_the_server_with_it() -> None:
    script = (
        "import os, tests.servers.dovecot as d; s = d.Dovecot(); s.start();"
        "print(s.process_id, s.ca_file.parent, flush=True); os.kill(os.getpid(), 9)"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path.cwd(), check=False)
    pid, base = shown.stdout.split()
    with contextlib.suppress(psutil.NoSuchProcess):
        server = psutil.Process(int(pid))
        _, alive = psutil.wait_procs([server], timeout=10)
        assert all(process.status() == psutil.STATUS_ZOMBIE for process in alive)
    shutil.rmtree(base, ignore_errors=True)  # or another test's server has cleared it away


def test_what_a_killed_parent_left_is_cleared_away() -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    left = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{dead.pid}-", dir="/tmp"))
    with Dovecot() as server:
        assert not left.exists()
        with Dovecot():
            assert server.ca_file.exists()


def test_install_has_nothing_to_do_here() -> None:
    script = Path(__file__).with_name("install")
    done = subprocess.run([script], capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]})
    assert done.stdout == done.stderr == ""


def test_a_session_that_waits_for_its_client_can_be_ended(dovecot: Dovecot, user: str) -> None:
    with contextlib.closing(sign_in(dovecot, user)):
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while f"Login: user=<{user}>" not in dovecot.log():  # the client may know before the log does
            assert time.monotonic() < deadline
            time.sleep(POLL_S)
        dovecot.end_sessions(user)
        (ended,) = dovecot.sessions(user, at_least=1)
        assert ended.retrieved == 0
