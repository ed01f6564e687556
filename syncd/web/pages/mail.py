"""Mail of an archive: search, one message, its parts, and results as a download.

What a message has in it is never an answer that a browser would act on: its HTML comes in a frame of its own
(`web.letter`), everything else as text or as a download.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import Annotated, Final
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.responses import StreamingResponse

from syncd.errors import ArchiveMissing, UsageError
from syncd.formats.search.question import MAX_QUESTION, parse
from syncd.formats.view import ArchiveView
from syncd.mail.mime.text import text_is_cut, text_of
from syncd.services import answers, mail_streams, reading
from syncd.services.answers import MOST_ARCHIVES, Answer, Below
from syncd.services.archive import open_view
from syncd.services.indexes import Tables, indexes_in
from syncd.services.mail_streams import Item
from syncd.services.reading import Letter
from syncd.services.wiring import BODIES
from syncd.web import letter as letters
from syncd.web.access import Reader, TheSite
from syncd.web.pages.places import check_name
from syncd.web.problems import Problem
from syncd.web.render import page
from syncd.web.security import POLICY
from syncd.web.site import Site
from syncd.web.who import Who

router = APIRouter()
PAGE: Final = 50
VIEWS: Final = ("text", "html", "headers", "structure")
MAX_ADDRESS: Final = 2_000  # digits of a message's key
DOWNLOAD: Final = "application/octet-stream"

Asked = Annotated[str, Query(max_length=MAX_QUESTION, description="Words and fields, as in syncd archive search.")]
MaybeBelow = Annotated[
    str | None, Query(pattern=r"^-?[0-9]{1,18}(\.[0-9]{1,4})?$", description="Where the part before ended.")
]
NO_ARCHIVES: Final[list[str]] = []
Key = Annotated[str, Path(max_length=MAX_ADDRESS, pattern="^[0-9a-f]+$")]
Number = Annotated[int, Path(ge=0, lt=1000)]
Form = Annotated[str, Query(pattern="^(mbox|zip)$", description="mbox, or zip: a file for each message.")]


@router.get("/archives/{name}/search")
def find(
    request: Request, site: TheSite, who: Reader, name: str, *, q: Asked = "", below: MaybeBelow = None
) -> Response:
    """Show the messages of an archive that answer a question, the newest first."""
    check_name(site, name)
    return _shown(request, site, who, [name], q=q, below=below, alone=name)


@router.get("/search")
def find_all(
    request: Request,
    site: TheSite,
    who: Reader,
    *,
    q: Asked = "",
    archives: Annotated[list[str], Query()] = NO_ARCHIVES,
    below: MaybeBelow = None,
) -> Response:
    """Show the messages of several archives that answer a question, the newest first; none named: of all."""
    return _shown(request, site, who, chosen(site, archives), q=q, below=below)


def _shown(
    request: Request, site: Site, who: Who, names: list[str], *, q: str, below: str | None, alone: str = ""
) -> Response:
    answer, wrong = Answer([], None, []), ""
    try:
        answer = asked(site, names, q, PAGE, below, alone=bool(alone))
    except UsageError as error:
        wrong = str(error)
    everything = site.loaded.settings.archives
    one = {"q": q} if alone else {"q": q, "archives": names if len(names) < len(everything) else []}
    return page(
        request,
        "search.html",
        who,
        status=400 if wrong else 200,
        archive=alone,
        names=list(everything)[:MOST_ARCHIVES],
        chosen=set(names),
        several=len(names) > 1,
        elsewhere={it.archive for it in answer.looked if not it.here},
        q=q,
        answer=answer,
        below=below,
        again=urlencode(one, doseq=True),
        wrong=wrong,
    )


@router.get("/archives/{name}/messages/{key}")
def message(
    request: Request,
    site: TheSite,
    who: Reader,
    name: str,
    *,
    key: Key,
    view: Annotated[str, Query(pattern="^(text|html|headers|structure)$")] = "text",
    images: str = "",
) -> Response:
    """Show one message: as text, in a frame as HTML, its header, or its parts."""
    with closing(opened(site, name)) as archive:
        found = letter(archive, key)
        part = reading.html_part(found)
        raw, cut = reading.html(found, part) if part is not None and view == "html" else ("", False)
        header = reading.header_lines(found) if view == "headers" else []
        deliveries = reading.deliveries(site.loaded, site.database, found)
    return page(
        request,
        "message.html",
        who,
        headers={"Content-Security-Policy": f"{POLICY}; frame-src 'self'"},
        archive=name,
        at=f"/archives/{quote(name, safe='')}/messages/{key}",
        letter=found,
        view=view,
        views=VIEWS,
        images=images,
        has_html=part is not None,
        framed=letters.can_be_shown(raw),
        remote=letters.has_remote(raw),
        file_name=reading.file_name,
        text=text_of(found.structure),
        cut=cut if letters.can_be_shown(raw) else view in {"text", "html"} and text_is_cut(found.structure),
        header=header,
        deliveries=deliveries,
    )


@router.get("/archives/{name}/messages/{key}/html")
def html(site: TheSite, _who: Reader, name: str, key: Key, images: str = "") -> Response:
    """Returns the HTML of a message, for the frame."""
    with closing(opened(site, name)) as view:
        answer = letters.frame(letter(view, key), remote=bool(images))
    if answer is None:
        raise Problem(404, "this message has no HTML that can be shown; see its text")
    return answer


@router.get("/archives/{name}/messages/{key}/raw")
def raw(site: TheSite, _who: Reader, name: str, key: Key) -> Response:
    """Send the octets of a message as a file."""
    return raw_of(site, name, key)


@router.get("/archives/{name}/messages/{key}/parts/{number}")
def part(site: TheSite, _who: Reader, name: str, key: Key, number: Number) -> Response:
    """Send a part of a message as a file."""
    return part_of(site, name, key, number)


@router.get("/archives/{name}/export")
def export(site: TheSite, _who: Reader, name: str, q: Asked = "", form: Form = "mbox") -> Response:
    """Send all messages that answer a question as one file; without a question, the archive."""
    return export_of(site, name, q, form)


@router.get("/export")
def export_all(
    site: TheSite,
    _who: Reader,
    *,
    q: Asked = "",
    archives: Annotated[list[str], Query()] = NO_ARCHIVES,
    form: Form = "mbox",
) -> Response:
    """Send the messages of several archives that answer a question as one file; none named: of all."""
    return export_found(site, chosen(site, archives), q, form)


# --- shared with the API -----------------------------------------------------------------------------------


def asked(site: Site, names: list[str], q: str, limit: int, below: str | None, *, alone: bool = False) -> Answer:
    """Returns what archives of the configuration answer. Raises UsageError; with `alone=True` Problem, StorageError."""
    indexes = indexes_in(site.loaded, site.database)
    archives = [answers.of_name(site.loaded, name, indexes) for name in names]
    start = None if below is None else Below.read(below)
    try:
        return answers.find(archives, parse(q, zone(site)), limit, start, alone=alone)
    except ArchiveMissing as error:
        raise Problem(404, str(error)) from error


def chosen(site: Site, names: list[str]) -> list[str]:
    """Returns archives of the configuration; none named: all. Raises Problem."""
    for name in names:
        check_name(site, name)
    return list(dict.fromkeys(names)) or list(site.loaded.settings.archives)


def opened(site: Site, name: str) -> ArchiveView:
    """Open an archive of the configuration. Raises Problem, StorageError."""
    check_name(site, name)
    _check_is_here(site, name)
    return open_view(site.loaded, name)


def _check_is_here(site: Site, name: str) -> None:
    archive = site.loaded.settings.archives[name]
    if archive.path.exists():
        return
    if archive.site and isinstance(indexes_in(site.loaded, site.database), Tables):
        raise Problem(
            404,
            f"the archive {name} is at the site {archive.site}: this machine can search it, and not read it; "
            f"open the page of syncd at {archive.site}, or use there: syncd archive show {name} ID",
        )
    raise Problem(404, f"the archive {name} is not on this machine, or not made yet")


def letter(view: ArchiveView, key: str) -> Letter:
    """Returns a message. Raises Problem, StorageError."""
    found = reading.letter(view, key)
    if found is None:
        raise Problem(404, "this message is not in the archive")
    return found


def zone(site: Site) -> ZoneInfo:
    """Returns the time zone in which days of questions are meant."""
    return ZoneInfo(site.loaded.settings.timezone)


def raw_of(site: Site, name: str, key: str) -> Response:
    """Returns the octets of a message as a file. Raises Problem, StorageError."""
    with _sending(site) as held:
        found = letter(held.enter_context(closing(opened(site, name))), key)
        return sent(held, found.read.chunks(), f"{found.entry.id[:40]}.eml", "message/rfc822")


def part_of(site: Site, name: str, key: str, number: int) -> Response:
    """Returns a part of a message as a file. Raises Problem, StorageError."""
    with _sending(site) as held:
        found = letter(held.enter_context(closing(opened(site, name))), key)
        parts = found.structure.parts
        if number >= len(parts) or not parts[number].is_leaf:
            raise Problem(404, "the message has no such part")
        return sent(held, reading.octets_of(found, parts[number]), reading.file_name(parts[number]))


def export_of(site: Site, name: str, q: str, form: str) -> Response:
    """Returns messages of an archive as one file. Raises Problem, UsageError, StorageError."""
    if q.strip():
        check_name(site, name)
        return export_found(site, [name], q, form)
    lost: list[str] = []
    with _sending(site) as held:
        view = held.enter_context(closing(opened(site, name)))
        if form == "zip":
            mail_streams.check_fits(view)
        items = mail_streams.everything(view, site.loaded.settings.state_directory / BODIES, lost.append)
        return _file(held, items, lost, name, form)


def export_found(site: Site, names: list[str], q: str, form: str) -> Response:
    """Returns what archives answer as one file. Raises Problem, UsageError, StorageError."""
    for name in names:
        _check_is_here(site, name)
    question, indexes = parse(q, zone(site)), indexes_in(site.loaded, site.database)
    archives = [answers.of_name(site.loaded, name, indexes) for name in names]
    with _sending(site) as held:
        views = held.enter_context(closing(mail_streams.Views(partial(open_view, site.loaded))))
        answers.find(archives, question, 1, alone=True)  # what is wrong is told before the file begins
        if form == "zip":
            mail_streams.check_found_fit(archives, question)
        return _file(
            held, mail_streams.found(views, archives, question), [], names[0] if len(names) == 1 else "mail", form
        )


def _file(held: ExitStack, items: Iterator[Item], lost: list[str], name: str, form: str) -> Response:
    if form == "zip":
        return sent(held, mail_streams.zipped(items, lost), f"{name}.zip", "application/zip")
    return sent(held, mail_streams.mbox(items, lost), f"{name}.mbox", "application/mbox")


def sent(held: ExitStack, pieces: Iterator[bytes], file: str, kind: str = DOWNLOAD) -> Response:
    """Returns octets as a file that browsers save and never show (RFC 6266); `held` is closed at the end."""
    plain = "".join(sign if sign.isascii() and sign.isprintable() and sign not in '"\\%' else "_" for sign in file)
    about = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file, safe='', errors='replace')}"
    headers = {"Content-Disposition": about, "Content-Security-Policy": "default-src 'none'; sandbox"}
    return StreamingResponse(_Pieces(held.pop_all(), pieces), media_type=kind, headers=headers)


@contextmanager
def _sending(site: Site) -> Iterator[ExitStack]:
    """Returns what is to be closed with a file that is sent. Raises Problem where too many are sent."""
    with ExitStack() as held:
        if not site.sending.acquire(blocking=False):
            raise Problem(429, "too many files are being sent; try again when one of them is done")
        held.callback(site.sending.release)
        yield held


class _Pieces(Iterator[bytes]):
    """Octets of a file. `held` is closed with the last of them, and where a browser goes away before."""

    def __init__(self, held: ExitStack, pieces: Iterator[bytes]) -> None:
        self._held = held
        self._pieces = pieces

    def __next__(self) -> bytes:
        """Returns the next piece."""
        try:
            return next(self._pieces)
        except BaseException:
            self._held.close()
            raise

    def __del__(self) -> None:
        self._held.close()
