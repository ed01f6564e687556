"""`syncd errors`, `syncd retry`, `syncd drop`: what waits and why, and what you decide about it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import click

from syncd.cli import complete
from syncd.cli.options import BadName, Common, Verb, check_names, common, is_number, unknown
from syncd.cli.render import Output, count, instant, octets, to_terminal
from syncd.errors import ConfirmationNeeded, printable
from syncd.services.selection import NOT_IN_USE, Chosen, Selector, Why, is_done

if TYPE_CHECKING:
    from syncd.db.runs import RunRow
    from syncd.services.problems import FrozenHere, Problem, Retried

WORDS: Final = tuple(why.value for why in Why if why is not Why.KEPT)
PENDING: Final = "pending"  # nothing went wrong: the next run fetches and delivers them
SUSPENDED: Final = "suspended"  # of destinations, not of messages
MEANINGS: Final = """\
\b
Why a message waits:
  deferred      not accepted yet; tried again by itself
  rejected      refused by the destination
  loop          not sent, because it looks like a mail loop
  held          not sent without your decision
  uncertain     may or may not have arrived, perhaps twice
  unsent        did not arrive; tried again by itself
  unfetchable   the source does not hand it out
  damaged       an archive cannot read its copy
  kept          not removed from the source, after an anomaly
"""
FROZEN: Final = "frozen"  # a mailbox, no message
IDS: Final = {"imap": "UID", "pop3": "unique-id"}  # what a server's id of a message is called
REFUSED: Final = "refused"  # mailboxes that would become one
FAILED: Final = "failed"  # a run


def _selecting(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option that all three verbs share."""
    return click.option("--to", metavar="DESTINATION", help="Only deliveries to this archive, account or recipient.")(
        verb
    )


@click.command(
    cls=Verb,
    examples=(
        ("syncd errors", "all jobs"),
        ("syncd errors road-backup", "one job"),
        ("syncd errors forward held --to me@example.org", "what the same words would retry or drop"),
    ),
    epilog=MEANINGS,
)
@click.argument("words", metavar="[JOB] [NUMBER|WORD]...", nargs=-1, shell_complete=complete.jobs)
@_selecting
@common
@click.pass_obj
def errors(options: Common, words: tuple[str, ...], *, to: str | None) -> None:
    """List messages that could not be fetched, delivered or removed, or that may have been delivered twice.

    Jobs whose last run failed are named at the end.

    Each line begins with the number of its message, for `syncd retry` and `syncd drop`. NUMBERs and WORDs narrow the
    list; a message must match both kinds.
    """
    from syncd.services.failures import failed
    from syncd.services.problems import EVERYTHING, frozen, known, problems, refused, unlisted
    from syncd.services.wiring import existing_ledger

    loaded, output = options.load(), Output(options)
    with existing_ledger(loaded) as database:
        jobs = known(loaded, database) if words or to else {}
        job = words[0] if words and (words[0] in jobs or not _is_selector(words[0])) else None
        check_names("job", [job] if job else [], jobs)
        selector = _selector(words[1:] if job else words, to, [job] if job else jobs, jobs)
        rest = unlisted(loaded, database, job) if selector == EVERYTHING else {}
        mailboxes = list(frozen(loaded, database, job)) if selector == EVERYTHING else []
        unread = refused(loaded, database, job) if selector == EVERYTHING else {}
        runs = failed(loaded, database, job) if selector == EVERYTHING else {}
        _list(output, problems(loaded, database, job, selector), rest, mailboxes, unread, failed=runs)


