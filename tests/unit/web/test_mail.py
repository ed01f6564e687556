"""Mail of archives on the page: search, messages however hostile, downloads. Nothing runs, and nothing is fetched."""

from __future__ import annotations

import base64
import gc
import io
import mailbox
import os
import quopri
import re
import tracemalloc
import zipfile
from contextlib import closing
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest

from syncd.db.database import Database
from syncd.db.people import Role
from syncd.destinations.maildir import MaildirArchive
from syncd.destinations.mbox import MboxArchive
from syncd.destinations.packs import PacksArchive
from syncd.formats.view import ArchiveView
from syncd.mail.mime.structure import KEEP_OCTETS
from syncd.mail.mime.text import MAX_TEXT
from syncd.services import search
from syncd.services.archive import open_view
from syncd.services.reading import MAX_HTML
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from syncd.settings.load import load
from syncd.web import letter as letters
from syncd.web.pages.mail import raw_of
from syncd.web.site import MAX_FILES
from tests.contract.destination_kit import ROAD, SENT, delivered, message
from tests.support.jobs import Jobs
from tests.support.packs import spoil_mail
from tests.support.web import Browser, Desk, Reply
from tests.unit.web.conftest import CONFIG

PLAIN = (
    b"From: Ann <ann@example.net>\r\nSubject: Spring\r\nDate: Sun, 1 Mar 2026 12:00:00 +0000\r\n\r\n"
    b"hello <b>you</b>\r\n"
)
PICTURE = b"iVBORw0KGgo="
FORBIDDEN = re.compile(
    r"<script|<iframe|<object|<embed|<form|<input|<button|<svg|<math|<meta|<link|<base|<style>p|javascript:|vbscript:"
    r"|\son\w+\s*=|url\s*\(|@import|expression|srcset|data:text|\bbackground=",
    re.IGNORECASE,
)


def html_mail(html: str, *more: bytes) -> bytes:
    parts = b"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + html.encode() + b"\r\n"
    others = b"".join(b"--b\r\n" + part + b"\r\n" for part in more)
    head = b"From: mallory@example.net\r\nSubject: <script>alert(1)</script>\r\n"
    head += b"Date: Sat, 28 Feb 2026 12:00:00 +0000\r\n"
    return head + b"Content-Type: multipart/related; boundary=b\r\n\r\n" + parts + others + b"--b--\r\n"


HOSTILE = """
<html><head><meta http-equiv="refresh" content="0;url=https://evil.example/"><base href="https://evil.example/">
<link rel="stylesheet" href="https://evil.example/x.css"><style>p { background: url(https://evil.example/a) }
@import "https://evil.example/b";</style><title>t</title></head>
<body background="https://evil.example/c" onload="alert(1)"><script>alert(1)</script><scr<script>ipt>alert(2)</script>
<img src="https://evil.example/pixel.png" onerror="alert(1)" srcset="https://evil.example/2x">
<img src=x onerror=alert(1)>
<img src="//evil.example/d"><img src="data:image/svg+xml;base64,PHN2Zz4="><a href="javascript:alert(1)">j</a>
<a href=" java&#x0a;script:alert(1)">k</a><a href="data:text/html,<script>alert(1)</script>">d</a>
<a href="/archives">r</a>
<a href="https://fine.example/">fine</a><svg onload="alert(1)"><script>alert(3)</script></svg>
<math><mtext></mtext></math>
<iframe src="https://evil.example/"></iframe><iframe srcdoc="<script>alert(1)</script>"></iframe>
<object data="x"></object>
<embed src="x"><form action="https://evil.example/"><input name="password" onfocus="alert(1)" autofocus></form>
<div style="background-image: url(https://evil.example/e); color: rgb(1, 2, 3); position: fixed">x</div>
<p style="color: expression(alert(1)); width: url(https://evil.example/f)">text</p><video src="x"></video>
<noscript><p title="</noscript><img src=x onerror=alert(1)>"></noscript><template><script>alert(1)</script></template>
<table background="https://evil.example/g"><tr><td>cell</td></tr></table><img src="cid:pic"><img src="cid:none">
</body></html>
"""


