"""A maildrop, a job that hands its mail to a real server, and the proof: nothing lost, and no copy without a record.

A copy may be one too many only where the ledger recorded that an outcome was uncertain; whatever is at the destination
is read from its disk, below the trace fields on top.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256

from syncd.db.states import DeliveryState
from syncd.destinations.smtp.thread import PIPELINE_DEPTH
from tests.crash.site import JOB, Digests, Scenario, Site, prove_leases
from tests.servers.maildrop import as_stored, presented
from tests.servers.postfix import Postfix
from tests.support.trace import originals

LMTP = Scenario("lmtp", {})
SMTP = Scenario("smtp", {})
TWO = Scenario("two", {})  # recipients of each message, by LMTP
ONE_BY_ONE = Scenario("one by one", {})  # LMTP: the next message is sent when the last one is answered
ARCHIVED = Scenario("archived", {"packs": "packs"})  # an archive, and LMTP
RUNS = 4  # more than that many are never needed after one fault
CONNECTIONS = 2


def receivers(user: str, scenario: Scenario) -> list[str]:
    """Who gets the mail of a user."""
    return [f"{user}-again", *([f"{user}-too"] if scenario is TWO else [])]


@dataclass
class RelaySite(Site):
    """One case. `relay_port` is the destination's, unless something stands in between; `postfix` is there for SMTP."""

    postfix: Postfix | None = None
    relay_port: int = 0
    policy: str = "resend"
    connections: int = CONNECTIONS
    recipients: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.recipients = [f"{user}@example.org" for user in receivers(self.user, self.scenario)]
        self.relay_port = self.relay_port or self.destination[1]
        super().__post_init__()

    @property
    def destination(self) -> tuple[str, int]:
        """Where the server itself is."""
        if self.postfix is not None:
            return self.postfix.host, self.postfix.ports.submissions
        return self.server.host, self.server.lmtp_port

    def configure(self, port: int = 0) -> None:
        """Write the configuration; `port` is a new one of the POP3 server."""
        super().configure(port)
        to = f'{{ to = "relay", recipient = {self.recipients}, uncertain = "{self.policy}" }}'
        names = "".join(f'"{name}", ' for name in self.scenario.archives)
        text = self.config.read_text().replace(
            f"destinations = {list(self.scenario.archives)}", f"destinations = [{names}{to}]"
        )
        assert f"[jobs.{JOB}]" in text
        assert to in text
        self.config.write_text(f"{text}[accounts.relay]\n{self._account()}")

    def _account(self) -> str:
        common = f"port = {self.relay_port}\nconnections = {self.connections}\n"
        if self.postfix is None:
            if self.scenario is ONE_BY_ONE:
                common += "pipeline_messages = false\n"
            return f'protocol = "lmtp"\nhost = "127.0.0.1"\n{common}security = "none"\nallow_insecure = true\n'
        return (
            f'protocol = "smtp"\nhost = "localhost"\n{common}ca_file = "{self.postfix.ca_file}"\n'
            f'username = "{self.user}"\npassword = "file:password"\n'
        )

    def go_through(self, relay_port: int) -> None:
        """Reach the destination by another port from now on."""
        self.relay_port = relay_port
        self.configure()

    # --- what is where ------------------------------------------------------------------------------

    def arrived(self, recipient: str) -> Digests:
        """SHA-256 of every message that a recipient got, as files, as often as it is there."""
        if self.postfix is not None:
            return originals(self.postfix.received(recipient))
        return originals(self.server.received(recipient.partition("@")[0]))

    def uncertain(self, recipient: str) -> Digests:
        """How often the outcome of a delivery was recorded as uncertain, by the file that the message makes."""
        if not self.ledger.exists() or not self.query("SELECT 1 FROM sqlite_master WHERE name = 'uncertain_outcomes'"):
            return Counter()
        rows = self.query(
            "SELECT sha256 FROM uncertain_outcomes JOIN messages ON messages.id = message_id"
            f" JOIN routes ON routes.id = route_id WHERE target = '{recipient}'"
        )
        files = {sha256(octets).digest(): sha256(as_stored(octets)).digest() for octets in map(presented, self.mail)}
        return Counter(files[octets] for (octets,) in rows)  # type: ignore[index]  # a column of octets

    @property
    def all_uncertain(self) -> int:
        """How many uncertain outcomes are recorded."""
        return sum(self.uncertain(recipient).total() for recipient in self.recipients)

    def prove(self) -> None:
        """Every recipient has every message, copies are recorded as uncertain, and all the books are in order."""
        expected = self.expected_files
        for recipient in self.recipients:
            arrived = self.arrived(recipient)
            assert not expected - arrived, f"{(expected - arrived).total()} messages are lost"
            assert not arrived - expected - self.uncertain(recipient), "copies that no uncertain outcome explains"
        for name in self.scenario.archives:
            assert self.archived(name) == self.expected
        self.prove_ledger()

    def prove_ledger(self) -> None:
        """Each delivery is made, no run is queued or said to go on."""
        count = len(self.mail)
        deliveries = self.query("SELECT state, count(*) FROM deliveries GROUP BY state")
        assert deliveries == [(DeliveryState.DELIVERED, count * (len(self.scenario.archives) + len(self.recipients)))]
        assert self.open_runs() == []
        prove_leases(self.query("SELECT resource, holder FROM leases WHERE holder <> ''"))
        assert self.query("PRAGMA integrity_check") == [("ok",)]

    def resume_and_prove(self, *extra: str) -> None:
        """Run until all is done, prove, and run once more, which must find nothing to do."""
        codes = [self.run(*extra).code]
        while codes[-1] != 0 and len(codes) < RUNS:
            codes.append(self.run().code)
        assert codes[-1] == 0, codes
        depth = 1 if self.postfix is not None or self.scenario is ONE_BY_ONE else PIPELINE_DEPTH
        assert self.all_uncertain <= self.connections * depth
        self.prove()
        arrived = list(map(self.arrived, self.recipients))
        again = self.run()
        assert (again.code, again.stdout, again.stderr) == (0, "", "")
        assert list(map(self.arrived, self.recipients)) == arrived, "a run with nothing to do sent something"
