"""The trouble of a job, as its runs end: kept with the job, so that it is told when it begins, changes and ends.

A job that runs every fifteen minutes would otherwise tell the same a hundred times a day.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import select, update

from syncd import clock
from syncd.db.database import Database
from syncd.db.instants import from_microseconds, to_microseconds
from syncd.db.models import jobs
from syncd.errors import printable

MAX_TEXT = 500  # characters


class News(StrEnum):
    """How the trouble of a job stands to that of its last run."""

    NONE = ""  # there is none, and was none
    BEGAN = "began"
    CHANGED = "changed"
    SAME = "same"
    ENDED = "ended"


class Trouble(NamedTuple):
    """News of a job. `since`: when the trouble began; `was`: the text that was told before."""

    news: News
    since: datetime | None = None
    was: str = ""


def code_of(kind: str) -> int:
    """Returns the exit code of a trouble: its kind begins with it, behind which stands what tells it from others."""
    return int(kind.partition(" ")[0]) if kind else 0


def note(database: Database, job_id: int, kind: str, text: str) -> Trouble:
    """Note how a run of a job ended. `kind` tells one trouble from another, and is empty where there is none.

    It begins with the exit code, and a space.
    """
    with database.read() as connection:
        known = connection.execute(
            select(jobs.c.trouble, jobs.c.trouble_text, jobs.c.trouble_since).where(jobs.c.id == job_id)
        ).one()
    since = None if known.trouble_since is None else from_microseconds(known.trouble_since)
    if known.trouble == kind:
        return Trouble(News.SAME if kind else News.NONE, since, known.trouble_text)
    begins = clock.now() if not known.trouble else since
    values = {
        "trouble": kind,
        "trouble_text": printable(text, MAX_TEXT) if kind else "",
        "trouble_since": to_microseconds(begins) if kind and begins is not None else None,
    }
    with database.write() as connection:
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(values))
    news = News.BEGAN if not known.trouble else News.CHANGED if kind else News.ENDED
    return Trouble(news, begins, known.trouble_text)
