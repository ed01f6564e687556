"""The API: what the pages show and do, for programs, in the shapes that --json of the command line has.

    GET   overview · jobs · jobs/{name} · runs · runs/{number} · waiting · accounts · archives · archives/{name}
    POST  jobs/{name}/run · jobs/{name}/pause · jobs/{name}/resume · runs/{number}/cancel · waiting/retry
          waiting/drop · accounts/{name}/resume

What takes longer than an answer may is in `errands`, mail in `mail`, users and tokens in `people`.

Lists are objects: `items`, and `next`, the address of the next part; null: that was all. Errors are RFC 9457.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Body, Path, Query, Response

from syncd.services import control, overview, places, problems
from syncd.services.asking import ask
from syncd.services.overview import JobStatus, RunSummary
from syncd.services.panel import Panel, job_names, panel
from syncd.services.panel import jobs as job_lines
from syncd.services.selection import Selector, Why
from syncd.web.access import ApiOperator, ApiReader, TheSite
from syncd.web.api.schemas import (
    Asked,
    Changed,
    Decided,
    Ended,
    Jobs,
    ProblemDetails,
    Resumed,
    Rows,
    Runs,
    Selection,
)
from syncd.web.pages.jobs import check_job, no_job
from syncd.web.pages.places import check_name, resumed
from syncd.web.pages.runs import run_of
from syncd.web.pages.waiting import MAX_START, decided
from syncd.web.pages.waiting import check_job as check_known_job
from syncd.web.problems import Problem
from syncd.web.render import Json

PREFIX: Final = "/api/v1"
MAX_LIMIT: Final = 200

Name = Annotated[str, Path(max_length=200)]
Number = Annotated[int, Path(ge=0, lt=1 << 63)]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Entries at most.")]
Start = Annotated[int, Query(ge=0, le=MAX_START, description="Entries to leave out before the first.")]
Words = Annotated[str, Query(max_length=200, description="Words that all must be part of it.")]
JobName = Annotated[str | None, Query(max_length=200, description="Of this job alone.")]


ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ProblemDetails, "description": why, "content": {"application/problem+json": {}}}
    for status, why in (
        (400, "It cannot be done like that."), (401, "No token, and nobody is signed in."), (403, "Not permitted."),
        (404, "There is no such thing."), (409, "Another run or decision is under way."), (422, "A value is wrong."),
        (429, "Too many at a time."),
    )
}  # fmt: skip
router = APIRouter(prefix=PREFIX, responses=ERRORS)


# --- looking ---------------------------------------------------------------------------------------------


@router.get("/overview", response_model=Panel)
def get_overview(site: TheSite, _who: ApiReader) -> Response:
    """Returns whether all is well, what runs, what comes next, and what needs attention."""
    return Json(panel(site.loaded, site.database, site.paces).as_json())


@router.get("/jobs", response_model=Jobs)
def get_jobs(
    site: TheSite,
    _who: ApiReader,
    limit: Limit = 50,
    start: Start = 0,
    q: Words = "",
    attention: Annotated[bool, Query(description="Only those that need attention.")] = False,  # noqa: FBT002
) -> Response:
    """The jobs in the order of the configuration, without counts of messages."""
    names = job_names(site.loaded, site.database, q, attention=attention)
    found = job_lines(site.loaded, site.database, names[start : start + limit])
    more = start + limit < len(names)
    asked = {"q": q or None, "attention": "true" if attention else None}
    return _list([it.as_json() for it in found], "jobs", more, limit=limit, start=start + limit, **asked)


@router.get("/jobs/{name}", response_model=JobStatus)
def get_job(site: TheSite, _who: ApiReader, name: Name) -> Response:
    """Returns a job with counts of its messages, as `syncd status --json`; it takes longer with more messages."""
    check_job(site, name)
    found = overview.status_of(site.loaded, site.database, name)
    return Json(found.as_json())


@router.get("/runs", response_model=Runs)
def get_runs(
    site: TheSite,
    _who: ApiReader,
    job: JobName = None,
    before: Annotated[int | None, Query(ge=0, lt=1 << 63, description="Older than this run.")] = None,
    limit: Limit = 50,
) -> Response:
    """The history, the newest run first."""
    if job is not None:
        check_job(site, job)
    found = overview.history(site.loaded, site.database, job, limit, before)
    last = found[-1].run_id if found else 0
    return _list([it.as_json() for it in found], "runs", len(found) == limit, job=job, before=last, limit=limit)


@router.get("/runs/{number}", response_model=RunSummary)
def get_run(site: TheSite, _who: ApiReader, number: Number) -> Response:
    """Returns a run with its notes."""
    return Json(run_of(site, number).as_json())


@router.get("/waiting", response_model=Rows)
def get_waiting(
    site: TheSite,
    _who: ApiReader,
    job: JobName = None,
    why: Annotated[list[Why] | None, Query(max_length=20, description="Only these.")] = None,
    limit: Limit = 50,
    start: Start = 0,
) -> Response:
    """Messages that something went wrong with, as `syncd errors --json`."""
    check_known_job(site, job or "")
    selector = Selector(whys=frozenset(why or ()))
    found = list(islice(problems.problems(site.loaded, site.database, job, selector, start), limit + 1))
    items = [it.as_json() for it in found[:limit]]
    return _list(items, "waiting", len(found) > limit, job=job, why=why, limit=limit, start=start + limit)


@router.get("/accounts", response_model=Rows)
def get_accounts(site: TheSite, _who: ApiReader, limit: Limit = 50, start: Start = 0, q: Words = "") -> Response:
    """The accounts: what reads and fills them, last contact, suspended until when. No server is connected."""
    names = places.account_names(site.loaded, q)
    found = places.accounts(site.loaded, site.database, names[start : start + limit])
    more = start + limit < len(names)
    return _list([it.as_json() for it in found], "accounts", more, q=q or None, limit=limit, start=start + limit)


@router.get("/archives", response_model=Rows)
def get_archives(site: TheSite, _who: ApiReader, limit: Limit = 50, start: Start = 0, q: Words = "") -> Response:
    """The archives, without figures."""
    names = places.archive_names(site.loaded, q)
    found = places.archives(site.loaded, names[start : start + limit])
    more = start + limit < len(names)
    return _list([it.as_json() for it in found], "archives", more, q=q or None, limit=limit, start=start + limit)


@router.get("/archives/{name}", response_model=places.ArchiveLine)
def get_archive(site: TheSite, _who: ApiReader, name: Name) -> Response:
    """Returns an archive with its figures, if it is on this machine; it takes longer with more messages."""
    check_name(site, name)
    (found,) = places.archives(site.loaded, [name], name)
    return Json(found.as_json())


# --- acting ----------------------------------------------------------------------------------------------


@router.post("/jobs/{name}/run", status_code=202, response_model=Asked)
def run(site: TheSite, _who: ApiOperator, name: Name) -> Response:
    """Ask for a run, first in line. Where the job has an open run, that one is answered."""
    check_job(site, name)
    return Json({"run_id": ask(site.loaded, site.database, name, site.ring)}, 202)


@router.post("/jobs/{name}/pause", response_model=Changed)
def pause(site: TheSite, _who: ApiOperator, name: Name) -> Response:
    """Have the schedule start no run of the job."""
    check_job(site, name)
    return _changed(name, control.pause(site.loaded, site.database, name))


@router.post("/jobs/{name}/resume", response_model=Changed)
def resume(site: TheSite, _who: ApiOperator, name: Name) -> Response:
    """Have the job run by its schedule again."""
    check_job(site, name)
    return _changed(name, control.resume(site.loaded, site.database, name))


@router.post("/runs/{number}/cancel", response_model=Ended)
def cancel(site: TheSite, _who: ApiOperator, number: Number) -> Response:
    """End a run that is queued or under way. What it did stays done."""
    run_of(site, number)
    ended = control.cancel(site.loaded, site.database, str(number))
    if ended is None:
        raise Problem(409, f"run {number} is over")
    return Json({"run_id": ended.run_id, "closed": ended.closed})


@router.post("/accounts/{name}/resume", response_model=Resumed)
def resume_account(site: TheSite, _who: ApiOperator, name: Name) -> Response:
    """Have the next runs contact a suspended account again."""
    return Json({"account": name, "changed": resumed(site, name)})


@router.post("/waiting/retry", response_model=Decided)
def retry(site: TheSite, _who: ApiOperator, wanted: Annotated[Selection, Body()]) -> Response:
    """Have the next run try messages again."""
    return _decide(site, "retry", wanted)


@router.post("/waiting/drop", response_model=Decided)
def drop(site: TheSite, _who: ApiOperator, wanted: Annotated[Selection, Body()]) -> Response:
    """Give messages up for good. Nothing is deleted from archives or servers."""
    return _decide(site, "drop", wanted)


# --- inside ----------------------------------------------------------------------------------------------


def _decide(site: TheSite, act: str, wanted: Selection) -> Response:
    if not (wanted.numbers or wanted.why or wanted.all):
        raise Problem(400, 'name messages by "numbers" or "why", or say "all": true')
    check_known_job(site, wanted.job or "")
    jobs = [wanted.job] if wanted.job else list(problems.known(site.loaded, site.database))
    selector = Selector(frozenset(wanted.numbers), frozenset(wanted.why), wanted.to)
    return Json({"messages": decided(site, act, jobs, selector)})


def _changed(name: str, changed: bool | None) -> Response:  # noqa: FBT001  what `control` answers
    if changed is None:
        raise no_job(name)
    return Json({"job": name, "changed": changed})


def _list(items: Sequence[object], path: str, more: bool, **query: object) -> Response:  # noqa: FBT001  a fact
    """Returns a part of a list, with the address of the next one."""
    fields = {key: value for key, value in query.items() if value is not None}
    return Json({"items": items, "next": f"{PREFIX}/{path}?{urlencode(fields, doseq=True)}" if more else None})
