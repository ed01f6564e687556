"""Jobs: what each does, how it stands, and its history; run now, pause, resume."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import RedirectResponse

from syncd.db.errands import Kind
from syncd.services import control, overview
from syncd.services.asking import ask
from syncd.services.errands import asking
from syncd.services.panel import job as job_line
from syncd.services.panel import job_names
from syncd.services.panel import jobs as job_lines
from syncd.services.policy import policy, route, schedule
from syncd.web.access import Operator, Reader, TheSite
from syncd.web.pages.runs import pace_of
from syncd.web.problems import Problem
from syncd.web.render import page
from syncd.web.site import Site

router = APIRouter()
PAGE = 50  # jobs, or runs of one
Words = Annotated[str, Query(max_length=200)]


@router.get("/jobs")
def jobs(  # noqa: PLR0917  the fields of its address
    request: Request,
    site: TheSite,
    who: Reader,
    start: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    q: Words = "",
    attention: str = "",
) -> Response:
    """List jobs in the order of the configuration: all, those with some words, those that need attention."""
    loaded = site.loaded
    names = job_names(loaded, site.database, q, attention=bool(attention))
    lines = job_lines(loaded, site.database, names[start : start + PAGE])
    whens = {line.job: schedule(loaded.settings, line.job) for line in lines}
    return page(
        request,
        "jobs.html",
        who,
        jobs=lines,
        whens=whens,
        start=start,
        size=PAGE,
        total=len(names),
        known=len(loaded.settings.jobs),
        q=q,
        attention=attention,
    )


@router.get("/jobs/{name}")
def job(request: Request, site: TheSite, who: Reader, name: str, counts: str = "") -> Response:
    """Show one job. Where its messages stand is counted when asked for: that takes longer, the more there are."""
    loaded = site.loaded
    line = job_line(loaded, site.database, name)
    if line is None:
        raise no_job(name)
    counted = overview.counts(loaded, site.database, name) if counts else None
    return page(
        request,
        "job.html",
        who,
        job=line,
        policy=list(policy(loaded.settings, name)),
        route=route(loaded.settings, name),
        dry=asking.newest(loaded, site.database, Kind.DRY_RUN, name),
        proof=asking.newest(loaded, site.database, Kind.VERIFY, name),
        proven=asking.newest_done(loaded, site.database, Kind.VERIFY, name),
        counted=counted,
        pace=None if line.last is None else pace_of(site, line.last),
        runs=overview.history(loaded, site.database, name, 20),
    )


@router.post("/jobs/{name}/run")
def run(site: TheSite, _who: Operator, name: str) -> Response:
    """Ask for a run, and go to it."""
    check_job(site, name)
    return RedirectResponse(f"/runs/{ask(site.loaded, site.database, name, site.ring)}", 303)


@router.post("/jobs/{name}/pause")
def pause(site: TheSite, _who: Operator, name: str) -> Response:
    """Pause the job."""
    check_job(site, name)
    control.pause(site.loaded, site.database, name)
    return RedirectResponse(f"/jobs/{name}", 303)


@router.post("/jobs/{name}/resume")
def resume(site: TheSite, _who: Operator, name: str) -> Response:
    """Let the job run by its schedule again."""
    check_job(site, name)
    control.resume(site.loaded, site.database, name)
    return RedirectResponse(f"/jobs/{name}", 303)


def check_job(site: Site, name: str) -> None:
    """Raise Problem for a job that the configuration does not have: only then is its name safe in an address."""
    if name not in site.loaded.settings.jobs:
        raise no_job(name)


def no_job(name: str) -> Problem:
    """Returns the answer for a job that is not there."""
    return Problem(404, f"the configuration has no job {name[:100]!r}")
