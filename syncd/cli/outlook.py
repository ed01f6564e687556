"""The table of a dry run: each mailbox of the source, what a run would do with it, where it goes, and how long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from syncd.cli.render import Output, octets, roughly
from syncd.engine.mapping import Why
from syncd.engine.plan import Would
from syncd.errors import printable
from syncd.mail.mailbox import INBOX_PATH

if TYPE_CHECKING:
    from syncd.engine.events import MailboxPlan, RunReport

MOST_PATH: Final = 100  # characters of a mailbox's path
RIGHT: Final = frozenset({2, 3, 5, 6, 7})


def show(report: RunReport, output: Output) -> None:
    """Show the mailboxes of a job, where there are several, or mailboxes at a destination."""
    plans = report.mapping
    destinations = list(dict.fromkeys(place.to for plan in plans for place in plan.places))
    if len(plans) < 2 and not destinations:
        return
    heads = ["MAILBOX", "USE", "MESSAGES", "OCTETS", "A RUN WOULD", "TO FETCH", "OCTETS", "ABOUT"]
    output.table([*heads, *(f"BECOMES IN {name}" for name in destinations)], _rows(report, destinations), right=RIGHT)


def _rows(report: RunReport, destinations: Sequence[str]) -> Iterator[list[str]]:
    plans = sorted(report.mapping, key=lambda plan: (plan.path != INBOX_PATH, plan.path))
    for plan in plans:
        yield [
            printable("/".join(plan.path), MOST_PATH),
            plan.use.removeprefix("\\") or "-",
            *(_number(plan.messages), _octets(plan.octets)),
            plan.would.value,
            *_ahead(plan.to_fetch, plan.to_fetch_octets, plan.seconds),
            *(_place(plan, name) for name in destinations),
        ]
    read = [plan for plan in plans if plan.would is not Would.LEFT_OUT]
    if len(read) > 1:
        messages, size = [plan.messages for plan in read], [plan.octets for plan in read]
        yield [
            *("TOTAL", "-"),
            _number(None if None in messages else sum(filter(None, messages))),
            _octets(None if None in size else sum(filter(None, size))),
            "-",
            *_ahead(report.to_fetch, report.to_fetch_octets, report.seconds_ahead),
            *("-" for _ in destinations),
        ]


def _ahead(messages: int, size: int, seconds: float | None) -> tuple[str, str, str]:
    if not messages:
        return "-", "-", "-"
    about = "-" if seconds is None else "<1 s" if seconds < 1 else roughly(seconds)
    return f"{messages:,}", octets(size), about


def _place(plan: MailboxPlan, name: str) -> str:
    place = next((place for place in plan.places if place.to == name), None)
    if place is None:
        return "-"
    path = printable("/".join(place.path), MOST_PATH)
    return path if place.why is Why.SAME else f"{path} ({place.why.value})"


def _number(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _octets(number: int | None) -> str:
    return "-" if number is None else octets(number)
