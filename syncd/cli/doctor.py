"""`syncd doctor`: what is wrong with database, broker, disks, clocks, workers and jobs, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from syncd.cli.options import Common, Verb, common
from syncd.cli.render import Output, count

if TYPE_CHECKING:
    from syncd.services.findings import Check, Finding


@click.command(
    cls=Verb,
    examples=(
        ("syncd doctor", "look at everything"),
        ("syncd doctor --quiet", "show only what is wrong"),
        ("syncd doctor --site host-a", "look at the archives of this site, too"),
        ("syncd doctor --json", "for a program"),
    ),
)
@click.option("--site", "sites", metavar="NAME", multiple=True, help="Look at archives of this site. Repeatable.")
@common
@click.pass_obj
def doctor(options: Common, sites: tuple[str, ...]) -> int:
    """Find out what is wrong with database, broker, disks, clocks, workers and jobs, and what to do about it.

    Changes nothing, and signs in nowhere: that is what syncd check does. Ends with 0 if all is well, and otherwise with
    1, or 5 if it is likely to pass by itself.
    """
    from syncd.services.doctor import examine
    from syncd.services.findings import verdict

    loaded = options.load()
    output = Output(options)
    checks = []
    for check in examine(loaded, sites):
        checks.append(check)
        if not output.json:
            _tell(check, output)
    code = verdict(checks)
    if output.json:
        output.document({"checks": [check.as_json() for check in checks], "exit_code": int(code)})
        return code
    wrong = sum(finding.wrong for check in checks for finding in check.findings)
    output.note(f"{count(wrong, 'thing')} to mend" if wrong else "all is well")
    return code


def _tell(check: Check, output: Output) -> None:
    if not output.quiet:
        for fact in check.facts:
            output.line(f"{check.name}: {fact}")
    for finding in check.findings:
        text = f"{check.name}: {_line(finding)}"
        if finding.wrong:
            output.line(f"{text}", colour="red")
        elif not output.quiet:
            output.line(text)


def _line(finding: Finding) -> str:
    head = "WRONG: " if finding.wrong else ""
    return (
        f"{head}{finding.text}. {finding.advice[:1].upper()}{finding.advice[1:]}"
        if finding.advice
        else head + finding.text
    )
