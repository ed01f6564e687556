"""The one task: work on one slice of the run that a message names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery, Task

from jobs.app import WORK


def register(app: Celery, work: Callable[[int], object]) -> Task[Any, Any]:
    """Have `work` called with the run's id by a thread of the pool. It must not raise."""

    @app.task(name=WORK)  # type: ignore[untyped-decorator]  # Celery has no types
    def task(run_id: int) -> None:
        work(run_id)

    return task