class Shelf:
    """An archive with mail, and its pages."""

    def __init__(self, desk: Desk, name: str = "home") -> None:
        self.desk = desk
        self.name = name
        self.path = desk.site.loaded.settings.archives[name].path
        kind = MaildirArchive if desk.site.loaded.settings.archives[name].format.value == "maildir" else PacksArchive
        self._archive = kind(self.path)
        self._archive.create(uuid4())
        self._number = 0

    def put(self, *mails: bytes, index: bool = True) -> None:
        self._archive.open()
        for data in mails:
            self._number += 1
            delivered(self._archive, [message(self._number, data, ROAD)])
        self._archive.close()
        if index:
            self.index()

    def index(self) -> None:
        with closing(self.view()) as view:
            search.update(view)

    def view(self) -> ArchiveView:
        return open_view(self.desk.site.loaded, self.name)

    def address(self, browser: Browser, q: str = "") -> str:
        """Where the newest message that answers a question is."""
        found = re.findall(
            r'href="(/archives/home/messages/[0-9a-f]+)"', browser.get(f"/archives/home/search?q={q}").text
        )
        return str(found[0])


@pytest.fixture
def config() -> str:
    return CONFIG


@pytest.fixture
def home(desk: Desk) -> Shelf:
    return Shelf(desk)


@pytest.fixture
def browser(desk: Desk) -> Browser:
    return desk.browser(Role.READER)


def framed(browser: Browser, shelf: Shelf, data: bytes, query: str = "") -> Reply:
    shelf.put(data)
    return browser.get(shelf.address(browser) + "/html" + query)


# --- searching ---------------------------------------------------------------------------------------------


