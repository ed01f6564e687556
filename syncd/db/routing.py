"""The routes of a job are made to agree with the destinations that it names.

    named for the first time        a route of its own, in a free slot
    named again                     its route is enabled; to a mail server, it forgets what it was planned from, so that
                                    deliveries made elsewhere meanwhile are noticed (`ledger.predecessors`)
    no longer named                 its route is disabled, not forgotten

A mail server cannot be asked what was sent to it, so a route follows the mail rather than the job: where the same
recipient at the same account was another job's destination for this source (one that was renamed or taken apart), that
route is taken over with all that is known of its deliveries. Recipients are compared without regard to case: RFC 5321
§2.4 leaves the case of a local part to its server, but none in use tells two mailboxes apart by it, and a second copy
of all mail is worse than a difference that nobody makes. They are sent as they are spelled now.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, delete, insert, select, update

from syncd.db.bulk import IN_LIST, pieces
from syncd.db.models import MAX_SLOT, accounts, jobs, planned, routes
from syncd.errors import ConfigError
from syncd.mail.outcome import Repeat


class DestinationSpec(NamedTuple):
    """A destination as a job names it: the id of its archive or account row, and recipient or mailbox ("" if none)."""

    kind: Literal["archive", "account"]
    id: int
    target: str = ""
    repeat: Repeat = Repeat.SAFE  # a fact, no part of what tells destinations apart

    @property
    def place(self) -> tuple[str, int, str]:
        """The destination as it is spelled: kind, id, target."""
        return self[:3]

    @property
    def mark(self) -> tuple[str, int, str]:
        """The same for every way to spell a target."""
        return self.kind, self.id, self.target.lower()


_UNCERTAIN: Final = (
    select(routes.c.id)
    .join(jobs, jobs.c.id == routes.c.job_id)
    .where(routes.c.repeat == Repeat.UNCERTAIN.value)
    .order_by(routes.c.id)
)
_UNCERTAIN_OF_JOB: Final = _UNCERTAIN.where(jobs.c.id == bindparam("of"))
_UNCERTAIN_OF_ACCOUNT: Final = _UNCERTAIN.where(jobs.c.account_id == bindparam("of"))


def agrees(connection: Connection, job: Row[Any], destinations: Sequence[DestinationSpec]) -> bool:
    """Returns whether the routes of a job in use are those that it names: then `agree` has nothing to do."""
    in_use = connection.execute(select(routes).where(routes.c.job_id == job.id, routes.c.enabled))
    return {_spec(row) for row in in_use} == set({spec.mark: spec for spec in destinations}.values())


def agree(connection: Connection, job: Row[Any], destinations: Sequence[DestinationSpec]) -> None:
    """Make the routes of a job agree with what it names. Raises ConfigError where it has had too many."""
    mine = select(routes).where(routes.c.job_id == job.id)
    known = {_spec(row).place: row for row in connection.execute(mine)}
    alike = {_spec(row).mark: row for row in known.values()}
    free = iter(sorted(set(range(MAX_SLOT + 1)) - {row.slot for row in known.values()}))
    used: set[int] = set()
    for spec in {spec.mark: spec for spec in destinations}.values():
        row = known.get(spec.place) or alike.get(spec.mark)
        if row is None:
            _add(connection, job, spec, next(free, None))
            continue
        used.add(row.id)
        if not row.enabled:
            forget_planned(connection, routes.c.id == row.id)
        if (row.enabled, row.target, row.repeat) != (True, spec.target, spec.repeat.value):
            _set(connection, row.id, {"enabled": True, "target": spec.target, "repeat": spec.repeat.value})
    for row in known.values():
        if row.id not in used and row.enabled:
            _set(connection, row.id, {"enabled": False})


def retire(
    connection: Connection, live: Mapping[str, Collection[tuple[str, str]]], is_ours: Callable[[str], bool]
) -> None:
    """Disable every job that is not in `live`, and routes to mail servers that their job does not name any more.

    Jobs of another configuration file are left: `is_ours` says of a file whether `live` speaks for it.

    `live` is job → (fingerprint of the account, recipient). Before any job is registered, so that a route that goes
    from one job to another is taken over whichever comes first.
    """
    job_ids, route_ids = over(connection, live, is_ours)
    for some in pieces(job_ids):
        connection.execute(update(jobs).where(jobs.c.id.in_(some)).values(enabled=False))
    for route_id in route_ids:
        _set(connection, route_id, {"enabled": False})


def over(
    connection: Connection, live: Mapping[str, Collection[tuple[str, str]]], is_ours: Callable[[str], bool]
) -> tuple[list[int], list[int]]:
    """Returns the jobs and the routes that `retire` disables."""
    few = len(live) <= IN_LIST  # a statement takes only so many names; with more of them, rows are compared here
    others = select(jobs.c.id, jobs.c.name, jobs.c.configuration).where(jobs.c.enabled)
    others = others.where(jobs.c.name.not_in(list(live))) if few else others
    known = [row for row in connection.execute(others) if row.name not in live]
    job_ids = [row.id for row in known if is_ours(row.configuration)]
    named = {(job, mark, target.lower()) for job, reached in live.items() for mark, target in reached}
    found = (
        select(routes.c.id, routes.c.target, jobs.c.name, jobs.c.configuration, accounts.c.fingerprint)
        .join(jobs, jobs.c.id == routes.c.job_id)
        .join(accounts, accounts.c.id == routes.c.account_id)
        .where(routes.c.enabled, jobs.c.enabled)
    )
    found = found.where(jobs.c.name.in_(list(live))) if few else found
    rows = [row for row in connection.execute(found) if row.name in live and is_ours(row.configuration)]
    return job_ids, [row.id for row in rows if (row.name, row.fingerprint, row.target.lower()) not in named]


def uncertain_routes(connection: Connection, *, account_id: int | None = None, job_id: int | None = None) -> list[int]:
    """Ids of all routes of class UNCERTAIN, in use or not, of the jobs that read an account, or of one job."""
    if account_id is None:
        return list(connection.execute(_UNCERTAIN_OF_JOB, {"of": job_id}).scalars())
    return list(connection.execute(_UNCERTAIN_OF_ACCOUNT, {"of": account_id}).scalars())


def forget_planned(connection: Connection, which: ColumnElement[bool]) -> None:
    """Routes to mail servers that come into use again are planned again, with all mail that was sent meanwhile."""
    mine = select(routes.c.id).where(which, routes.c.account_id.is_not(None))
    connection.execute(delete(planned).where(planned.c.route_id.in_(mine)))


def _add(connection: Connection, job: Row[Any], spec: DestinationSpec, slot: int | None) -> None:
    if slot is None:
        raise ConfigError(
            f'job "{job.name}" has had {MAX_SLOT + 1} destinations, and more are not kept apart: rename it'
        )
    values = {"job_id": job.id, "slot": slot, "target": spec.target, "enabled": True, "repeat": spec.repeat.value}
    left = _left_behind(connection, job, spec) if spec.kind == "account" else None
    if left is not None:
        forget_planned(connection, routes.c.id == left)
        _set(connection, left, values)
    else:
        connection.execute(insert(routes).values({**values, "kind": spec.kind, f"{spec.kind}_id": spec.id}))


def _left_behind(connection: Connection, job: Row[Any], spec: DestinationSpec) -> int | None:
    """The latest route of another job from the same source to the same recipient that is not in use any more."""
    found = (
        select(routes.c.id, routes.c.target, and_(routes.c.enabled, jobs.c.enabled).label("in_use"))
        .join(jobs, jobs.c.id == routes.c.job_id)
        .where(routes.c.account_id == spec.id, jobs.c.account_id == job.account_id, jobs.c.id != job.id)
    )
    rows = connection.execute(found).all()
    alike = [row.id for row in rows if not row.in_use and row.target.lower() == spec.target.lower()]
    return max(alike, default=None)


def _spec(row: Row[Any]) -> DestinationSpec:
    place_id = row.archive_id if row.kind == "archive" else row.account_id
    return DestinationSpec(row.kind, place_id, row.target, Repeat(row.repeat))


def _set(connection: Connection, route_id: int, values: Mapping[str, object]) -> None:
    connection.execute(update(routes).where(routes.c.id == route_id).values(values))
