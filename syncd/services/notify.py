"""Decides of which jobs people are told, and in which words. Pure: values in, values out.

A job has marks: "late", "paused 2" (by which reason), "ended 4" (the exit code of its last run). People are told when a
mark is new to them, and when one has gone. So nothing is told twice, whatever happens in between, and a service that
was away for a day tells what is so now.

    A job is told of once an hour at most; what changes meanwhile is told as one piece of news.
    A channel sends a message every GAP at most, with all that is new: a broken server costs one message, not many.
    A job that a person paused is not told of: they know.
    Temporary failures (exit 5) are not told: they pass, or the job is late some time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from syncd.db.notices import Condition, Told
from syncd.db.rows import Paused
from syncd.engine.exit_codes import ExitCode

PER_JOB: Final = timedelta(hours=1)
GAP: Final = timedelta(minutes=5)
MAX_NEWS: Final = 500  # jobs in one message; the others are in the next one
SHOWN: Final = 50  # jobs with a line of their own in a text
AGAIN: Final = (timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=2))  # after messages that did not leave

LATE: Final = "late"
PAUSED: Final = "paused"
ENDED: Final = "ended"

_TOLD_CODES: Final = {
    ExitCode.FAILED: "failed",
    ExitCode.WAITING: "some messages wait for you",
    ExitCode.SIGN_IN_REFUSED: "the sign-in was refused",
    ExitCode.CONFIG_INVALID: "the configuration is wrong",
    ExitCode.STOPPED: "stopped by a brake, or for a confirmation",
}
_PAUSES: Final = {
    Paused.SIGN_IN: "is paused, as its sign-in was refused again and again. Correct it, then: syncd resume {}",
    Paused.DEATHS: "is paused, as its worker died again and again. Look at the logs, then: syncd resume {}",
}
_ADVICE: Final = {ExitCode.WAITING: "syncd errors {}", ExitCode.STOPPED: "syncd status {}"}
_OVER: Final = {LATE: "is not late any more", PAUSED: "runs again", ENDED: "runs without errors again"}


class News(NamedTuple):
    """News of one job. `marks`: what people know when they were told it; `before`: what they knew.

    `begun` and `over` are lines for people; `well`: nothing is wrong with the job any more.
    """

    job_id: int
    configuration: str
    job: str
    before: str
    marks: str
    begun: tuple[str, ...]
    over: tuple[str, ...]

    @property
    def well(self) -> bool:
        """Returns whether nothing is wrong with the job any more."""
        return not self.marks


class Message(NamedTuple):
    """A message to people: a line, a text, and the same as plain values for a program."""

    title: str
    text: str
    document: Mapping[str, object]


def marks_of(condition: Condition) -> tuple[str, ...]:
    """Returns what is wrong with a job, as marks."""
    found = []
    if condition.late_since is not None:
        found.append(LATE)
    if condition.paused in _PAUSES:
        found.append(f"{PAUSED} {int(condition.paused or 0)}")
    if condition.exit_code in _TOLD_CODES:
        found.append(f"{ENDED} {condition.exit_code}")
    return tuple(found)


def lines_of(condition: Condition) -> list[str]:
    """Returns what is wrong with a job, a line for each mark."""
    return [_begun(mark, condition) for mark in marks_of(condition)]


def decide(conditions: Collection[Condition], told: Mapping[int, Told], now: datetime) -> list[News]:
    """Returns what a channel is to tell now; nothing while its last message is younger than GAP."""
    latest = max((it.at for it in told.values() if it.at is not None), default=None)
    if latest is not None and timedelta() <= now - latest < GAP:
        return []
    news = []
    for condition in conditions:
        known = told.get(condition.job_id)
        if condition.paused is not Paused.PERSON and (known is None or _may_tell(known, now)):
            found = _news(condition, known.marks if known is not None else "")
            if found is not None:
                news.append(found)
    return news[:MAX_NEWS]


def again_at(tries: int, now: datetime) -> datetime:
    """Returns when a message may be tried again that did not leave for the (`tries` + 1)th time."""
    return now + AGAIN[min(tries, len(AGAIN) - 1)]


def compose(news: Sequence[News], now: datetime) -> Message:
    """Returns the message that tells the news."""
    ill, well = [it for it in news if not it.well], [it for it in news if it.well]
    lines = [line for group in (ill, well) for it in group[:SHOWN] for line in _lines(it)]
    left_out = sum(max(0, len(group) - SHOWN) for group in (ill, well))
    if left_out:
        lines.append(f"… and {left_out} more jobs")
    text = "\n".join([*lines, "", f"As of {_at(now)}. To see all jobs: syncd status"])
    document = {
        "title": _title(ill, well),
        "text": "\n".join(lines),  # chat services show a field of this name
        "at": now.isoformat(),
        "jobs": [
            {"job": it.job, "configuration": it.configuration, "marks": _split(it.marks), "well": it.well,
             "begun": list(it.begun), "over": list(it.over)}
            for it in news
        ],
    }  # fmt: skip
    return Message(_title(ill, well), text, document)


def trouble(conditions: Collection[Condition]) -> bool:
    """Returns whether something is wrong with any job."""
    return any(marks_of(condition) for condition in conditions)


# --- inside --------------------------------------------------------------------------------------------


def _may_tell(known: Told, now: datetime) -> bool:
    claimed = known.claimed_until is not None and known.claimed_until > now
    return not claimed and (known.at is None or now - known.at >= PER_JOB or known.at > now)


def _news(condition: Condition, before: str) -> News | None:
    known, present = _split(before), list(marks_of(condition))
    if LATE in known and condition.paused is not None:
        present.insert(0, LATE)  # a job that is paused cannot be late: nothing has got better
    if condition.exit_code and condition.exit_code not in _TOLD_CODES:
        present += [mark for mark in known if _kind(mark) == ENDED]  # it failed in another way: the same
    begun = [mark for mark in present if mark not in known]
    kinds = {_kind(mark) for mark in present}
    over = [mark for mark in known if _kind(mark) not in kinds]
    if not begun and not over:
        return None
    return News(
        condition.job_id,
        condition.configuration,
        condition.job,
        before,
        ",".join(present),
        tuple(_begun(mark, condition) for mark in begun),
        tuple(_OVER[_kind(mark)] for mark in over),
    )


def _split(marks: str) -> list[str]:
    return marks.split(",") if marks else []


def _kind(mark: str) -> str:
    return mark.partition(" ")[0]


def _begun(mark: str, condition: Condition) -> str:
    kind, _, number = mark.partition(" ")
    if kind == LATE:
        last = condition.succeeded_at
        return "is late: " + ("no run has succeeded yet" if last is None else f"its last success was {_at(last)}")
    if kind == PAUSED:
        return _PAUSES[Paused(int(number))].format(condition.job)
    code = ExitCode(int(number))
    advice = _ADVICE.get(code, "")
    parts = [f"ended with exit code {number} ({_TOLD_CODES[code]})"]
    parts += [f": {condition.trouble}"] if condition.trouble else []
    parts += [f". See: {advice.format(condition.job)}"] if advice else []
    return "".join(parts)


def _lines(news: News) -> Iterator[str]:
    name = f'job "{news.job}"' + (f" ({news.configuration})" if news.configuration else "")
    for line in (*news.begun, *news.over):
        yield f"{name} {line}"


def _title(ill: Sequence[News], well: Sequence[News]) -> str:
    if len(ill) + len(well) == 1:
        (only,) = (*ill, *well)
        return f'syncd: job "{only.job}" ' + ("is well again" if only.well else "needs attention")
    parts = [f"{len(ill)} jobs need attention"] if len(ill) > 1 else ["1 job needs attention"] if ill else []
    parts += [f"{len(well)} jobs are well again"] if len(well) > 1 else ["1 job is well again"] if well else []
    return f"syncd: {', '.join(parts)}"


def _at(instant: datetime) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC"
