"""The tables of the service under test: applied jobs, runs of them, and workers that die, freeze or are elsewhere."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Table, select, update

from syncd.db import definitions
from syncd.db.catalog import Catalog
from syncd.db.database import Database
from syncd.db.definitions import Applied, Definition
from syncd.db.holder import Holder
from syncd.db.models import jobs, leases, runs
from syncd.db.names import Owner
from syncd.db.queue import Claimed, End, Queue
from syncd.db.runs import RunRow, Runs
from syncd.db.states import RunState

HOME = Owner("home", lambda name: name == "home")
DONE = End(RunState.DONE, 0, {}, succeeded=True)
REFUSED = End(RunState.FAILED, 4, {}, "sign-in refused", refused=True)


def definition(job: str, *, host: str = "", user: str = "", text: str = "", **facts: Any) -> Definition:
    """A definition with an account of its own unless `user` names another job's."""
    text = text or f'{{"jobs":"{job}"}}'
    digest = hashlib.sha256(text.encode()).digest()
    source = user or job
    return Definition(job, digest, text, source, ("pop3", host or f"{source}.example.net", source), **facts)


class Tables:
    """One configuration, "home", and the queue of its jobs."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.queue = Queue(database)
        self.runs = Runs(database)
        self.applied: dict[str, Definition] = {}

    def apply(self, *wanted: Definition, owner: Owner = HOME, **more: Any) -> Applied:
        return definitions.apply(self.database, owner, wanted, **more)

    def job(self, name: str = "road", **facts: Any) -> int:
        """A job that is applied with those before; its id."""
        self.applied[name] = definition(name, **facts)
        self.apply(*self.applied.values())
        return self.id_of(name)

    def id_of(self, name: str) -> int:
        row = Catalog(self.database, HOME).find_job(name)
        assert row is not None
        return row.id

    def queued(self, job_id: int, trigger: str = "schedule", **when: datetime) -> int:
        run_id = self.runs.enqueue(job_id, trigger, **when)
        assert run_id is not None
        return run_id

    def claimed(self, run_id: int, limits: Mapping[str, int] | None = None) -> Claimed:
        claimed = self.queue.claim(run_id, limits)
        assert claimed is not None
        return claimed

    def working(self, job_id: int) -> Claimed:
        """A new run of a job, in our hands."""
        return self.claimed(self.queued(job_id))

    def row(self, run_id: int) -> RunRow:
        row = self.runs.find(run_id)
        assert row is not None
        return row

    def waiting(self, sites: Collection[str] = ("",), limit: int = 10) -> list[int]:
        return [it.run_id for it in self.queue.waiting(sites, limit)]

    def owned_by(self, claimed: Claimed, **facts: Any) -> Holder:
        """Have run and leases belong to a process like this one, but for `facts`, as if that one had claimed them."""
        claimed.leases.drop()
        other = dataclasses.replace(claimed.leases.holder, **facts)
        with self.database.write() as connection:
            mine = leases.c.holder == str(claimed.leases.holder)
            connection.execute(update(leases).where(mine).values(holder=str(other)))
            connection.execute(update(runs).where(runs.c.id == claimed.claim.run_id).values(holder=str(other)))
        return other

    def die(self, claimed: Claimed) -> None:
        """The process that has the run ended without a word: ours has another start time."""
        self.owned_by(claimed, started=1)

    def expire(self) -> None:
        """All leases have run out."""
        with self.database.write() as connection:
            connection.execute(update(leases).values(expires_at=1.0))

    def value(self, table: Table, column: str, key: int) -> Any:
        with self.database.read() as connection:
            return connection.execute(select(table.c[column]).where(table.c.id == key)).scalar_one()

    def change(self, table: Table, key: int, **values: object) -> None:
        with self.database.write() as connection:
            connection.execute(update(table).where(table.c.id == key).values(values))

    def paused(self, job_id: int) -> int | None:
        """Why a job is paused."""
        why: int | None = self.value(jobs, "paused_why", job_id)
        return why