def test_a_search_lists_messages_in_parts(home: Shelf, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd.web.pages.mail.PAGE", 2)
    dated = b"Subject: number %d\r\nDate: Sun, %d Mar 2026 12:00:00 +0000\r\n\r\nalike\r\n"
    home.put(*(dated % (n, n) for n in range(1, 6)))
    seen: list[str] = []
    address = "/archives/home/search?q=alike"
    while address:
        text = browser.get(address).text
        seen += re.findall(r"number (\d)", text)
        older = re.search(r'href="([^"]+)" rel="next"', text)
        address = older[1].replace("&amp;", "&") if older else ""
    assert seen == ["5", "4", "3", "2", "1"]
    assert "No message matches" in browser.get("/archives/home/search?q=nothing").text


def test_mistakes_are_told_and_mail_that_is_not_searched_yet(home: Shelf, browser: Browser) -> None:
    home.put(PLAIN, index=False)
    text = browser.get("/archives/home/search").text
    assert "1 message not searched yet" in text
    assert "syncd archive reindex home" in text
    reply = browser.get("/archives/home/search?q=fro:x")
    assert (reply.status, "there is no field" in reply.text) == (400, True)
    assert browser.get("/archives/home/search?q=%3Cscript%3E").text.count("<script>") == 0
    assert browser.get("/archives/nowhere/search").status == 404
    assert browser.get("/archives/home/search?q=" + "x" * 2000).status == 422


def test_an_archive_that_is_not_here_says_so(browser: Browser) -> None:
    reply = browser.get("/archives/home/search")
    assert (reply.status, "not on this machine" in reply.text) == (404, True)


class TestSeveralArchives:
    @pytest.fixture
    def config(self) -> str:
        return f'{CONFIG}\n[archives.work]\npath = "work"\nformat = "maildir"\n[archives.none]\npath = "nowhere"\n'

    def test_all_are_searched_and_the_newest_come_first_in_parts(
        self, home: Shelf, desk: Desk, browser: Browser, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("syncd.web.pages.mail.PAGE", 2)
        dated = b"Subject: number %d\r\nDate: Sun, %d Mar 2026 12:00:00 +0000\r\n\r\nalike\r\n"
        home.put(*(dated % (n, day) for n, day in ((1, 5), (2, 7), (3, 7), (4, 9))))
        Shelf(desk, "work").put(*(dated % (n, day) for n, day in ((5, 7), (6, 1), (7, 9))))
        seen: list[str] = []
        address = "/search?q=alike"
        while address:
            text = browser.get(address).text
            seen += re.findall(r"number (\d)", text)
            older = re.search(r'href="([^"]+)" rel="next"', text)
            address = older[1].replace("&amp;", "&") if older else ""
        assert [{*seen[:2]}, {*seen[2:5]}, seen[5:]] == [{"4", "7"}, {"2", "3", "5"}, ["1", "6"]]
        assert "Not searched: the archive none is not on this machine, or not made yet" in text
        assert "In all 3 archives" in text
        chosen = browser.get("/search?q=alike&archives=work&archives=none").text
        assert re.findall(r"number (\d)", chosen) == ["7", "5"]
        assert "archives=work&amp;archives=none" in chosen
        assert browser.get("/search?archives=other").status == 404
        assert browser.get("/search?q=fro:x").status == 400
        for at in ("/export", "/api/v1/export"):
            both = browser.get(at + "?q=alike&archives=home&archives=work").text
            assert sorted(re.findall(r"Subject: number (\d)", both)) == list("1234567")
            packed = browser.get(at + "?q=alike&archives=home&archives=work&form=zip")
            assert packed.header("content-disposition").startswith('attachment; filename="mail.zip"')
            assert len(zipfile.ZipFile(io.BytesIO(packed.body)).namelist()) == 7
            assert browser.get(at + "?q=alike").status == 404  # one of them is not here
        assert "/export?q=alike&amp;archives=home&amp;archives=work&amp;form=mbox" in (
            browser.get("/search?q=alike&archives=home&archives=work").text
        )
        api = browser.get("/api/v1/search?q=alike&limit=3&archives=work").json
        assert [it["archive"] for it in api["items"]] == ["work"] * 3
        assert (api["next"], api["archives"][0]["here"]) == (None, True)
        part = browser.get("/api/v1/search?q=alike&limit=3").json
        rest = browser.get(part["next"]).json
        assert len({(it["archive"], it["key"]) for it in part["items"] + rest["items"]}) == 6
        assert {it["archive"]: bool(it["error"]) for it in part["archives"]} == {
            "home": False, "work": False, "none": True,
        }  # fmt: skip


def test_nobody_reads_without_signing_in(home: Shelf, desk: Desk, browser: Browser) -> None:
    home.put(PLAIN)
    address, stranger = home.address(browser), desk.browser(None)
    parts = [f"{address}/{it}" for it in ("html", "raw", "parts/0")]
    for path in ("/archives/home/search", "/archives/home/export", address, *parts):
        assert stranger.get(path).status == 303
        assert stranger.get(path).header("location").startswith("/sign-in")


# --- one message -------------------------------------------------------------------------------------------


def test_a_message_is_shown_in_four_ways(home: Shelf, browser: Browser) -> None:
    home.put(PLAIN)
    address = home.address(browser, "spring")
    text = browser.get(address).text
    assert "hello &lt;b&gt;you&lt;/b&gt;" in text
    assert "road" in text
    assert "INBOX" in text
    assert "Subject: Spring" in browser.get(address + "?view=headers").text
    assert "text/plain" in browser.get(address + "?view=structure").text
    assert browser.get(address + "?view=other").status == 422
    raw = browser.get(address + "/raw")
    assert raw.body == PLAIN
    assert raw.header("content-disposition").startswith("attachment; ")
    assert browser.get(address + "/html").status == 404
    for wrong in ("00", "zz", "..%2f..%2fetc", "0" * 64):
        assert browser.get(f"/archives/home/messages/{wrong}").status in {404, 422}


def test_hostile_html_does_nothing(home: Shelf, browser: Browser) -> None:
    picture = b"Content-Type: image/png\r\nContent-ID: <pic>\r\nContent-Transfer-Encoding: base64\r\n\r\n" + PICTURE
    reply = framed(browser, home, html_mail(HOSTILE, picture))
    assert reply.status == 200
    body = reply.text.partition("<body>")[2]
    assert FORBIDDEN.findall(body) == []
    assert re.findall(r'\bsrc="([^"]*)"', body) == ["data:image/png;base64,iVBORw0KGgo="]
    assert re.findall(r'href="([^"]*)"', body) == ["https://fine.example/"]
    assert 'rel="noopener noreferrer nofollow"' in body
    assert "color:rgb(1,2,3)" in body.replace(" ", "")
    assert "evil.example" not in body
    assert "cell" in body


def test_the_frame_lets_nothing_run_or_be_fetched(home: Shelf, browser: Browser) -> None:
    reply = framed(browser, home, html_mail(HOSTILE))
    policy = {it.split()[0]: it.split()[1:] for it in reply.header("content-security-policy").split(";")}
    assert policy["default-src"] == ["'none'"]
    assert policy["img-src"] == ["data:"]
    assert not {"allow-scripts", "allow-same-origin", "allow-forms", "allow-top-navigation"} & set(policy["sandbox"])
    assert "script-src" not in policy
    assert policy["frame-ancestors"] == ["'self'"]
    assert reply.header("referrer-policy") == "no-referrer"
    page = browser.get(home.address(browser) + "?view=html")
    (frame,) = re.findall(r"<iframe[^>]*>", page.text)
    assert 'sandbox="allow-popups allow-popups-to-escape-sandbox"' in frame
    assert "frame-src 'self'" in page.header("content-security-policy")
    assert "<script>alert" not in page.text


def test_pictures_from_elsewhere_are_loaded_when_asked_for(home: Shelf, browser: Browser) -> None:
    html = '<img src="https://pictures.example/a.png"><img src="javascript:x">'
    assert "pictures.example" not in framed(browser, home, html_mail(html)).text
    address = home.address(browser)
    assert "Load them once" in browser.get(address + "?view=html").text
    asked = browser.get(address + "/html?images=yes")
    assert 'src="https://pictures.example/a.png"' in asked.text
    assert "javascript" not in asked.text
    assert "img-src data: https: http:;" in asked.header("content-security-policy")


@pytest.mark.parametrize("open_tag", ["<div>", "<ul><li>", "<b><i><u>", "<table><tr><td>", "<x-y>", "<blockquote>"])
def test_html_that_is_nested_without_end_is_not_shown(
    open_tag: str, home: Shelf, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters, "harmless", lambda *_, **__: pytest.fail("it would take minutes"))
    assert framed(browser, home, html_mail("seen" + open_tag * 20_000)).status == 404
    shown = browser.get(home.address(browser) + "?view=html").text
    assert "There is no HTML that can be shown" in shown
    assert "seen" in shown
    assert "<iframe" not in shown


def test_old_html_without_end_tags_is_shown(home: Shelf, browser: Browser) -> None:
    assert framed(browser, home, html_mail("<p>one<br><li>two" * 5_000)).status == 200


def test_wrong_charsets_and_many_parts_are_shown(home: Shelf, browser: Browser) -> None:
    home.put(b"Content-Type: text/html; charset=x-none\r\nSubject: \xff\xfe\r\n\r\n<p>caf\xe9</p>")
    assert "café" in browser.get(home.address(browser) + "/html").text
    part = b"--b\r\nContent-Type: text/plain; name=f%d\r\n\r\nx\r\n"
    home.put(
        b"Subject: parts\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        + b"".join(part % n for n in range(10_000))
    )
    text = browser.get(home.address(browser, "parts") + "?view=structure").text
    assert "There are more parts" in text
    assert len(text) < 500_000


@pytest.mark.parametrize(
    ("view", "characters", "is_cut"),
    [
        ("text", MAX_TEXT + 10, True),
        ("text", 2 * KEEP_OCTETS, True),
        ("text", MAX_TEXT - 1_000, False),
        ("html", MAX_HTML - 1_000, False),
        ("html", MAX_HTML + 10, True),
        ("headers", 2 * KEEP_OCTETS, False),
    ],
)
def test_a_long_message_says_that_its_beginning_is_shown(
    home: Shelf, browser: Browser, view: str, characters: int, *, is_cut: bool
) -> None:
    home.put(html_mail("<p>" + "word " * (characters // 5)))
    assert ("beginning of a long message" in browser.get(home.address(browser) + f"?view={view}").text) == is_cut


def test_html_without_end_takes_little_memory(home: Shelf, browser: Browser) -> None:
    home.put(html_mail("<div>" + "<p onclick=x>word" * 1_500_000))
    address = home.address(browser)
    tracemalloc.start()
    try:
        for path in (address, f"{address}/html"):
            assert browser.get(path).status == 200
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


# --- attachments -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ('a"; filename=evil.exe; x="', "a_; filename=evil.exe; x="),
        (".htaccess", "htaccess"),
        ("Zeichnung für Ämter.png", "Zeichnung für Ämter.png"),
        ("gpj.\u202eexe", "gpj._exe"),
        ("...", "part-1.bin"),
        ("x" * 500, "x" * 120),
    ],
)
def test_names_of_attachments_are_names(name: str, saved: str, home: Shelf, browser: Browser) -> None:
    quoted = "".join(f"%{octet:02X}" for octet in name.encode())
    home.put(html_mail("<p>see", b"Content-Type: text/html\r\nContent-Disposition: attachment; filename*=utf-8''"
                       + quoted.encode() + b"\r\nContent-Transfer-Encoding: base64\r\n\r\nPHNjcmlwdD4=").replace(
                           b"Content-Type: text/html; charset=utf-8\r\n", b"Content-Type: text/plain\r\n"))  # fmt: skip
    address = home.address(browser)
    (number,) = re.findall(rf'{address}/parts/(\d+)"', browser.get(address).text)
    reply = browser.get(f"{address}/parts/{number}")
    assert reply.body == b"<script>"
    assert reply.header("content-type") == "application/octet-stream"
    assert reply.header("x-content-type-options") == "nosniff"
    assert reply.header("content-security-policy") == "default-src 'none'; sandbox"
    shown = reply.header("content-disposition")
    plain, _, encoded = shown.partition("; filename*=UTF-8''")
    assert re.fullmatch(r'attachment; filename="[ !#-\[\]-~]*"', plain)
    assert encoded == _percent(saved.replace("part-1", f"part-{number}"))


def _percent(text: str) -> str:
    return quote(text, safe="")


def test_line_ends_in_a_name_make_no_header(home: Shelf, browser: Browser) -> None:
    home.put(html_mail("<p>", b"Content-Type: application/pdf; name*=utf-8''a%0D%0ASet-Cookie:%20x=y\r\n\r\nx"))
    address = home.address(browser)
    reply = browser.get(f"{address}/parts/2")
    assert reply.header("set-cookie") == ""
    assert "\r" not in reply.header("content-disposition")
    assert browser.get(f"{address}/parts/0").status == 404
    assert browser.get(f"{address}/parts/99").status == 404


def test_encodings_are_undone_across_chunks(home: Shelf, browser: Browser) -> None:
    octets = bytes(range(256)) * 3_000
    coded = base64.encodebytes(octets).replace(b"\n", b"\r\n")
    quoted = quopri.encodestring(octets, quotetabs=True)
    home.put(
        html_mail(
            "<p>",
            b"Content-Type: a/b; name=one\r\nContent-Transfer-Encoding: base64\r\n\r\n" + coded,
            b"Content-Type: a/b; name=two\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + quoted,
        )
    )
    address = home.address(browser)
    assert browser.get(f"{address}/parts/2").body == octets
    assert browser.get(f"{address}/parts/3").body.rstrip(b"\n") == octets.replace(b"\r\n", b"\n").rstrip(b"\n")


# --- downloads ---------------------------------------------------------------------------------------------


def test_a_result_and_an_archive_are_downloaded(home: Shelf, browser: Browser, tmp_path: Path) -> None:
    other = b"Subject: other\r\n\r\nFrom here on\r\n"
    home.put(PLAIN, other)
    reply = browser.get("/archives/home/export?q=subject:spring")
    assert reply.header("content-disposition").startswith('attachment; filename="home.mbox"')
    file = tmp_path / "all.mbox"
    for octets, subjects in (
        (browser.get("/archives/home/export").body, ["Spring", "other"]),
        (reply.body, ["Spring"]),
    ):
        file.write_bytes(octets)
        with closing(mailbox.mbox(file)) as read:
            assert [it["Subject"] for it in read] == subjects
    for q, number in (("", 2), ("?q=other&form=zip", 1)):
        found = zipfile.ZipFile(io.BytesIO(browser.get("/archives/home/export" + (q or "?form=zip")).body))
        assert found.testzip() is None
        assert found.namelist() == [f"{n:06d}.eml" for n in range(1, number + 1)]
        assert other in {found.read(name) for name in found.namelist()}
    assert browser.get("/archives/home/export?form=tar").status == 422


def test_a_zip_file_has_not_more_than_its_directory_bears(
    home: Shelf, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd.services.mail_streams.MAX_FILES", 1)
    home.put(PLAIN, b"Subject: other\r\n\r\n")
    for q in ("", "before:2030-01-01"):
        reply = browser.get(f"/archives/home/export?form=zip&q={q}")
        assert (reply.status, "take an mbox" in reply.text) == (400, True)
    assert browser.get("/archives/home/export?form=zip&q=subject:other").status == 200


def test_what_cannot_be_read_is_told_in_the_file(home: Shelf, browser: Browser) -> None:
    home.put(PLAIN)
    spoil_mail(home.path)
    assert "Subject: messages that could not be read" in browser.get("/archives/home/export").text
    assert "Subject: messages that could not be read" in browser.get("/archives/home/export?q=spring").text
    found = zipfile.ZipFile(io.BytesIO(browser.get("/archives/home/export?q=spring&form=zip").body))
    assert found.namelist() == ["not-readable.txt"]


def test_only_so_many_files_are_sent_at_a_time(home: Shelf, desk: Desk, browser: Browser) -> None:
    home.put(PLAIN)
    address = home.address(browser)
    key = address.rpartition("/")[2]
    answers = [raw_of(desk.site, "home", key) for _ in range(MAX_FILES)]  # nobody has read any of them yet
    assert browser.get(address + "/raw").status == 429
    assert browser.get("/archives/home/export").status == 429
    answers.clear()
    gc.collect()
    for _ in range(2 * MAX_FILES):
        assert browser.get(address + "/raw").body == PLAIN
        assert browser.get(address + "/parts/9").status == 404


def test_names_that_are_no_text_are_shown(home: Shelf, desk: Desk, browser: Browser) -> None:
    with closing(PacksArchive(home.path)) as archive:
        archive.open()
        delivered(archive, [message(1, PLAIN, SENT)])
    home.index()
    assert "Sent/2019 ?" in browser.get("/archives/home/search?q=spring").text
    assert "Sent/2019 ?" in browser.get(home.address(browser)).text
    found = Browser(desk.app).get("/api/v1/archives/home/search", authorization=f"Bearer {desk.token(Role.READER)}")
    assert found.json["items"][0]["mailboxes"] == ["Sent/2019 \udcff"]


class TestMaildir:
    """The same pages over a Maildir."""

    @pytest.fixture
    def config(self) -> str:
        return CONFIG.replace('path = "home"', 'path = "home"\nformat = "maildir"')

    def test_mail_is_found_shown_and_downloaded(self, home: Shelf, browser: Browser) -> None:
        home.put(PLAIN)
        address = home.address(browser, "spring")
        assert "hello" in browser.get(address).text
        assert browser.get(address + "/raw").body == PLAIN.replace(b"\r\n", b"\n")
        assert b"Subject: Spring" in browser.get("/archives/home/export").body
        assert b"Subject: Spring" in browser.get("/archives/home/export?q=hello").body

    def test_files_whose_names_are_no_text_are_read(self, home: Shelf, browser: Browser) -> None:
        Path(os.fsdecode(os.fsencode(home.path / "cur") + b'/17.\xff"x:2,S')).write_bytes(PLAIN)
        home.index()
        address = home.address(browser, "spring")
        assert "hello" in browser.get(address).text
        assert browser.get(address + "/raw").body == PLAIN
        assert 'filename="17.__x.eml"' in browser.get(address + "/raw").header("content-disposition")


# --- the API -----------------------------------------------------------------------------------------------


def test_the_api_finds_reads_and_sends(home: Shelf, desk: Desk) -> None:
    home.put(PLAIN, html_mail("<p>rich", b"Content-Type: a/b; name=one.bin\r\n\r\nocts"))
    caller, token = Browser(desk.app), desk.token(Role.READER)

    def get(path: str) -> Reply:
        return caller.get("/api/v1/archives/home" + path, authorization=f"Bearer {token}")

    first = get("/search?limit=1").json
    assert first["not_searched"] == 0
    assert [it["subject"] for it in first["items"]] == ["Spring"]
    second = caller.get(first["next"], authorization=f"Bearer {token}").json
    assert (len(second["items"]), second["next"]) == (1, None)
    found = get("/messages/" + second["items"][0]["key"]).json
    assert (found["text"], found["has_html"], found["deliveries"]) == ("rich", True, [])
    assert [(it["number"], it["name"]) for it in found["parts"] if it["is_attachment"]] == [(2, "one.bin")]
    assert found["places"][0]["mailbox"] == "INBOX"
    address = "/messages/" + found["key"]
    assert get(address + "/parts/2").body == b"octs"
    assert get(address + "/raw").body.startswith(b"From: mallory")
    assert get("/export?q=rich").body.count(b"From MAILER-DAEMON") == 1
    wrong = {"/search?q=fro:x": 400, "/messages/00": 404, address + "/parts/0": 404, "/export?form=x": 422}
    for path, status in wrong.items():
        assert (get(path).status, get(path).header("content-type")) == (status, "application/problem+json")
    assert caller.get("/api/v1/archives/home/search").status == 401


@pytest.mark.parametrize("form", ["packs", "maildir", "mbox"])
def test_a_message_tells_where_it_was_delivered(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs(tmp_path, ["j"], patch=monkeypatch)
    jobs.configure(form=form)
    jobs.run()
    loaded = jobs.loaded
    with Database.open(None, loaded.settings.state_directory) as database:
        desk = Desk(jobs.file, database)
        with closing(open_view(loaded, "j-home")) as view:
            search.update(view)
        browser = desk.browser(Role.READER)
        keys = re.findall(r"messages/([0-9a-f]+)", browser.get("/archives/j-home/search").text)
        assert len(keys) == 2
        text = browser.get(f"/archives/j-home/messages/{keys[0]}").text
        assert re.search(r'href="/jobs/j">j</a></td><td>j-home</td><td>delivered</td>', text)


@pytest.mark.parametrize("form", ["eml", "maildir", "mbox", "packs"])
def test_a_message_of_an_archive_that_is_a_source_tells_where_it_was_delivered(tmp_path: Path, form: str) -> None:
    if form == "eml":
        (tmp_path / "from" / "Box").mkdir(parents=True)
        (tmp_path / "from" / "Box" / "a.eml").write_bytes(PLAIN)
    else:
        archive = {"maildir": MaildirArchive, "mbox": MboxArchive, "packs": PacksArchive}[form](tmp_path / "from")
        archive.create(uuid4())
        archive.open()
        delivered(archive, [message(1, PLAIN, SENT)])
        archive.close()
    (tmp_path / "syncd.toml").write_text(
        f'state_directory = "state"\n[archives.old]\npath = "from"\nformat = "{form}"\n[archives.new]\npath = "to"\n'
        f'format = "maildir"\n[jobs.move]\nsource = "old"\ndestinations = ["new"]\n'
    )
    loaded = load(tmp_path / "syncd.toml")
    (report,) = RunsByHand(loaded, [], RunOptions(), lambda _: None).execute()
    assert report.fetched == 1
    with Database.open(None, loaded.settings.state_directory) as database:
        browser = Desk(tmp_path / "syncd.toml", database).browser(Role.READER)
        for name in ("old", "new"):
            with closing(open_view(loaded, name)) as view:
                search.update(view)
            (key,) = re.findall(r"messages/([0-9a-f]+)", browser.get(f"/archives/{name}/search").text)
            found = browser.get(f"/api/v1/archives/{name}/messages/{key}").json
            assert [(it["job"], it["destination"], it["state"]) for it in found["deliveries"]] == [
                ("move", "new", "delivered")
            ], name
