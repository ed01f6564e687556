"""A cluster under attack: workers and schedulers on PostgreSQL and a broker, many mailboxes, and the proof afterwards.

Each job has a mailbox of its own, a fake server in the test's process that takes its time, and a Maildir. One more job
copies an IMAP mailbox into another one, at a server that stores messages slowly.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from sqlalchemy import select

from syncd.db.database import Database
from syncd.db.instants import from_microseconds
from syncd.db.models import definitions, jobs, runs
from syncd.db.states import RunState
from syncd.services.agenda import phase_key
from syncd.services.triggers import due_between
from tests.crash.member import Member
from tests.fakes import imap
from tests.fakes.imap import FakeImap
from tests.fakes.pop3 import CAPABILITIES, PASSWORD, USERNAME, FakePop3
from tests.servers.process import Breakable
from tests.support import mail
from tests.support.processes import letters, once_each, run, wait_for

SITE = "here"
SLOW_S = 0.02  # for each message, so that a kill finds transfers under way
HEAD = """
name = "cluster"
state_directory = "state"
database_url = "{database}"
broker_url = "{broker}"
[service]
listen = ""
log = "json"
"""
JOB = """
[accounts.{name}]
protocol = "pop3"
host = "127.0.0.1"
port = {port}
security = "none"
allow_insecure = true
username = "{user}"
password = "env:PASSWORD"
[archives.{name}-home]
path = "{name}"
format = "maildir"
site = "{site}"
[jobs.{name}]
source = "{name}"
destinations = ["{name}-home"]
schedule = "{schedule}"
"""
ACCOUNT = """
[accounts.{name}]
protocol = "imap"
host = "127.0.0.1"
port = {port}
security = "none"
allow_insecure = true
username = "{user}"
password = "env:PASSWORD"
"""
COPY = """
[jobs.copy]
source = "old"
destinations = ["new"]
schedule = "{schedule}"
"""
MANY = 60  # messages that are copied before more arrive
ENVIRONMENT = {"PASSWORD": PASSWORD}


class Cluster:
    """A context manager: at its end every process is gone."""

    def __init__(self, directory: Path, database: str, broker: str, number: int, schedule: str) -> None:
        self.directory = directory
        self.config = directory / "syncd.toml"
        self.servers = {f"job{at}": FakePop3(list(mail.small(4, seed=at))) for at in range(number)}
        self.old, self.new = FakeImap(), FakeImap()
        self.old.box("INBOX").add(*mail.small(MANY, seed=500))
        self._stack = ExitStack()
        self._url = database
        tables = "".join(
            JOB.format(name=name, port=server.port, user=USERNAME, site=SITE, schedule=schedule)
            for name, server in self.servers.items()
        )
        for name, peer in (("old", self.old), ("new", self.new)):
            tables += ACCOUNT.format(name=name, port=peer.port, user=imap.USERNAME)
        tables += COPY.format(schedule=schedule)
        self.config.write_text(HEAD.format(database=database, broker=broker) + tables)
        self.workers = [self._member("worker", at, "-c", "4", "--site", SITE, "--listen", "") for at in range(3)]
        self.schedulers = [self._member("scheduler", at, "--listen", "") for at in range(2)]

    def _member(self, role: str, at: int, *words: str) -> Member:
        return Member([role, *words], self.config, self.directory / f"{role}{at}.log", ENVIRONMENT)

    @property
    def members(self) -> list[Member]:
        return [*self.workers, *self.schedulers]

    def __enter__(self) -> Self:
        for server in self.servers.values():
            server.capabilities = tuple(word for word in CAPABILITIES if word != "PIPELINING")
            server.on["RETR"] = lambda _: time.sleep(SLOW_S)
            self._stack.enter_context(server)
        self.new.on["APPEND"] = lambda _: time.sleep(SLOW_S)
        for peer in (self.old, self.new):
            self._stack.enter_context(peer)
        done = run(self.config, "apply", environment=ENVIRONMENT)
        assert done.returncode == 0, done.stderr
        self.database = self._stack.enter_context(Database.open(self._url, self.directory / "state"))
        for member in self.members:
            self._stack.callback(member.kill)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self) -> None:
        """Start whoever does not run."""
        for member in self.members:
            member.start()

    def arrives(self) -> None:
        """A message comes into each mailbox."""
        for name, server in self.servers.items():
            number = len(server.messages)
            (message,) = mail.small(1, seed=1000 * (1 + int(name.removeprefix("job"))) + number)
            server.messages.append(message)
            server.uids.append(f"uid-{number + 1}".encode())
        inbox = self.old.box("INBOX")
        inbox.add(*mail.small(20, seed=10**6 + len(inbox.mail)))

    # --- the proof -------------------------------------------------------------------------------------

    def missing(self) -> list[str]:
        """The jobs whose destinations lack a message. No message is there twice."""
        found = []
        for name, server in self.servers.items():
            there = letters(self.directory / name)
            twice = [digest for digest, times in there.items() if times > 1]
            assert not twice, f"{name} has {len(twice)} messages twice"
            expected = once_each(server.messages)
            assert not there - expected, f"{name} has messages that the server never had"
            if there != expected:
                found.append(name)
        there, expected = _octets(self.new), _octets(self.old)
        assert not there - expected, "messages were copied twice, or the source never had them"
        return found if there == expected else [*found, "copy"]

    def settle(self, longest_s: float = 180.0) -> None:
        """Everything is started again; wait until all mail is there and each job has had another run to its end."""
        for member in self.members:
            member.wake()
        self.start()
        begun = datetime.now(UTC)
        wait_for(lambda: not self.missing(), longest_s)
        wait_for(lambda: not self._not_done_since(begun), longest_s)

    def _not_done_since(self, begun: datetime) -> set[str]:
        with self.database.read() as connection:
            done = select(jobs.c.name).join(runs, runs.c.job_id == jobs.c.id)
            done = done.where(runs.c.state == int(RunState.DONE), runs.c.due_at > round(begun.timestamp() * 1e6))
            return {*self.servers, "copy"} - set(connection.execute(done).scalars())

    def end(self) -> list[int | None]:
        """Ask all to end; their exit codes."""
        return [member.end() for member in self.members]

    def check_runs(self) -> None:
        """No run is under way, none was given up, and each due time had one run or is counted in one."""
        with self.database.read() as connection:
            rows = connection.execute(select(runs)).all()
            known = connection.execute(
                select(jobs.c.id, jobs.c.name, jobs.c.configuration, jobs.c.paused_since, definitions.c.schedule,
                       definitions.c.next_due).join(definitions)
            ).all()  # fmt: skip
        assert {RunState(row.state) for row in rows} <= {RunState.DONE, RunState.QUEUED, RunState.FAILED}
        for job in known:
            assert job.paused_since is None, f"{job.name} was paused"
            mine = [row for row in rows if row.job_id == job.id]
            due = sorted(row.due_at for row in mine)
            assert len(due) == len(set(due)), f"a due time of {job.name} had two runs"
            first, until = from_microseconds(due[0]), from_microseconds(job.next_due)
            key, moment = phase_key(job.configuration, job.name), timedelta(microseconds=1)
            times = due_between(job.schedule, "UTC", key, 0, after=first - moment, until=until - moment)
            counted = len(mine) + sum(row.missed for row in mine)
            assert counted == times, f"{counted} of {times} due times of {job.name} are accounted for"


def _octets(server: FakeImap) -> Counter[bytes]:
    return Counter(one.octets for one in server.box("INBOX").mail)


Act = Callable[[], None]


class Faults:
    """What happens to a cluster and its servers; each act leaves a state that the next one may follow."""

    def __init__(self, cluster: Cluster, database: Breakable, broker: Breakable, seed: int) -> None:
        self._cluster = cluster
        self._database = database
        self._broker = broker
        self._random = random.Random(seed)
        self._broker_is = "up"
        self.done: list[str] = []

    def kill(self) -> None:
        """Somebody is killed, and started again by whoever looks after it."""
        self._random.choice(self._cluster.members).kill()

    def freeze(self) -> None:
        """A worker is not heard of any more."""
        self._random.choice(self._cluster.workers).freeze()

    def wake(self) -> None:
        """Who was frozen goes on where it was."""
        for member in self._cluster.members:
            member.wake()

    def kill_broker(self) -> None:
        """The broker ends, or comes back with what it had."""
        self._mend_broker()
        self._broker.kill()
        self._broker_is = "down"

    def wipe_broker(self) -> None:
        """The broker loses everything."""
        self._mend_broker()
        wipe = getattr(self._broker, "wipe", self._broker.restart)
        wipe()

    def freeze_broker(self) -> None:
        """The broker accepts connections and never answers."""
        self._mend_broker()
        self._broker.freeze()
        self._broker_is = "frozen"

    def restart_database(self) -> None:
        """The database ends without a word and is there again."""
        self._database.kill()
        self._database.start()

    def _mend_broker(self) -> None:
        if self._broker_is == "down":
            self._broker.start()
        elif self._broker_is == "frozen":
            self._broker.thaw()
        self._broker_is = "up"

    def mend(self) -> None:
        """Everything is as it should be."""
        self._mend_broker()
        self.wake()

    def happen(self, acts: Iterator[str], pause_s: float) -> None:
        """One act after another, while mail arrives and whoever died is started again."""
        for act in acts:
            self.done.append(act)
            getattr(self, act)()
            self._cluster.arrives()
            time.sleep(pause_s)
            self._cluster.start()
        self.mend()

    def at_random(self, seconds: float) -> Iterator[str]:
        """Names of acts for so long."""
        end = time.monotonic() + seconds
        acts = "kill kill kill freeze wake kill_broker wipe_broker freeze_broker restart_database".split()
        while time.monotonic() < end:
            yield self._random.choice(acts)
