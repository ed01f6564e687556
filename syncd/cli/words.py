"""Phrases about a job that depend on its settings: where its mail is, how long a queue takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from syncd.cli.render import count, instant, roughly

if TYPE_CHECKING:
    from syncd.settings.schema import Job, Settings


def places(settings: Settings) -> dict[str, str]:
    """Returns for each job where the mail is that it reads."""
    return {
        name: f"in {job.source}" if job.source in settings.archives else "on the server"
        for name, job in settings.jobs.items()
    }


def queue_lines(job: Job, queued: Mapping[str, int], *, suspended: Mapping[str, datetime]) -> Iterator[str]:
    """Yields how many deliveries wait for each server; how long they take at the limits of the job, or why they wait.

    `suspended` says until when a server is not contacted. Without a limit and without a suspension there is no queue to
    speak of: each delivery waits for its own retry.
    """
    for name, waiting in queued.items():
        limits = [limit for to in job.destinations if to.to == name for limit in to.limits]
        slowest = min(limits, key=lambda limit: limit.messages / limit.seconds, default=None)
        line = f"{count(waiting, 'delivery', 'deliveries')} to {name} {'waits' if waiting == 1 else 'wait'}"
        if slowest is not None:
            yield f"{line}, about {roughly(waiting * slowest.seconds / slowest.messages)} at {slowest}"
        elif name in suspended:
            yield f"{line}: {name} is not contacted before {instant(suspended[name])}"
