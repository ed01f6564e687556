"""Messages that wait for time or for a person: why, and what to do; retry and drop, one, some, or all that match."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Annotated, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request, Response
from starlette.responses import RedirectResponse

from syncd.errors import UsageError
from syncd.services import problems
from syncd.services.selection import Selector, Why
from syncd.web.access import Operator, Reader, TheSite
from syncd.web.problems import Problem
from syncd.web.render import page
from syncd.web.site import Site

router = APIRouter()
PAGE: Final = 50
MAX_START: Final = 100_000  # the first message of a page: those before it are read each time
Start = Annotated[int, Query(ge=0, le=MAX_START)]


@router.get("/waiting")
def waiting(  # noqa: PLR0917  the fields of its address
    request: Request, site: TheSite, who: Reader, job: str = "", why: str = "", start: Start = 0, done: str = ""
) -> Response:
    """List waiting messages."""
    selector = selector_of((), [why] if why else [])
    check_job(site, job)
    found = list(islice(problems.problems(site.loaded, site.database, job or None, selector, start), PAGE + 1))
    return page(
        request,
        "waiting.html",
        who,
        problems=found[:PAGE],
        more=len(found) > PAGE,
        start=start,
        size=PAGE,
        job=job,
        why=why,
        whys=[it.value for it in Why],
        jobs=sorted(problems.known(site.loaded, site.database))[:500],
        done=int(done) if done.isdecimal() and len(done) < 12 else None,
    )


@router.post("/waiting")
def decide(  # noqa: PLR0917  the fields of the form
    site: TheSite,
    _who: Operator,
    act: Annotated[str, Form()],
    job: Annotated[str, Form()] = "",
    why: Annotated[str, Form()] = "",
    number: Annotated[list[str] | None, Form()] = None,
    everything: Annotated[str, Form()] = "",
) -> Response:
    """Retry or drop the messages that are marked, or all that the list was about."""
    if not number and not everything:
        raise Problem(400, "mark at least one message, or choose all that match")
    if act not in {"retry", "drop"}:
        raise Problem(400, "a message can be tried again, or given up")
    selector = selector_of(() if everything else number or (), [why] if why else [])
    check_job(site, job)
    changed = decided(site, act, [job] if job else list(problems.known(site.loaded, site.database)), selector)
    fields = {key: value for key, value in {"job": job, "why": why, "done": str(changed)}.items() if value}
    return RedirectResponse(f"/waiting?{urlencode(fields)}", 303)


def decided(site: Site, act: str, jobs: Sequence[str], selector: Selector) -> int:
    """Retry or drop what is selected; returns how many messages it was done for. Raises LeaseHeld, UsageError."""
    if act == "retry":
        tried = problems.retry(site.loaded, site.database, jobs, selector)
        return sum(len(retried.again or ()) for _, retried in tried)
    found = problems.chosen(site.loaded, site.database, jobs, selector, drop=True)
    return sum(len(problems.drop(site.loaded, site.database, job, rows)) for job, rows in found.items())


def selector_of(numbers: Sequence[str], whys: Sequence[str], place: str | None = None) -> Selector:
    """Returns what these words select. Raises UsageError."""
    if not all(word.isdecimal() and len(word) < 19 for word in numbers) or not set(whys) <= set(Why):
        raise UsageError(f"messages are selected by their numbers, and by: {', '.join(Why)}")
    return Selector(frozenset(map(int, numbers)), frozenset(map(Why, whys)), place)


def check_job(site: Site, job: str) -> None:
    """Raise Problem for a job that neither the configuration nor the ledger knows."""
    if job and job not in problems.known(site.loaded, site.database):
        raise Problem(404, f"there is no job {job[:100]!r}")
