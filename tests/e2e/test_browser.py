"""The page in Debian's chromium: what a person sees, with and without JavaScript, at two sizes and in both themes.

axe-core looks for what keeps people out who use a screen reader or see badly. A console error, such as of a script or
style that the Content-Security-Policy forbids, fails each of these tests. `make soak` looks at every page in every way.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import pytest

from syncd import clock
from syncd.db import errands
from syncd.db.errands import Kind, State, Subject
from syncd.db.holder import Holder
from syncd.engine.exit_codes import ExitCode
from syncd.mail.mailbox import Path as MailboxPath
from syncd.services.verify.formats import ENTRY_HEADS, HEADS, as_html
from syncd.services.verify.report import Report
from syncd.services.verify.scratch import Scratch
from syncd.services.verify.values import DestinationProof, Entry, MailboxProof, Status, Tally
from syncd.services.wiring import owner
from tests.demo.pages import PAGES, Served, served
from tests.fakes.imap import PASSWORD, USERNAME, FakeImap
from tests.fakes.imap_words import Word
from tests.support.chromium import SIZES, THEMES, chromium, context, missing
from tests.support.mail import samples
from tests.support.processes import LONGEST_S, Service
from tests.unit.web.test_mail import HOSTILE, html_mail

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

AXE: Final = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
SERIOUS: Final = "async () => (await axe.run()).violations.filter(it => ['serious', 'critical'].includes(it.impact))"
WIDE: Final = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
BY_HAND: Final = """
[accounts.by-hand]
protocol = "imap"
host = "{server.host}"
port = {server.port}
security = "none"
allow_insecure = true
username = "{user}"
password = "env:PASSWORD"
[archives.attic]
path = "attic"
[jobs.by-hand]
source = "by-hand"
destinations = ["attic"]
"""
EVERY: Final = (*PAGES.items(), ("sign-in", "/sign-in"))
PATIENCE_MS: Final = 60_000


class Site(NamedTuple):
    """A page that is served, and a browser."""

    served: Served
    browser: Any
    source: FakeImap  # of the job by-hand


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    mail = (*samples().values(), html_mail(HOSTILE, b"Content-ID: <pic>\r\nContent-Type: image/png\r\n\r\nx"))
    with FakeImap() as source:
        more = BY_HAND.format(server=source, user=USERNAME)
        with served(tmp_path_factory.mktemp("page"), *mail, more=more) as page, chromium() as browser:
            yield Site(page, browser, source)


Open = Callable[[str], Any]


@contextmanager
def window(site: Site, size: str, theme: str, *, script: bool = True) -> Iterator[Open]:
    """What opens a path in a window, signed in but for /sign-in; the console must stay empty."""
    opened, errors = context(site.browser, size, theme, java_script_enabled=script), list[str]()
    page = opened.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))

    def go(path: str) -> Any:
        opened.clear_cookies()
        if path != "/sign-in":
            opened.add_cookies([{"name": "syncd", "value": site.served.cookie, "url": site.served.address}])
        page.goto(site.served.address + path.replace("LETTER", site.served.letter))
        return page

    yield go
    opened.close()
    assert [it for it in errors if "404" not in it] == []  # of the page that is not there


def look(page: Any, name: str) -> None:
    """Look at a page as it stands: it fits, and nobody is kept out."""
    assert not page.evaluate(WIDE), f"{name} is wider than its window"
    page.evaluate(AXE)
    found = page.evaluate(SERIOUS)
    assert [(name, it["id"], [node["html"] for node in it["nodes"]]) for it in found] == []


@pytest.mark.parametrize(("size", "theme"), [("desktop", "light"), ("phone", "dark")])
def test_the_overview_and_a_job_fit_and_keep_nobody_out(site: Site, size: str, theme: str) -> None:
    with window(site, size, theme) as go:
        for name in ("overview", "job"):
            look(go(PAGES[name]), name)


def test_somebody_kept_out_would_be_noticed(site: Site) -> None:
    with window(site, "desktop", "light") as go:
        page = go("/")
        page.evaluate("document.querySelector('main').insertAdjacentHTML('beforeend', '<input>')")
        with pytest.raises(AssertionError, match="label"):
            look(page, "spoilt")


def test_keys_lead_through_the_pages_and_a_list_shows_them(site: Site) -> None:
    with window(site, "desktop", "dark") as go:
        page = go("/")
        page.keyboard.press("?")
        assert page.locator("#keys").is_visible()
        look(page, "keys")
        page.keyboard.press("Escape")
        assert not page.locator("#keys").is_visible()
        page.keyboard.press("g")
        page.keyboard.press("j")
        page.wait_for_url("**/jobs")
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.wait_for_url("**/jobs/road-backup")


def test_a_run_is_asked_for_and_cancelled_without_javascript_and_seen_live_with_it(site: Site) -> None:
    with window(site, "desktop", "light") as watch, window(site, "phone", "light", script=False) as go:
        overview = watch("/")
        overview.get_by_text("The same as a table").click()
        overview.get_by_role("link", name="office-backup").first.focus()
        page = go("/jobs/road-backup")
        page.get_by_role("button", name="Run now").click()
        page.wait_for_url("**/runs/*")
        overview.get_by_role("heading", name="Queued").wait_for()
        overview.get_by_role("columnheader", name="Octets").wait_for()  # what was open stays open
        assert overview.evaluate("document.activeElement.textContent") == "office-backup"
        page.get_by_role("button", name="Cancel").click()
        page.locator(".badge", has_text="stopped").wait_for()
        overview.get_by_role("heading", name="Queued").wait_for(state="detached")


def test_two_browsers_and_a_run_by_hand_agree(site: Site) -> None:
    """A run by hand is live in one browser; the other one asks for a run, comes to the same, and cancels it."""
    over = threading.Event()

    def held(_: list[Word]) -> None:
        over.wait(LONGEST_S)

    site.source.box("INBOX").add(b"Subject: a\r\n\r\nhello\r\n")
    site.source.on["UID FETCH"] = held
    file = site.served.desk.file
    by_hand = Service("run", "by-hand", config=file, log=file.parent / "log", environment={"PASSWORD": PASSWORD})
    with ExitStack() as stack:
        watch = stack.enter_context(window(site, "desktop", "light"))
        go = stack.enter_context(window(site, "phone", "dark", script=False))
        stack.enter_context(by_hand)
        stack.callback(over.set)
        watch("/jobs/by-hand").locator(".badge", has_text="running").first.wait_for()
        mine = go("/jobs/by-hand")
        mine.get_by_role("button", name="Run now").click()  # leads to the run that is under way
        mine.wait_for_url("**/runs/*")
        theirs = watch(urlsplit(mine.url).path)
        assert [page.locator(".badge").inner_text() for page in (mine, theirs)] == ["running", "running"]
        mine.get_by_role("button", name="Cancel").click()
        theirs.locator(".badge", has_text="stopped").wait_for()
        assert by_hand.ended() == ExitCode.INTERRUPTED
        mine.reload()
        assert mine.locator(".badge").inner_text() == "stopped"


def test_the_keyboard_stays_at_cancel_while_the_page_tells_how_far_it_is(site: Site) -> None:
    desk, now = site.served.desk, clock.now()
    subject = Subject(owner(desk.site.loaded).name, Kind.VERIFY, "office-backup")
    assert errands.ask(desk.database, errands.Wanted(subject, "ann"), now)
    taken = errands.take(desk.database, [Kind.VERIFY], subject.configuration, Holder.me("test"), now)
    assert taken is not None
    with window(site, "desktop", "dark") as go:
        page = go("/jobs/office-backup/verify")
        page.locator("#cancel").focus()
        errands.touch(desk.database, taken, '{"mailbox":"Sent","number":3,"of":9}')
        page.get_by_text("mailbox 3 of 9: Sent").wait_for()
        look(page, "verification under way")
        page.keyboard.press("Enter")
        page.locator(".badge", has_text="cancelling").wait_for()
        errands.end(desk.database, taken, State.CANCELLED, clock.now(), error="cancelled")
        page.get_by_role("button", name="Verify again").wait_for()


def test_a_hostile_message_runs_nothing_and_fetches_nothing(site: Site) -> None:
    with window(site, "desktop", "light") as go:
        page = go("/")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("dialog", lambda dialog: asked.append(dialog.message))
        page.goto(site.served.address + PAGES["message"].replace("LETTER", site.served.letter))
        frame = page.frame_locator("iframe.letter")
        frame.get_by_text("cell").wait_for()
        assert frame.locator("script, iframe, object, form, input, svg, [onerror], [onload]").count() == 0
        look(page, "message")
        assert len(asked) >= 2
        assert [url for url in asked if not url.startswith((site.served.address, "data:"))] == []


@pytest.mark.soak
@pytest.mark.parametrize(("size", "theme"), list(product(SIZES, THEMES)))
def test_every_page_fits_and_keeps_nobody_out(site: Site, size: str, theme: str) -> None:
    with window(site, size, theme) as go:
        for name, path in EVERY:
            look(go(path), name)


@pytest.mark.soak
@pytest.mark.parametrize("size", SIZES)
def test_every_page_says_the_same_without_javascript(site: Site, size: str) -> None:
    with window(site, size, "light") as go, window(site, size, "light", script=False) as plain:
        for name, path in EVERY:
            assert said(go(path)) == said(plain(path)), name


def said(page: Any) -> list[str]:
    """The words of a page, without how long ago something was."""
    text = page.locator("main").inner_text()
    for ago in page.locator("main time").all_inner_texts():
        text = text.replace(ago, "", 1)
    return list(text.split())


BROKEN: Final = """() => [...document.querySelectorAll('th, .s')].flatMap(cell => [...cell.childNodes].flatMap(node =>
    [...node.data.matchAll(/[^\\s]+/g)].filter(word => {
        const range = document.createRange();
        range.setStart(node, word.index);
        range.setEnd(node, word.index + word[0].length);
        return range.getClientRects().length > 1;
    }).map(word => word[0])))"""


class Noted(Scratch):
    """The notes of a verification."""

    def __init__(self) -> None:
        """Has no file."""

    def entries(self, paths: Sequence[MailboxPath], names: Sequence[str]) -> Iterator[Entry]:
        for status in Status:
            yield Entry(paths[0], "4711", 1, names[0], "Projects/2019", status, "some words " * 40)


def test_no_word_of_the_headings_and_results_of_a_report_is_broken(site: Site) -> None:
    tally = Tally("new", Counter({Status.EQUAL: 1}), 12_345, 99_999, {"A long name of a mailbox, with many words"})
    report = Report(
        job="move", at=clock.now(), read=False, source="old", source_kind="imap",
        destinations=(DestinationProof("new", "imap", compared=True, note=""),),
        mailboxes=(MailboxProof(("A long name of a mailbox, with many words",), "", 12_345, 99_999, tallies=[tally]),),
        others=(), scratch=Noted(),
    )  # fmt: skip
    page = site.browser.new_page(viewport={"width": 1200, "height": 800})
    page.set_content("".join(as_html(report, "0" * 64)))
    assert page.locator("th").count() == len(HEADS) + len(ENTRY_HEADS)
    assert page.evaluate(BROKEN) == []
    assert not page.evaluate(WIDE)
    page.close()
