"""Mail to be searched for, and an archive with its index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC
from pathlib import Path

from syncd.formats.search.question import parse
from syncd.services import answers, search
from syncd.services.archive import open_view
from syncd.services.indexes import Indexes

ATTACHED = (
    b"From: Bob Stone <bob@example.org>\r\nTo: ann@example.net\r\nCc: Team <team@example.net>\r\n"
    b"Subject: Annual report\r\n"
    b"Date: Fri, 2 Jan 2026 10:00:00 +0000\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\n\r\nplease find the annual report attached\r\n"
    b"--b\r\nContent-Type: application/pdf; name=q4-figures.pdf\r\nContent-Disposition: attachment\r\n\r\n"
    + b"x" * 5_000
    + b"\r\n--b--\r\n"
)
PLAIN = (
    b"From: Ann Lee <ann@example.net>\r\nTo: bob@example.org\r\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"Date: Thu, 1 Jan 2026 10:00:00 +0000\r\n\r\nthe report is annual, Bob says\r\n"
)
UNDATED = b"Subject: something else\r\n\r\nnothing about any of it\r\n"


ANNUAL, GREETINGS, ELSE = "Annual report", "Grüße", "something else"
# What finds which of them, if the first two were seen in the INBOX of road and the last one in Sent.
QUESTIONS: Sequence[tuple[str, set[str]]] = (
    ("", {ANNUAL, GREETINGS, ELSE}),
    ("report annual", {ANNUAL, GREETINGS}),
    ('"annual report"', {ANNUAL}),
    ('"report is annual"', {GREETINGS}),
    ('"report annual"', set()),
    ("GRUSSE", {GREETINGS}),
    ("grü*", {GREETINGS}),
    ("rep", set()),
    ("from:ann", {GREETINGS}),
    ("from:bob@example.org", {ANNUAL}),
    ('from:"bob stone"', {ANNUAL}),
    ("to:team", {ANNUAL}),
    ("to:bob", {GREETINGS}),
    ("bob", {ANNUAL, GREETINGS}),
    ("subject:report", {ANNUAL}),
    ("figures", {ANNUAL}),
    ('"q4 figures"', {ANNUAL}),
    ("has:attachment", {ANNUAL}),
    ("has:attachment from:ann", set()),
    ("larger:5000", {ANNUAL}),
    ("larger:1M", set()),
    ("before:2026-01-02", {GREETINGS}),
    ("after:2026-01-01 before:2026-01-03", {ANNUAL}),
    ("mailbox:inbox", {ANNUAL, GREETINGS}),
    ("mailbox:inbox annual has:attachment", {ANNUAL}),
    ("nowhere", set()),
    ("figures OR says", {ANNUAL, GREETINGS}),
    ('from:ann OR subject:"annual report"', {ANNUAL, GREETINGS}),
    ('from:nobody OR "report annual" OR has:attachment', {ANNUAL}),
    ("report fig* OR gru*", {ANNUAL, GREETINGS}),
    ("bob -from:bob", {GREETINGS}),
    ("bob -from:bob@example.org -nowhere", {GREETINGS}),
    ('report -"annual report"', {GREETINGS}),
    ('report -"report annual"', {ANNUAL, GREETINGS}),
    ("annual -has:attachment", {GREETINGS}),
    ("before:2030-01-01 -annual", {ELSE}),
    ("after:2026-01-01 before:2026-01-03 -says -nothing", {ANNUAL}),
    ("larger:10 -annual", {ELSE}),
    ("-larger:200 after:1999-01-01", {GREETINGS, ELSE}),
    ("-larger:10 bob", set()),
    ("-before:2026-01-02 report", {ANNUAL}),
    ("-after:2026-01-01 report", {GREETINGS}),
    ("mailbox:inbox -mailbox:inbox", set()),
    ("-mailbox:inbox before:2030-01-01", {ELSE}),
)


class SearchKit:
    """An archive, and its index in a file or in PostgreSQL."""

    def __init__(self, path: Path, indexes: Indexes) -> None:
        self.view = open_view(None, str(path))
        self.indexes = indexes

    def update(self, go_on: Callable[[], bool] = lambda: True) -> search.Indexed:
        return search.update(self.view, self.indexes, go_on=go_on)

    def unindexed(self) -> int | None:
        return search.unindexed(self.view, self.indexes)

    def find(self, text: str, limit: int = 50, below: answers.Below | None = None) -> answers.Answer:
        searched = answers.of_view(self.view, "mail", self.indexes)
        return answers.find([searched], parse(text, UTC), limit, below, alone=True)

    def subjects(self, text: str, limit: int = 50) -> list[str]:
        return [it.hit.subject for it in self.find(text, limit).hits]
