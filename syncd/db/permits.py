"""Permits: a limit on connections to a host or account that holds across all workers.

A run takes a permit with its claim and gives it back with its end. A permit counts while its run is under way with the
generation that took it, so a permit that a dead worker left ends when its run is taken over or closed.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, insert, select, text

from syncd.db.models import permits, runs
from syncd.db.runs import Claim
from syncd.db.states import RunState


def host_subject(host: str) -> str:
    """The connections to a server, whoever signs in."""
    return f"host {host.lower()}"


def account_subject(account_id: int) -> str:
    """The connections to an account."""
    return f"account {account_id}"


def take(connection: Connection, claim: Claim, host: str, limit: int | None) -> bool:
    """Take a permit for a connection to a host if fewer than `limit` are out; whether it was granted (None: always)."""
    return limit is None or take_one(connection, claim, host_subject(host), limit)


def take_one(connection: Connection, claim: Claim, subject: str, limit: int) -> bool:
    """Take a permit if fewer than `limit` are out; whether it was granted."""
    if connection.dialect.name == "postgresql":  # SQLite has one writer at a time
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:subject))"), {"subject": subject})
    connection.execute(delete(permits).where(permits.c.subject == subject, permits.c.run_id == claim.run_id))
    live = (
        select(func.count())
        .select_from(permits.join(runs, runs.c.id == permits.c.run_id))
        .where(
            permits.c.subject == subject,
            runs.c.generation == permits.c.generation,
            runs.c.state == int(RunState.RUNNING),
        )
    )
    if connection.execute(live).scalar_one() >= limit:
        return False
    values = {"subject": subject, "run_id": claim.run_id, "generation": claim.generation}
    connection.execute(insert(permits).values(values))
    return True


def give_back(connection: Connection, claim: Claim) -> None:
    """Give every permit of a run back."""
    connection.execute(delete(permits).where(permits.c.run_id == claim.run_id))
