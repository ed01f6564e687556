"""A job is verified from the page: begun, shown with each mailbox and reason, downloaded, and shown on the job."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from syncd.db.people import Role
from syncd.errors import UsageError
from syncd.services.errands import work
from syncd.services.runs import RunsByHand
from syncd.services.slices import RunOptions
from tests.support.web import Desk
from tests.unit.web.test_api import Program
from tests.unit.web.test_mail import PLAIN, Shelf

PATH = "/jobs/copy/verify"


@pytest.fixture
def config() -> str:
    archives = '[archives.home]\npath = "home"\n[archives.second]\npath = "second"\n'
    return f'{archives}[jobs.copy]\nsource = "home"\ndestinations = ["second"]\n'


@pytest.fixture
def home(desk: Desk) -> Shelf:
    """The source, with two messages that were copied."""
    home = Shelf(desk)
    home.put(PLAIN, PLAIN + b"again\r\n", index=False)
    (report,) = RunsByHand(desk.site.loaded, ["copy"], RunOptions(), lambda _: None).execute()
    assert report.errors == []
    return home


def verified(desk: Desk, **fields: str) -> str:
    assert desk.browser().post(PATH, fields).header("location") == PATH
    assert desk.site.errands.join(60)
    return desk.browser(Role.READER).get(PATH).text


def test_a_job_that_never_ran_says_so(desk: Desk) -> None:
    Shelf(desk).put(PLAIN, index=False)
    assert "After the first run" in desk.browser().get("/jobs/copy").text
    assert "has never run" in verified(desk)
    assert desk.browser().get(f"{PATH}/report").status == 404


def test_what_was_copied_is_proven_and_the_report_downloaded(desk: Desk, home: Shelf) -> None:
    text = verified(desk, read="yes")
    assert "No difference." in text
    assert "every octet was read and hashed" in text
    job = desk.browser(Role.READER).get("/jobs/copy").text
    reply = desk.browser(Role.READER).get(f"{PATH}/report?form=json")
    assert reply.header("content-disposition").startswith('attachment; filename="verification-of-copy.json"')
    canonical = json.dumps(reply.json["report"], separators=(",", ":"), sort_keys=True)
    assert hashlib.sha256(canonical.encode()).hexdigest() == reply.json["sha256"]
    for place in (text, job):
        assert reply.json["sha256"] in place
    assert "with every octet read" in job
    for form, begin in (("md", "# Verification of copy"), ("html", "<!doctype html>")):
        assert desk.browser(Role.READER).get(f"{PATH}/report?form={form}").text.startswith(begin)
    assert desk.browser().get(f"{PATH}/report?form=pdf").status == 422


def test_what_differs_is_named_with_its_reason(desk: Desk, home: Shelf) -> None:
    home.put(b"Subject: <late>\r\n\r\nnew\r\n", index=False)
    text = verified(desk)
    assert '<p class="verdict bad">1 difference</p>' in text
    assert "it came after the last run; the next run copies it" in text
    program = Program(desk, desk.token(Role.READER))
    found = program.get(PATH).json
    assert (found["state"], found["read"]) == ("done", False)
    assert [it["status"] for it in found["result"]["report"]["entries"]] == ["waiting"]
    assert found["result"]["report"]["differences"] == 1
    assert program.get(f"{PATH}/report").json["sha256"] == found["result"]["sha256"]


def test_the_last_result_stays_while_another_one_fails(
    desk: Desk, home: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified(desk)
    monkeypatch.setattr(work, "Verification", Broken)
    text = verified(desk)
    assert "no route" in text
    assert "The result before" in text
    assert "The last <a" in desk.browser().get("/jobs/copy").text
    assert "no difference" in desk.browser().get("/jobs/copy").text


class Broken:
    """In place of a verification."""

    def __init__(self, *_: object, **__: object) -> None:
        raise UsageError("no route")


def test_a_report_that_is_too_large_is_not_kept_and_the_page_says_so(
    desk: Desk, home: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "MAX_REPORT_OCTETS", 10)
    assert "syncd verify copy --report FILE" in verified(desk)
    assert desk.browser().get(f"{PATH}/report").status == 404


def test_the_api_begins_it_with_every_octet_read(desk: Desk, home: Shelf, tmp_path: Path) -> None:
    program = Program(desk, desk.token(Role.OPERATOR))
    assert program.ask("POST", PATH, b'{"read": true}').status == 202
    assert desk.site.errands.join(60)
    assert program.get(PATH).json["result"]["report"]["read"] is True
    assert program.ask("POST", PATH, b'{"wrong": true}').status == 422
    reader = Program(desk, desk.token(Role.READER, "looker"))
    assert reader.ask("POST", PATH, b"{}").status == 403
    assert reader.post(f"{PATH}/cancel").status == 403
