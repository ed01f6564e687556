"""The application: pages, API, files, and the health and metrics of its process, behind one guard."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Final

import anyio.to_thread
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from syncd.web import problems, stream
from syncd.web.api import errands as errands_api
from syncd.web.api import mail as mail_api
from syncd.web.api import people as people_api
from syncd.web.api import v1
from syncd.web.pages import errands, jobs, mail, overview, people, places, runs, signin, waiting
from syncd.web.render import STATIC
from syncd.web.security import Guard
from syncd.web.site import Site, site_of

THREADS: Final = 4  # answers at a time that read the database; each takes milliseconds
_PAGES: Final = (signin.router, *(it.router for it in (overview, jobs, errands, runs, waiting, places, mail, people)))


def make_app(site: Site) -> FastAPI:
    """Returns the application of a site. Nothing is opened."""
    app = FastAPI(
        title="syncd",
        version=version("syncd"),
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # it would load scripts from elsewhere
        redoc_url=None,
        lifespan=_life,
    )
    app.state.site = site
    app.state.watch = stream.Watch(site)
    problems.install(app)
    for router in _PAGES:
        app.include_router(router, include_in_schema=False)
    app.include_router(v1.router)
    app.include_router(errands_api.router)
    app.include_router(people_api.router)
    app.include_router(mail_api.router)
    app.include_router(stream.router)
    for path in site.answers:
        app.add_route(path, partial(_answered, path), methods=["GET"], include_in_schema=False)
    app.mount("/static", _Files(directory=STATIC), name="static")
    app.add_middleware(Guard)
    return app


@asynccontextmanager
async def _life(_: FastAPI) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
    yield


async def _answered(path: str, request: Request) -> Response:
    """Answer a question about health, or for metrics."""
    found = await anyio.to_thread.run_sync(site_of(request).answers[path])
    return Response(found.body, found.status, media_type=found.kind)


class _Files(StaticFiles):
    """Files that a browser may keep: their addresses have the version in them."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        """Returns a file."""
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]  # as the base class
        response.headers["Cache-Control"] = "public, max-age=86400"
        return response
