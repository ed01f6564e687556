"""Mail that was pulled is delivered again: to an authenticated Postfix over TLS, to Dovecot's LMTP, to aiosmtpd.

What arrives is held against what the POP3 server presented, octet by octet, below the trace fields on top.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import pytest

from syncd.cli.main import call
from syncd.engine.events import RunReport
from syncd.engine.exit_codes import ExitCode
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from tests.e2e.test_runs import Bench, some
from tests.servers.dovecot import Dovecot
from tests.servers.maildrop import as_stored, presented, servable
from tests.servers.postfix import Postfix
from tests.servers.sink import Sink
from tests.support import mail
from tests.support.trace import Digests, identity, originals

pytestmark = pytest.mark.servers

HOME = 'home = { path = "home" }'


class Redelivery(Bench):
    """Runs that end at a mail server."""

    def __init__(self, directory: Path, server: Dovecot, user: str) -> None:
        super().__init__(directory, server, user)
        self.recipient = f"{user}-again@example.org"
        self.sent: list[bytes] = []

    def deliver(self, messages: Iterable[bytes]) -> None:
        kept = list(messages)
        super().deliver(kept)
        self.sent += map(presented, kept)

    def redeliver(self, relay: str, destinations: str = "", *archives: str) -> None:
        """Write a configuration with the account `relay`; `destinations` is a TOML list, usually the relay alone."""
        self.configure(f"destinations = {destinations or self.again()}", *archives, extra=f"[accounts.relay]\n{relay}")

    def again(self, *first: str, recipient: str = "") -> str:
        """The list of destinations: archives by name, then the relay."""
        names = "".join(f'"{name}", ' for name in first)
        return f'[{names}{{ to = "relay", recipient = "{recipient or self.recipient}" }}]'

    def run_all(self) -> list[RunReport]:
        """Every job of the configuration, in its order."""
        return RunsByHand(self.loaded(), [], RunOptions(), self.events.append).execute()

    @property
    def files(self) -> Digests:
        """SHA-256 of what should arrive, with LF as receivers store it."""
        return Counter(sha256(as_stored(message)).digest() for message in self.sent)


@pytest.fixture
def bench(tmp_path: Path, dovecot: Dovecot, user: str) -> Redelivery:
    return Redelivery(tmp_path, dovecot, user)


def postfix_account(postfix: Postfix, user: str, *, port: int = 0, security: str = "tls") -> str:
    """The TOML table of an authenticated submission server."""
    return (
        f'protocol = "smtp"\nhost = "localhost"\nport = {port or postfix.ports.submissions}\nsecurity = "{security}"\n'
        f'ca_file = "{postfix.ca_file}"\nusername = "{user}"\npassword = "env:PASSWORD"\n'
    )


def lmtp_account(dovecot: Dovecot) -> str:
    return (
        f'protocol = "lmtp"\nhost = "{dovecot.host}"\nport = {dovecot.lmtp_port}\n'
        'security = "none"\nallow_insecure = true\n'
    )


def sink_account(sink: Sink) -> str:
    return f'protocol = "smtp"\nhost = "{sink.host}"\nport = {sink.port}\nsecurity = "none"\nallow_insecure = true\n'


def of_all_sorts(*, real: bool = True) -> list[bytes]:
    """What the project ships, generated mail, and the real mail where there is some and it is asked for."""
    found = [*mail.samples().values(), *mail.realistic(40, seed=7), *(mail.corpus() if real else ())]
    return [message for message in found if servable(message)]


@pytest.mark.parametrize(
    ("way", "security"), [("submissions", "tls"), ("without_bdat", "tls"), ("submission", "starttls")]
)
def test_pop3_to_an_authenticated_postfix(bench: Redelivery, postfix: Postfix, way: str, security: str):
    """BDAT, DATA, and BDAT after STARTTLS."""
    port: int = getattr(postfix.ports, way)
    bench.redeliver(postfix_account(postfix, bench.user, port=port, security=security))
    bench.deliver(of_all_sorts(real=security == "tls"))  # once each by BDAT and DATA
    report = bench.run()
    assert report.exit_code is ExitCode.DONE, report.errors
    assert report.delivered == {"relay": len(bench.sent)}
    assert originals(postfix.received(bench.recipient, at_least=len(bench.sent))) == bench.files
    again = bench.run()
    assert (again.exit_code, again.fetched, again.delivered) == (ExitCode.DONE, 0, {})
    assert len(postfix.received(bench.recipient)) == len(bench.sent)


def test_pop3_to_dovecot_lmtp(bench: Redelivery, dovecot: Dovecot):
    dovecot.add_user(f"{bench.user}-again")
    bench.redeliver(lmtp_account(dovecot))
    bench.deliver(of_all_sorts())
    report = bench.run()
    assert report.exit_code is ExitCode.DONE, report.errors
    assert originals(dovecot.received(f"{bench.user}-again")) == bench.files


def test_an_independent_receiver_agrees_about_every_nasty_message(bench: Redelivery):
    """aiosmtpd knows DATA alone: bare CR and LF come as CRLF, everything else as it was."""
    bench.deliver(message for message in mail.nasty().values() if servable(message))
    bench.deliver(of_all_sorts())
    with Sink() as sink:
        bench.redeliver(sink_account(sink))
        report = bench.run()
        arrived = sink.received(bench.recipient)
    assert report.exit_code is ExitCode.DONE, report.errors
    wanted = Counter(sha256(re.sub(rb"\r\n|\r|\n", b"\r\n", message)).digest() for message in bench.sent)
    assert originals(arrived) == wanted
    assert len({identity(octets) for octets in arrived}) == len(arrived)


def test_what_smtp_deferred_is_read_from_the_archive_later(
    bench: Redelivery, dovecot: Dovecot, monkeypatch: pytest.MonkeyPatch
):
    bench.deliver(some(20))
    bench.recipient = f"later-{bench.recipient}"
    with Postfix(dovecot) as server:
        bench.redeliver(postfix_account(server, bench.user), bench.again("home"), HOME)
        report = bench.run()
        assert (report.exit_code, report.delivered) == (ExitCode.TEMPORARY, {"home": 20}), report.errors
        assert server.received(bench.recipient) == []
        server.restart({"smtpd_recipient_restrictions": "permit"})
        monkeypatch.setenv("PASSWORD", "secret")
        assert call(["retry", "backup", "deferred", "-c", str(bench.directory / "syncd.toml")]) == 0
        again = bench.run()
        assert (again.exit_code, again.delivered) == (ExitCode.DONE, {"relay": 20}), again.errors
        assert (again.backfilled, again.fetched) == (20, 0)
        assert originals(server.received(bench.recipient, at_least=20)) == bench.files
    assert bench.held() == bench.expected
    assert bench.retrieved(2)[-2:] == [20, 0]


def test_one_job_into_an_archive_and_the_next_from_there(bench: Redelivery, postfix: Postfix):
    """A slow relay never keeps a POP3 session open."""
    bench.deliver(some(20) + list(mail.samples().values()))
    bench.configure(
        f'destinations = ["home"]\n[jobs.forward]\nsource = "home"\ndestinations = {bench.again()}',
        HOME,
        extra=f"[accounts.relay]\n{postfix_account(postfix, bench.user)}",
    )
    count = len(bench.sent)
    backup, forward = bench.run_all()
    assert (backup.exit_code, backup.delivered) == (ExitCode.DONE, {"home": count}), backup.errors
    assert (forward.exit_code, forward.delivered) == (ExitCode.DONE, {"relay": count}), forward.errors
    assert originals(postfix.received(bench.recipient, at_least=count)) == bench.files
    bench.deliver(some(5, seed=2))
    _, forward = bench.run_all()
    assert forward.delivered == {"relay": 5}
    assert originals(postfix.received(bench.recipient, at_least=count + 5)) == bench.files


def test_each_recipient_is_a_delivery_of_its_own(bench: Redelivery, postfix: Postfix):
    bench.deliver(some(3))
    refused = f"refused-{bench.user}@example.org"
    recipients = f'[{{ to = "relay", recipient = ["{bench.recipient}", "{refused}"] }}]'
    bench.redeliver(postfix_account(postfix, bench.user), recipients)
    report = bench.run()
    assert report.waiting_person > 0
    assert originals(postfix.received(bench.recipient, at_least=3)) == bench.files
    assert postfix.received(refused) == []


def test_a_wrong_password_sends_nothing(bench: Redelivery, postfix: Postfix, tmp_path: Path):
    bench.deliver(some(3))
    (tmp_path / "wrong").write_text("guess\n")
    (tmp_path / "wrong").chmod(0o600)
    bench.redeliver(postfix_account(postfix, bench.user).replace("env:PASSWORD", "file:wrong"))
    report = bench.run()
    assert report.exit_code is ExitCode.SIGN_IN_REFUSED, report.errors
    assert postfix.received(bench.recipient) == []


def test_what_is_too_large_for_the_server_is_not_sent_and_the_rest_is(bench: Redelivery, dovecot: Dovecot):
    large = b"Subject: large\r\n\r\n" + b"a line of text\r\n" * 5_000
    bench.deliver([*some(3), large, *some(3, seed=2)])
    with Postfix(dovecot, {"message_size_limit": "20000"}) as server:
        bench.redeliver(postfix_account(server, bench.user))
        report = bench.run()
        assert (report.exit_code, report.delivered, report.waiting_person) == (ExitCode.WAITING, {"relay": 6}, 1)
        arrived = originals(server.received(bench.recipient, at_least=6))
    assert bench.files - arrived == Counter({sha256(as_stored(large)).digest(): 1})
    assert not arrived - bench.files


@pytest.mark.parametrize("connections", [1, 4])
def test_dovecot_submission_over_one_and_several_connections(bench: Redelivery, connections: int):
    """Its 2.3 dies of a message that begins before the last one is answered."""
    bench.deliver(of_all_sorts()[:60])
    with Sink() as sink, Dovecot(relay=(sink.host, sink.port)) as server:
        server.add_user("me")
        bench.redeliver(
            f'protocol = "smtp"\nhost = "localhost"\nport = {server.submissions_port}\nconnections = {connections}\n'
            f'ca_file = "{server.ca_file}"\nusername = "me"\npassword = "env:PASSWORD"\n'
        )
        report = bench.run()
        arrived = [octets.replace(b"\r\n", b"\n") for octets in sink.received(bench.recipient)]
        assert "Panic" not in server.log()
    assert report.exit_code is ExitCode.DONE, report.errors
    assert originals(arrived) == bench.files
