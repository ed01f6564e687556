"""`syncd errors`, `syncd retry`, `syncd drop`: what waits and why, and what you decide of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from syncd import clock
from syncd.cli.options import BadName, Common, Verb, check_names, common, unknown
from syncd.cli.render import Output, count, instant, octets, to_terminal
from syncd.errors import ConfirmationNeeded
from syncd.services.selection import Chosen, Selector, Why, is_done

if TYPE_CHECKING:
    from syncd.services.unsettled import Unsettled
    from syncd.settings.load import Loaded

WORDS: Final = tuple(why.value for why in Why if why is not Why.KEPT)
SUSPENDED: Final = "suspended"  # of destinations, not of messages
NOT_IN_USE: Final = "no job of the configuration leads there"


def _selecting(verb: Callable[..., Any]) -> Callable[..., Any]:
    """The option that all three share."""
    return click.option("--to", metavar="DESTINATION", help="Only of this archive, account or recipient.")(verb)


@click.command(
    cls=Verb,
    examples=(
        ("syncd errors", "of all jobs"),
        ("syncd errors road-backup", "of one job"),
        ("syncd errors forward held --to me@example.org", "what retry and drop would take"),
    ),
)
@click.argument("words", metavar="[JOB] [NUMBER|WORD]...", nargs=-1)
@_selecting
@common
@click.pass_obj
def errors(options: Common, words: tuple[str, ...], *, to: str | None) -> None:
    """Messages that could not be fetched, delivered or removed, or that may be somewhere twice.

    Each has a number: give it to `syncd retry` or `syncd drop`.
    """
    from syncd.services.unsettled import known, unsettled

    loaded = options.load()
    jobs = known(loaded) if words or to else {}
    job = words[0] if words and (words[0] in jobs or not _is_selector(words[0])) else None
    check_names("job", [job] if job else [], jobs)
    output = Output(options)
    selector = _selector(words[1:] if job else words, to, [job] if job else jobs, jobs)
    found = unsettled(loaded, job, selector)
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
    verb = click.option("--all", "every", is_flag=True, help="Of all jobs, instead of one JOB.")(_selecting(verb))
    return click.argument("words", metavar="JOB|--all [NUMBER|WORD]...", nargs=-1)(verb)


@click.command(
    cls=Verb,
    examples=(
        ("syncd retry forward", "all that waits in a job"),
        ("syncd retry forward 17 18", "by the numbers that `syncd errors` shows"),
        ("syncd retry --all rejected", "by what they wait for"),
        ("syncd retry forward deferred --to me@example.org", "to one recipient"),
        ("syncd retry forward suspended", "a destination goes on; what was rejected or held stays so"),
        ("syncd retry forward loop", "send what seems to go round in a loop all the same"),
    ),
)
@_deciding
@common
@click.pass_obj
def retry(options: Common, words: tuple[str, ...], *, every: bool, to: str | None) -> None:
    """Have the next run try again what waits: deferred, rejected, held, uncertain, unsent, unfetchable, damaged.

    Those with one of the NUMBERs, if there are any, that also wait for one of the WORDs, if there are any. What seems
    to go round in a loop is sent only if you say so, by its number or the word "loop". Without numbers and words, or
    with the word "suspended", destinations that were suspended go on.
    """
    from syncd.services import unsettled

    loaded, output = options.load(), Output(options)
    jobs, selector = _chosen(loaded, [word for word in words if word != SUSPENDED], every=every, to=to)
    only_suspended = SUSPENDED in words and not (selector.numbers or selector.whys)
    found = None if only_suspended else unsettled.chosen(loaded, jobs, selector, drop=False)
    if SUSPENDED in words or not (selector.numbers or selector.whys):
        _resume(loaded, output, jobs, selector)
    if found is None:
        return
    for job, rows in found.items():
        usable = [row for row in rows if row.in_use and (row.why is not Why.LOOP or selector.knows_of_loops)]
        done = unsettled.retry(loaded, job, usable) if usable else []
        _tell(output, job, done, usable, "tried again by the next run")
        if left := [row.key for row in rows if not row.in_use]:
            _say(output, job, left, f"not tried: {NOT_IN_USE}; to take them off the list: syncd drop {job}")
        if left := [row.key for row in rows if row.in_use and row.why is Why.LOOP and not selector.knows_of_loops]:
            _say(output, job, left, f"not tried: it seems to go round in a loop; all the same: syncd retry {job} loop")


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
    found = unsettled.chosen(loaded, jobs, selector, drop=True)
    if not yes and any(found.values()):
        _confirm(output, [row for rows in found.values() for row in rows])
    for job, rows in found.items():
        done = unsettled.drop(loaded, job, rows) if rows else []
        _tell(output, job, done, rows, "dropped")


def _chosen(loaded: Loaded, words: Sequence[str], *, every: bool, to: str | None) -> tuple[list[str], Selector]:
    """The jobs that are meant, and which of their messages."""
    from syncd.services.unsettled import known

    if not every and not words:
        raise click.UsageError("say which job, or --all")
    jobs = known(loaded)  # a job that was renamed or removed may have left something
    chosen, rest = (list(jobs), words) if every else ([words[0]], words[1:])
    check_names("job", chosen, jobs)
    if Why.KEPT in rest:
        raise BadName(f"what is {Why.KEPT} is settled for a whole job, after a look: syncd run JOB --unfreeze")
    return chosen, _selector(rest, to, chosen, jobs)


def _selector(words: Iterable[str], to: str | None, chosen: Iterable[str], jobs: Mapping[str, set[str]]) -> Selector:
    """What is meant by numbers, words and a place of one of the jobs. Raises BadName."""
    places = {place for name in chosen for place in jobs[name]}
    if to is not None and to not in places and to.lower() not in {it.lower() for it in places if "@" in it}:
        raise BadName(unknown("destination or recipient", to, places))
    for word in words:
        if not _is_selector(word):
            raise BadName(unknown("number or word", word, WORDS))
    numbers = frozenset(int(word) for word in words if word.isdecimal())
    return Selector(numbers, frozenset(Why(word) for word in words if not word.isdecimal()), to)


def _is_selector(word: str) -> bool:
    return word.isdecimal() or word in set(Why)


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


def _confirm(output: Output, rows: Sequence[Chosen]) -> None:
    """Ask before what cannot be undone. Raises ConfirmationNeeded."""
    given_up = sum(not row.done for row in rows)
    what = f"{count(given_up, 'message')} would be given up for good" if given_up else "the list would be shortened"
    if output.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfirmationNeeded(f"{what}; nothing was changed, add --yes to do it")
    to_terminal(f"{what}. Do it? [y/N] ")
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise ConfirmationNeeded("nothing was changed")


def _tell(output: Output, job: str, done: Sequence[int], chosen: Sequence[Chosen], what: str) -> None:
    """What came of it; what was settled between the choice and the deed is left as it is."""
    _say(output, job, done, what)
    if len(done) < len(chosen):
        output.note(f"{job}: {count(len(chosen) - len(done), 'message')} left alone: settled meanwhile by a run")


def _say(output: Output, job: str, keys: Sequence[int], what: str) -> None:
    if output.json:
        output.event({"job": job, "messages": keys, "done": what})
    else:
        output.line(f"{job}: {count(len(keys), 'message')} {what}")


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
