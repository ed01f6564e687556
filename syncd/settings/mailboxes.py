"""The mailboxes that a job reads: patterns in its table `mailboxes`."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from syncd.mail import patterns
from syncd.mail.patterns import EVERYTHING, Selection
from syncd.settings.fields import Table


def _pattern(text: str) -> str:
    patterns.check(text)
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]


class Mailboxes(Table):
    """The mailboxes of a source that a job reads."""

    include: list[Pattern] = Field(
        default=list(EVERYTHING.include),
        min_length=1,
        description="patterns of mailboxes that the job reads, as paths with /; * alone is every mailbox",
        examples=[["*"], ["INBOX", "Archive/**", "\\Sent"]],
    )
    exclude: list[Pattern] = Field(
        default=list(EVERYTHING.exclude),
        description="patterns of mailboxes that the job leaves out, although include has them",
        examples=[["Trash", "Junk/**", "\\Junk"]],
    )

    @property
    def selection(self) -> Selection:
        """Returns the patterns as the engine wants them."""
        return Selection(tuple(self.include), tuple(self.exclude))
