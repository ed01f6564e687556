"""Answers: pages from templates, and documents in the shapes of --json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastapi import Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from syncd import clock
from syncd.engine.events import Basis
from syncd.engine.mapping import Why
from syncd.engine.plan import Would
from syncd.errors import printable
from syncd.services import words
from syncd.sources.base import QuotaUse
from syncd.web.security import form_key_of

if TYPE_CHECKING:
    from syncd.web.who import Who

HERE: Final = Path(__file__).parent
STATIC: Final = HERE / "static"
OUTCOMES: Final = {  # of a run → the kind of its badge
    "done": "good", "running": "live", "queued": "quiet", "failed": "bad", "died": "bad", "stopped": "warn",
}  # fmt: skip
CODES: Final = {  # exit code of a run → what it means, where its outcome does not say it
    3: "messages wait for you", 4: "sign-in refused", 5: "temporary", 6: "wrong configuration",
    7: "you have to confirm", 10: "another run was first",
}  # fmt: skip
COUNTS: Final = {  # of a run → words, where those of its name do not do
    "listed": "at the source", "listed_octets": "size at the source", "to_fetch_octets": "size to fetch",
    "fetched_octets": "size fetched", "mailboxes_opened": "mailboxes looked into", "backfilled": "from an archive",
    "to_backfill": "to deliver from an archive", "waiting_time": "wait for another try",
    "waiting_person": "wait for a person", "recognised": "recognised under new ids",
    "removal_unknown": "perhaps removed", "removals_put_off": "removals put off",
}  # fmt: skip
PAGES: Final = (  # address, name, and the key that goes there after "g"
    ("/", "Overview", "o"), ("/jobs", "Jobs", "j"), ("/runs", "Runs", "r"), ("/waiting", "Waiting", "w"),
    ("/accounts", "Accounts", "a"), ("/archives", "Archives", "v"), ("/people", "People", "p"),
)  # fmt: skip
PAUSES: Final = {
    "person": "paused",
    "sign_in": "paused by the service: its sign-in was refused again and again",
    "deaths": "paused by the service: its worker died again and again",
}


class Json(Response):
    """A JSON document; ASCII, instants in ISO 8601, as the command line prints it."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Returns the octets of a document."""
        return json.dumps(content, default=words.plain).encode() + b"\n"


def page(
    request: Request,
    template: str,
    who: Who | None,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> Response:
    """Returns a page; `values` are what its template shows."""
    shown = {"who": who, "csrf": form_key_of(request), "path": request.url.path, "now": clock.now(), **values}
    shown["mark"] = getattr(request.state, "mark", "")
    text = _environment().get_template(template).render(shown)
    octets = text.encode("utf-8", "replace")  # names of mailboxes and files may be no text
    return Response(octets, status, headers, "text/html; charset=utf-8")


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        octets=words.octets,
        roughly=words.roughly,
        quota=_quota,
        lasted=words.duration,
        when=_when,
        ago=_ago,
        due=_due,
        counted=_counted,
        number=_number,
        percent=_percent,
        path=_path,
    )
    made.globals.update(count=words.count, version=version("syncd"), OUTCOMES=OUTCOMES, PAUSES=PAUSES, PAGES=PAGES)
    made.globals.update(CODES=CODES)
    made.globals.update(
        WOULD={it.name.lower(): it.value for it in Would},
        WHY={it.name.lower(): it.value for it in Why},
        BASIS={it.name.lower(): it.value for it in Basis},
    )
    return made


def _quota(use: Mapping[str, Any]) -> str:
    return words.quota(QuotaUse(**use))


def _path(levels: Sequence[str]) -> str:
    return printable("/".join(levels))


def _when(at: datetime | None) -> str:
    """Returns an instant as an element: local time to the minute, and exactly for programs."""
    return _time(at, words.instant(at))


def _ago(at: datetime | None) -> str:
    """Returns how long ago, or in how long, an instant is."""
    if at is None:
        return "–"
    now = clock.now()
    text = words.ago(at, now) if at <= now else f"in {words.duration((at - now).total_seconds())}"
    return _time(at, text)


def _due(at: datetime | None) -> str:
    """Returns in how long something begins; what is due begins as soon as somebody is free for it."""
    return _ago(at) if at is None or at > clock.now() else _time(at, "due now")


def _counted(name: str) -> str:
    """Returns what a count of a run is, in words."""
    return COUNTS.get(name, name.replace("_", " "))


def _time(at: datetime | None, text: str) -> str:
    if at is None:
        return "–"
    exact = at.astimezone(UTC).isoformat(timespec="seconds")
    return Markup('<time datetime="{}" title="{}">{}</time>').format(exact, words.instant(at), text)


def _number(value: float) -> str:
    return f"{value:,}"


def _percent(part: float, whole: float) -> int:
    return 0 if not whole else max(0, min(100, round(100 * part / whole)))