def _list(
    output: Output,
    found: Iterable[Problem],
    rest: Mapping[str, int],
    frozen: Sequence[FrozenHere],
    refused: Mapping[str, str],
    *,
    failed: Mapping[str, RunRow],
) -> None:
    """Print every problem, frozen and refused mailboxes, how many messages wait with nothing wrong, failed runs."""
    if output.json:
        boxes = ({"job": it.job, "number": None, "why": FROZEN, **it._asdict()} for it in frozen)
        pending = ({"job": job, "number": None, "why": PENDING, "messages": number} for job, number in rest.items())
        unread = ({"job": job, "number": None, "why": REFUSED, "reason": reason} for job, reason in refused.items())
        runs = (
            {"job": job, "number": None, "why": FAILED, "exit_code": run.exit_code, "reason": run.message}
            for job, run in failed.items()
        )
        output.documents(chain((it.as_json() for it in found), boxes, unread, pending, runs))
        return
    number = 0
    for number, problem in enumerate(found, 1):  # noqa: B007 (counts them)
        output.line(line(problem))
        if preview := preview_line(problem):
            output.line(f"    {preview}")
    for it in frozen:
        lift = f"to allow them again: syncd run {it.job} --unfreeze {_quoted(it.mailbox)}"
        output.line(f"{it.job}: removals from {printable(it.mailbox)} are frozen: {it.reason}; {lift}")
    for job, reason in refused.items():
        output.line(f"{job}: {reason}")
    for job, messages in rest.items():
        verb = "is" if messages == 1 else "are"
        output.line(f"{job}: {count(messages, 'message')} {verb} still to be fetched or delivered, by the next run")
    for job, run in failed.items():
        output.line(f"{job}: its last run failed with exit code {run.exit_code}; see: syncd status {job}")
    if not (number or rest or frozen or refused):
        output.note("no message waits")


def _quoted(mailbox: str) -> str:
    """Returns a mailbox as a pattern and as a word of a shell."""
    return shlex.quote(printable(mailbox).replace("\\", r"\\").replace("*", r"\*"))


