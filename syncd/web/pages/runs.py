"""Runs: the history, and everything about one of them; cancel."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.responses import RedirectResponse

from syncd.services import control, overview
from syncd.services.overview import RunSummary
from syncd.services.pace import Pace
from syncd.web.access import Operator, Reader, TheSite
from syncd.web.problems import Problem
from syncd.web.render import page
from syncd.web.site import Site

router = APIRouter()
PAGE = 50
Number = Annotated[int, Path(ge=0, lt=1 << 63)]
Before = Annotated[int | None, Query(ge=0, lt=1 << 63)]


@router.get("/runs")
def runs(request: Request, site: TheSite, who: Reader, job: str = "", before: Before = None) -> Response:
    """List runs, the newest first."""
    found = overview.history(site.loaded, site.database, job or None, PAGE, before)
    older = found[-1].run_id if len(found) == PAGE else None
    return page(request, "runs.html", who, runs=found, job=job, older=older, before=before)


@router.get("/runs/{number}")
def run(request: Request, site: TheSite, who: Reader, number: Number) -> Response:
    """Show one run."""
    found = run_of(site, number)
    return page(request, "run.html", who, run=found, pace=pace_of(site, found))


@router.post("/runs/{number}/cancel")
def cancel(site: TheSite, _who: Operator, number: Number) -> Response:
    """End the run. One that is over already stays as it is."""
    run_of(site, number)
    control.cancel(site.loaded, site.database, str(number))
    return RedirectResponse(f"/runs/{number}", 303)


def run_of(site: Site, number: int) -> RunSummary:
    """Returns a run of this configuration. Raises Problem."""
    found = overview.run_of(site.loaded, site.database, number)
    if found is None:
        raise Problem(404, f"there is no run {number}; it may have been forgotten")
    return found


def pace_of(site: Site, run: RunSummary) -> Pace | None:
    """Returns how fast a run fetches; None where nobody can tell."""
    return site.paces.of([run]).get(run.run_id)
