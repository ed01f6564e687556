"""The POP3 source against a real server: every octet of nasty and of real mail, over each kind of connection."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from syncd.errors import AuthRefused
from syncd.mail.body import header_hash
from syncd.mail.mailbox import MAILDROP
from syncd.net.endpoint import Endpoint
from syncd.net.tls import TlsPolicy
from syncd.secret import Secret
from syncd.sources.pop3.account import Pop3Options, Pop3Source
from tests.contract.pop3_kit import Plenty, listed, wanted
from tests.servers.dovecot import Dovecot
from tests.servers.maildrop import presented, servable
from tests.support import mail
from tests.support.delay import Delay

pytestmark = pytest.mark.servers

ROUND_TRIP_S = 0.04
ROUND_TRIPS_S = 6.9 * ROUND_TRIP_S + 0.1  # six of them, and what a listing takes
TRIES = 20  # the quickest shows the round trips, the others how busy the machine is


def source(dovecot: Dovecot, user: str, spool: Path, security: str = "tls", port: int | None = None) -> Pop3Source:
    usual = dovecot.pop3s_port if security == "tls" else dovecot.pop3_port
    endpoint = Endpoint(
        host="localhost",
        port=port or usual,
        security=security,
        username=user,
        password=lambda: Secret("secret"),
        allow_insecure=security == "none",
        tls=TlsPolicy(ca_file=dovecot.ca_file),
    )
    return Pop3Source(Pop3Options(endpoint, spool))


def fetch(account: Pop3Source) -> list[bytes]:
    """A whole session; SHA-256 of every message."""
    session = account.connect()
    maildrop = session.open(MAILDROP)
    digests = []
    for answer in maildrop.fetch(wanted(listed(maildrop)), Plenty()):
        assert answer is not None
        assert answer.body is not None
        digests.append(answer.body.sha256)
        answer.body.close()
    session.finish()
    return digests


@pytest.mark.parametrize("security", ["none", "starttls", "tls"])
def test_nasty_mail_comes_octet_by_octet(dovecot: Dovecot, user: str, tmp_path: Path, security: str):
    messages = [message for message in mail.nasty().values() if servable(message)]
    messages += mail.small(200, seed=1)
    messages += mail.realistic(100, seed=1)
    dovecot.deliver(user, messages)
    assert fetch(source(dovecot, user, tmp_path, security)) == [
        hashlib.sha256(presented(message)).digest() for message in messages
    ]


def test_real_mail_comes_octet_by_octet(dovecot: Dovecot, user: str, tmp_path: Path):
    """All of the corpus where there is one, and what the project ships."""
    messages = [message for message in (*mail.samples().values(), *mail.corpus()) if servable(message)]
    dovecot.deliver(user, messages)
    assert fetch(source(dovecot, user, tmp_path)) == [
        hashlib.sha256(presented(message)).digest() for message in messages
    ]


def test_headers_are_recognised_by_top(dovecot: Dovecot, user: str, tmp_path: Path):
    messages = list(mail.small(300, seed=2))
    dovecot.deliver(user, messages)
    session = source(dovecot, user, tmp_path).connect()
    maildrop = session.open(MAILDROP)
    found = dict(maildrop.headers(wanted(listed(maildrop))))
    session.finish()
    assert {key: header and header_hash(header) for key, header in found.items()} == {
        number: header_hash(message) for number, message in enumerate(messages, 1)
    }


def test_removal_is_final_only_after_finish(dovecot: Dovecot, user: str, tmp_path: Path):
    dovecot.deliver(user, list(mail.small(250, seed=3)))
    account = source(dovecot, user, tmp_path)
    session = account.connect()
    rows = listed(maildrop := session.open(MAILDROP))
    assert all(answer.error is None for answer in maildrop.remove(wanted(rows[:240])))
    session.close()
    session = account.connect()
    assert listed(maildrop := session.open(MAILDROP)) == rows
    assert all(answer.error is None for answer in maildrop.remove(wanted(rows[:240])))
    session.finish()
    session = account.connect()
    assert [row.uid for row in listed(session.open(MAILDROP))] == [row.uid for row in rows[240:]]
    session.finish()


def test_a_wrong_password(dovecot: Dovecot, user: str, tmp_path: Path):
    options = source(dovecot, user, tmp_path)._options
    options = replace(options, endpoint=replace(options.endpoint, password=lambda: Secret("guess")))
    with pytest.raises(AuthRefused, match=r"\[AUTH\] “.*”; check the account's username and password"):
        Pop3Source(options).connect()


def test_a_listing_costs_few_round_trips(dovecot: Dovecot, user: str, tmp_path: Path):
    """Connect (1), greeting (1), CAPA, sign-in, STAT+LIST+UIDL, QUIT: six, whatever is listed."""
    dovecot.deliver(user, list(mail.small(2000, seed=4)))
    fetch(source(dovecot, user, tmp_path, "none"))  # so that the server's index is warm
    with Delay((dovecot.host, dovecot.pop3_port), one_way_s=ROUND_TRIP_S / 2) as far:
        options = source(dovecot, user, tmp_path, "none", far.port)._options
        endpoint = replace(options.endpoint, auth="plain")  # SCRAM, which "auto" takes, costs two more
        account = Pop3Source(replace(options, endpoint=endpoint))
        took: list[float] = []
        while len(took) < TRIES and min(took, default=ROUND_TRIPS_S) >= ROUND_TRIPS_S:
            began = time.monotonic()
            session = account.connect()
            assert len(listed(session.open(MAILDROP))) == 2000
            session.finish()
            took.append(time.monotonic() - began)
    assert min(took) < ROUND_TRIPS_S


PEAK = """
import sys
from pathlib import Path
from syncd.secret import Secret
from syncd.mail.listing import Wanted
from syncd.mail.mailbox import MAILDROP
from syncd.net.endpoint import Endpoint
from syncd.sources.pop3.account import Pop3Options, Pop3Source
def peak():  # not ru_maxrss, which a process has from its parent
    return int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])
class Plenty:
    longest = 2 << 20
    def try_take(self, octets): return True
    def take(self, octets): pass
    def grow(self, octets): return True
    def shrink(self, octets): pass
port, user, spool, octets = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
endpoint = Endpoint("localhost", port, "none", user, lambda: Secret("secret"), allow_insecure=True)
session = Pop3Source(Pop3Options(endpoint, spool)).connect()
maildrop = session.open(MAILDROP)
rows = [row for chunk in maildrop.list() for row in chunk]
before = peak()
for answer in maildrop.fetch([Wanted(1, *row) for row in rows], Plenty()):
    assert answer.body.octets >= octets
    answer.body.close()
session.finish()
print(peak() - before)
"""


def test_memory_is_flat_for_a_message_of_64_mib(dovecot: Dovecot, user: str, tmp_path: Path):
    octets = 64 << 20
    dovecot.deliver(user, [b"".join(mail.huge(octets, seed=5))])
    arguments = [str(dovecot.pop3_port), user, str(tmp_path), str(octets)]
    run = subprocess.run([sys.executable, "-c", PEAK, *arguments], check=True, capture_output=True, text=True)
    assert int(run.stdout) < 12 << 10, "KiB more than before the message came"
