"""Mail to be searched for, and an archive with its index."""

from __future__ import annotations

from collections.abc import Callable
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
