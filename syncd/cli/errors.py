"""`syncd errors`, `syncd retry`, `syncd drop`: what waits and why, and what you decide of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from syncd import clock
from syncd.cli.options import BadName, Common, Verb, check_names, common, unknown
from syncd.cli.render import Output, count, instant, octets, to_terminal
from syncd.errors import ConfirmationNeeded
from syncd.services.selection import Selector, Why, in_use, is_done

if TYPE_CHECKING:
    from syncd.db.rows import ProblemRow
    from syncd.services.unsettled import Unsettled
    from syncd.settings.load import Loaded

WORDS: Final = tuple(why.value for why in Why if why is not Why.KEPT)
SUSPENDED: Final = "suspended"  # of destinations, not of messages
NOT_IN_USE: Final = "no job of the configuration leads there"


@click.command(cls=Verb, examples=(("syncd errors", "of all jobs"), ("syncd errors road-backup", "of one job")))
@click.argument("job", metavar="[JOB]", required=False)
@common
@click.pass_obj
def errors(options: Common, job: str | None) -> None:
    """Messages that could not be fetched, delivered or removed, or that may be somewhere twice.

    Each has a number: give it to `syncd retry` or `syncd drop`.
    """
    from syncd.services.unsettled import known, unsettled

    loaded = options.load()
    if job not in loaded.settings.jobs:
        check_names("job", [job] if job else [], known(loaded))
    output = Output(options)
    found = unsettled(loaded, job)
    if output.json:
        output.documents(map(as_json, found))
        return
    number = 0
    for number, one in enumerate(found, 1):  # noqa: B007 (counts them)
        output.line(line(one))
        if preview := preview_line(one):
            output.line(f"    {preview}")
    if not number:
        output.note("nothing waits")


def _deciding(verb: Callable[..., Any]) -> Callable[..., Any]:
    """The arguments that `retry` and `drop` share."""
    verb = click.option("--to", metavar="DESTINATION", help="Only of this archive, account or recipient.")(verb)
    verb = click.option("--all", "every", is_flag=True, help="Of all jobs, instead of one JOB.")(verb)
    return click.argument("words", metavar="JOB|--all [NUMBER|WORD]...", nargs=-1)(verb)


@click.command(
    cls=Verb,
    examples=(
        ("syncd retry forward", "all that waits in a job"),
        ("syncd retry forward 17 18", "by the numbers that `syncd errors` shows"),
        ("syncd retry --all rejected", "by what they wait for"),
        ("syncd retry forward deferred --to me@example.org", "to one recipient"),
        ("syncd retry forward suspended", "a destination goes on; what was rejected or held stays so"),
    ),
)
@_deciding
@common
@click.pass_obj
def retry(options: Common, words: tuple[str, ...], *, every: bool, to: str | None) -> None:
    """Have the next run try again what waits: deferred, rejected, held, uncertain, unsent, unfetchable, damaged.

    Those with one of the NUMBERs, if there are any, that also wait for one of the WORDs, if there are any. Without
    both, or with the word "suspended", destinations that were suspended go on.
    """
    from syncd.services import unsettled

    loaded, output = options.load(), Output(options)
    jobs, selector = _chosen(loaded, [word for word in words if word != SUSPENDED], every=every, to=to)
    if SUSPENDED in words or not (selector.numbers or selector.whys):
        _resume(loaded, output, jobs, selector)
    if SUSPENDED in words and not (selector.numbers or selector.whys):
        return
    for job, rows in _rows(loaded, jobs, selector, drop=False):
        usable, left = _divided(loaded, rows)
        unsettled.retry(loaded, job, usable)
        _tell(output, job, usable, "tried again by the next run")
        if left:
            _tell(output, job, left, f"not tried: {NOT_IN_USE}; to take them off the list: syncd drop {job}")


@click.command(
    cls=Verb,
    examples=(
        ("syncd drop forward 17", "one message, by the number that `syncd errors` shows"),
        ("syncd drop forward rejected --yes", "without a question"),
    ),
)
@_deciding
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@common
@click.pass_obj
def drop(options: Common, words: tuple[str, ...], *, every: bool, to: str | None, yes: bool) -> None:
    """Give messages up that wait: nothing more is tried for them. What an archive holds stays there.

    Those with one of the NUMBERs, if there are any, that also wait for one of the WORDs, if there are any. Of what was
    delivered, perhaps twice, only the line in `syncd errors` goes.
    """
    from syncd.services import unsettled

    loaded, output = options.load(), Output(options)
    jobs, selector = _chosen(loaded, words, every=every, to=to)
    found = _rows(loaded, jobs, selector, drop=True)
    if not yes and any(rows for _, rows in found):
        _confirm(output, found)
    for job, rows in found:
        if rows:
            unsettled.drop(loaded, job, rows)
        _tell(output, job, rows, "dropped")


def _chosen(loaded: Loaded, words: Sequence[str], *, every: bool, to: str | None) -> tuple[list[str], Selector]:
    """The jobs that are meant, and which of their messages."""
    from syncd.services.unsettled import known

    if not every and not words:
        raise click.UsageError("say which job, or --all")
    jobs = known(loaded)  # a job that was renamed or removed may have left something
    chosen, rest = (list(jobs), words) if every else ([words[0]], words[1:])
    check_names("job", chosen, jobs)
    if to is not None:
        places = {place for name in chosen for place in jobs[name]}
        if to.lower() not in {place.lower() for place in places}:
            raise BadName(unknown("destination or recipient", to, places))
    for word in rest:
        if not word.isdecimal() and word not in WORDS:
            raise BadName(unknown("number or word", word, WORDS))
    numbers = frozenset(int(word) for word in rest if word.isdecimal())
    return chosen, Selector(numbers, frozenset(Why(word) for word in rest if word in WORDS), to)


def _rows(loaded: Loaded, jobs: Iterable[str], selector: Selector, *, drop: bool) -> list[tuple[str, list[ProblemRow]]]:
    """What the decision is about, of each job that has run; of one that only the ledger knows, if there is any."""
    from syncd.services.unsettled import chosen, has_run

    found = [(job, chosen(loaded, job, selector, drop=drop)) for job in jobs if has_run(loaded, job)]
    return [(job, rows) for job, rows in found if job in loaded.settings.jobs or any(row.job == job for row in rows)]


def _divided(loaded: Loaded, rows: Iterable[ProblemRow]) -> tuple[list[ProblemRow], list[ProblemRow]]:
    """Those that a run can try again, and the others."""
    found: tuple[list[ProblemRow], list[ProblemRow]] = ([], [])
    for row in rows:
        found[not in_use(loaded.settings.jobs, row)].append(row)
    return found


def _resume(loaded: Loaded, output: Output, jobs: Iterable[str], selector: Selector) -> None:
    """What is suspended goes on."""
    from syncd.services.unsettled import has_run, resume

    for job in jobs:
        if job in loaded.settings.jobs and has_run(loaded, job):
            for name in resume(loaded, job, selector):
                if output.json:
                    output.event({"job": job, "destination": name, "done": "not suspended any more"})
                else:
                    output.line(f"{job}: {name} is not suspended any more")


def _confirm(output: Output, found: Sequence[tuple[str, Sequence[ProblemRow]]]) -> None:
    """Ask before what cannot be undone. Raises ConfirmationNeeded."""
    rows = [(job, row) for job, rows in found for row in rows]
    given_up = sum(not is_done(row) for _, row in rows)
    what = f"{count(given_up, 'message')} would be given up for good" if given_up else "the list would be shortened"
    if output.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfirmationNeeded(f"{what}; nothing was changed, add --yes to do it")
    to_terminal(f"{what}. Do it? [y/N] ")
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise ConfirmationNeeded("nothing was changed")


def _tell(output: Output, job: str, rows: Sequence[ProblemRow], what: str) -> None:
    if output.json:
        output.event({"job": job, "messages": [row.key for row in rows], "done": what})
    else:
        output.line(f"{job}: {count(len(rows), 'message')} {what}")


# --- how they look -------------------------------------------------------------------------------------


def as_json(one: Unsettled) -> dict[str, object]:
    """A line as plain values; uid and mailbox are text where they are ASCII, as a server should send them."""
    row = one.row
    return {
        **row._asdict(),
        "number": row.key,
        "why": one.why.value,
        "mailbox": row.mailbox.decode("ascii", "backslashreplace"),
        "uid": row.uid.decode("ascii", "backslashreplace"),
        "sha256": row.sha256.hex() if row.sha256 is not None else None,
        "message": row.message.name.lower(),
        "delivery": row.delivery.name.lower() if row.delivery is not None else None,
        "in_use": one.in_use,
        "preview": one.preview._asdict() if one.preview is not None else None,
    }


def line(one: Unsettled) -> str:
    """A problem in one line."""
    row, why = one.row, one.why
    where = f"{row.account} → {row.destination}" if row.destination else row.account
    where += f" ({row.target})" if row.target else ""
    uid = row.uid.decode("ascii", "backslashreplace")
    facts = [why.value]
    if row.attempts and not is_done(row):
        facts.append(count(row.attempts, "try", "tries"))
    if row.uncertain:
        facts.append(f"{row.uncertain:,} × uncertain")
    return f"{row.key}  {where}  {uid}  {', '.join([*facts, _next(one)])}: {row.reason}"


def _next(one: Unsettled) -> str:
    """What is going to happen."""
    row, why = one.row, one.why
    if is_done(row):
        return f"delivered, at most {row.uncertain + 1:,} copies"
    if not one.in_use:
        return f"not tried any more ({NOT_IN_USE})"
    if row.retry_at and row.retry_at > clock.now():
        return f"next try {instant(row.retry_at)}"
    return "tried by the next run" if row.retry_at or why in {Why.UNSENT, Why.UNCERTAIN} else "waits for you"


def preview_line(one: Unsettled) -> str:
    """Who sent it, what it is about, when, how large; "" where that is not known."""
    if one.preview is None:
        return ""
    sender, subject, date = one.preview
    return " · ".join(filter(None, (sender, subject, instant(date) if date else "", octets(one.row.octets))))