def _deciding(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Add the arguments that `retry` and `drop` share."""
    verb = click.option("--all", "every", is_flag=True, help="All jobs, instead of one JOB.")(_selecting(verb))
    return click.argument("words", metavar="JOB|--all [NUMBER|WORD]...", nargs=-1, shell_complete=complete.jobs)(verb)


@click.command(
    cls=Verb,
    examples=(
        ("syncd retry forward", "everything that waits in a job"),
        ("syncd retry forward 17 18", "two messages, by the numbers that `syncd errors` shows"),
        ("syncd retry --all rejected", "every rejected message, in all jobs"),
        ("syncd retry forward deferred --to me@example.org", "deferred messages to one recipient"),
        ("syncd retry forward suspended", "contact a suspended destination again; decide nothing about messages"),
        ("syncd retry forward loop", "send messages that look like a mail loop"),
    ),
)
@_deciding
@common
@click.pass_obj
def retry(options: Common, words: tuple[str, ...], *, every: bool, to: str | None) -> None:
    """Have the next run try waiting messages again.

    NUMBERs and WORDs narrow the selection; a message must match both kinds. The words are: deferred, rejected, loop,
    held, uncertain, unsent, unfetchable, damaged (see `syncd errors --help`). A message that looks like a mail loop is
    sent only if you name it, by number or with the word `loop`.

    Without numbers and words, suspended sources and destinations are contacted again as well. The word `suspended`
    alone does only that.
    """
    from syncd.services import problems
    from syncd.services.wiring import existing_ledger

    loaded, output = options.load(), Output(options)
    with existing_ledger(loaded) as database:
        messages = [word for word in words if word != SUSPENDED]
        jobs, selector = _chosen(problems.known(loaded, database), messages, every=every, to=to)
        for job, retried in problems.retry(loaded, database, jobs, selector, suspended=SUSPENDED in words):
            _tell_retried(output, job, retried)


@click.command(
    cls=Verb,
    examples=(
        ("syncd drop forward 17", "one message, by the number that `syncd errors` shows"),
        ("syncd drop forward rejected --yes", "every rejected message, without a question"),
    ),
)
@_deciding
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@common
@click.pass_obj
def drop(options: Common, words: tuple[str, ...], *, every: bool, to: str | None, yes: bool) -> None:
    """Give up waiting messages: they are never tried again. Nothing is deleted from archives or servers.

    NUMBERs and WORDs narrow the selection; a message must match both kinds. A message that was delivered, perhaps
    twice, is only taken off the list of `syncd errors`.
    """
    from syncd.services import problems
    from syncd.services.wiring import existing_ledger

    loaded, output = options.load(), Output(options)
    with existing_ledger(loaded) as database:
        jobs, selector = _chosen(problems.known(loaded, database), words, every=every, to=to)
        found = problems.chosen(loaded, database, jobs, selector, drop=True)
        if not yes and any(found.values()):
            _confirm(output, [row for rows in found.values() for row in rows])
        for job, rows in found.items():
            done = problems.drop(loaded, database, job, rows)
            _say(output, job, done, "dropped")
            _tell_changed(output, job, len(rows) - len(done))


def _chosen(
    jobs: Mapping[str, set[str]], words: Sequence[str], *, every: bool, to: str | None
) -> tuple[list[str], Selector]:
    """Returns the jobs that are meant, former ones among them, and which of their messages."""
    if not every and not words:
        raise click.UsageError("name a job, or add --all")
    chosen, rest = (list(jobs), words) if every else ([words[0]], words[1:])
    check_names("job", chosen, jobs)
    if Why.KEPT in rest:
        raise BadName(
            f"{Why.KEPT} messages are decided for a whole job: after a look at them, syncd run JOB --unfreeze"
        )
    return chosen, _selector(rest, to, chosen, jobs)


def _selector(words: Iterable[str], to: str | None, chosen: Iterable[str], jobs: Mapping[str, set[str]]) -> Selector:
    """Returns what numbers, words and a destination of one of the jobs select. Raises BadName."""
    places = {place for name in chosen for place in jobs[name]}
    if to is not None and to not in places and to.lower() not in {it.lower() for it in places if "@" in it}:
        raise BadName(unknown("destination or recipient", to, places))
    for word in words:
        if not _is_selector(word):
            raise BadName(unknown("number or word", word, WORDS))
    numbers = frozenset(int(word) for word in words if word.isdecimal())
    return Selector(numbers, frozenset(Why(word) for word in words if not word.isdecimal()), to)


def _is_selector(word: str) -> bool:
    return is_number(word) or word in set(Why)


def _confirm(output: Output, rows: Sequence[Chosen]) -> None:
    """Ask before messages are given up. Raises ConfirmationNeeded."""
    given_up = sum(not row.done for row in rows)
    what = f"{count(given_up, 'message')} would be given up for good"
    if not given_up:
        what = f"{count(len(rows), 'message')} would be taken off the list"
    if output.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConfirmationNeeded(f"{what}; nothing was changed. To do it, add --yes")
    to_terminal(f"{what}. Do it? [y/N] ")
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise ConfirmationNeeded("nothing was changed")


# --- what was done -------------------------------------------------------------------------------------


def _tell_retried(output: Output, job: str, retried: Retried) -> None:
    for name in retried.resumed:
        if output.json:
            output.event({"job": job, "destination": name, "done": "no longer suspended"})
        else:
            output.line(f"{job}: {name} is no longer suspended")
    if retried.again is not None:
        _say(output, job, retried.again, "will be tried again by the next run")
    _tell_changed(output, job, retried.changed)
    if retried.not_in_use:
        _say(output, job, retried.not_in_use, f"not tried: {NOT_IN_USE}. To give them up: syncd drop {job}")
    if retried.loops:
        _say(output, job, retried.loops, f"not tried: mail loop suspected. To send anyway: syncd retry {job} loop")


def _tell_changed(output: Output, job: str, number: int) -> None:
    if number:
        output.note(f"{job}: {count(number, 'message')} not touched: changed by a run in the meantime")


def _say(output: Output, job: str, keys: Sequence[int], what: str) -> None:
    if output.json:
        output.event({"job": job, "messages": keys, "done": what})
    else:
        output.line(f"{job}: {count(len(keys), 'message')} {what}")


# --- how they look -------------------------------------------------------------------------------------


def line(problem: Problem) -> str:
    """Returns a problem in one line."""
    row = problem.row
    where = f"{row.account} → {row.destination}" if row.destination else row.account
    where += f" ({row.target})" if row.target else ""
    uid = row.uid.decode("ascii", "backslashreplace")
    message = f"{printable('/'.join(row.path))}, {IDS.get(row.protocol, 'id')} {uid}"
    facts = [problem.why.value]
    if row.attempts and not is_done(row):
        facts.append(count(row.attempts, "try", "tries"))
    if row.uncertain:
        facts.append(f"{row.uncertain:,} × uncertain")
    return f"{row.key}  {message}: {where}: {', '.join([*facts, problem.next_step()])}: {row.reason}"


def preview_line(problem: Problem) -> str:
    """Returns sender, subject, date and size; "" where they are not known."""
    if problem.preview is None:
        return ""
    sender, subject, date = problem.preview
    return " · ".join(filter(None, (sender, subject, instant(date) if date else "", octets(problem.row.octets))))
