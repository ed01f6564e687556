"""The one place that loads rich: progress bars as this program wants them."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from syncd.cli.render import octets

SPEED_SECONDS = 10.0  # the rate shown is that of the last ten seconds


class _Figures(ProgressColumn):
    """Messages, octets and rate."""

    def render(self, task: Task) -> Text:
        """Such as "4,300/10,000  257.1/600.2 MiB  171.0 MiB/s", or without octets "40/100  2.0/s"."""
        speed = task.finished_speed or task.speed
        if not task.fields.get("octets", True):
            so_far = f"{task.fields['done']:,}" + (f"/{task.total:,.0f}" if task.total else "")
            return Text(so_far + (f"  {speed:.1f}/s" if speed else ""), style="progress.data.speed")
        rate = f"  {octets(speed)}/s" if speed else ""
        messages = f"{task.fields['done']:,}/{task.fields['messages']:,}"
        return Text(
            f"{messages}  {octets(task.completed)}/{octets(task.total or 0)}{rate}", style="progress.data.speed"
        )


def make_progress() -> Progress:
    """Bars on standard error; drawn when `refresh` is called, so that no further thread is needed."""
    return Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        TaskProgressColumn(table_column=Column(no_wrap=True)),
        _Figures(table_column=Column(no_wrap=True, justify="right")),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True, table_column=Column(no_wrap=True)),
        console=Console(stderr=True),
        auto_refresh=False,
        speed_estimate_period=SPEED_SECONDS,
        expand=True,
    )
