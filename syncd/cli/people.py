"""`syncd user`, `syncd token`: who may use the page and the API."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from syncd.cli.options import BadName, Common, Group, Verb, common
from syncd.cli.render import Output, instant

if TYPE_CHECKING:
    from syncd.db.database import Database

ROLES: Final = ("reader", "operator", "admin")
_NAME: Final = click.argument("name")
_FROM_STDIN: Final = click.option(
    "--password-stdin", "from_stdin", is_flag=True, help="Read the password from standard input, one line."
)


@click.group(
    cls=Group,
    examples=(
        ("syncd user add ann --role admin", "add a person, who may do everything"),
        ("syncd user passwd ann", "set a new password, and end the sessions of that person"),
    ),
)
@common
def user() -> None:
    """Manage who may sign in to the page.

    A reader sees everything, an operator also runs, pauses, cancels, retries and drops, an admin also manages access.
    """


@user.command(cls=Verb, examples=(("syncd user add ann --role operator", "asks for the password"),))
@_NAME
@click.option("--role", type=click.Choice(ROLES), default="reader", show_default=True, help="What the person may do.")
@_FROM_STDIN
@common
@click.pass_obj
def add(options: Common, name: str, role: str, *, from_stdin: bool) -> None:
    """Add a person who may sign in to the page."""
    from syncd.db.people import Role
    from syncd.services import people

    with _database(options) as database:
        added = people.add_user(database, name, Role[role.upper()], _password(from_stdin=from_stdin))
    _done(options, f"{added.name} may sign in as {role}", name=added.name, role=role)


@user.command(cls=Verb, examples=(("syncd user passwd ann", "asks for the password"),))
@_NAME
@_FROM_STDIN
@common
@click.pass_obj
def passwd(options: Common, name: str, *, from_stdin: bool) -> None:
    """Set a new password for a person, and end that person's sessions."""
    from syncd.services import people

    with _database(options) as database:
        people.set_password(database, name, _password(from_stdin=from_stdin))
    _done(options, f"{name} has a new password and has to sign in again", name=name)


@user.command("list", cls=Verb, examples=(("syncd user list", "who may sign in, and who did last when"),))
@common
@click.pass_obj
def list_users(options: Common) -> None:
    """List who may sign in."""
    from syncd.db.people import known_users

    with _database(options) as database:
        found = known_users(database)
    output = Output(options)
    if output.json:
        output.document([{**it._asdict(), "role": it.role.name.lower()} for it in found])
    elif found:
        rows = [(it.name, it.role.name.lower(), instant(it.created_at), instant(it.signed_in_at)) for it in found]
        output.table(("NAME", "ROLE", "ADDED", "SIGNED IN"), rows)
    else:
        output.note("nobody may sign in yet; to add somebody: syncd user add NAME --role admin")


@user.command("rm", cls=Verb, examples=(("syncd user rm ann", "from now on ann cannot sign in"),))
@_NAME
@common
@click.pass_obj
def remove(options: Common, name: str) -> None:
    """Remove a person, and end that person's sessions. Tokens stay: syncd token revoke."""
    from syncd.services import people

    with _database(options) as database:
        people.remove_user(database, name)
    _done(options, f"{name} cannot sign in any more", name=name)


@click.group(
    cls=Group,
    examples=(
        ("syncd token create grafana --expires '90 days'", "a program may read for 90 days"),
        ("syncd token revoke grafana", "from now on it may not"),
    ),
)
@common
def token() -> None:
    """Manage the tokens of programs that use the API."""


@token.command(cls=Verb, examples=(("syncd token create deploy --scope operator", "a program may run and pause jobs"),))
@_NAME
@click.option("--scope", type=click.Choice(ROLES), default="reader", show_default=True, help="What it may do.")
@click.option("--expires", metavar="SPAN", default="90 days", show_default=True, help='How long it lasts, or "never".')
@common
@click.pass_obj
def create(options: Common, name: str, scope: str, expires: str) -> None:
    """Print a new token. It cannot be shown again: the database has only its digest."""
    from syncd.db.people import Role
    from syncd.services import people

    lasts = _span(expires)
    with _database(options) as database:
        made = people.create_token(database, name, Role[scope.upper()], lasts)
    _done(options, made, name=name, scope=scope, token=made)


@token.command("list", cls=Verb, examples=(("syncd token list", "which there are, and how long they last"),))
@common
@click.pass_obj
def list_tokens(options: Common) -> None:
    """List tokens."""
    from syncd.db.people import known_tokens

    with _database(options) as database:
        found = known_tokens(database)
    output = Output(options)
    if output.json:
        fields = [{**it._asdict(), "scope": it.role.name.lower()} for it in found]
        output.document([{key: value for key, value in each.items() if key != "role"} for each in fields])
    elif found:
        rows = [
            (
                it.name,
                it.role.name.lower(),
                instant(it.created_at),
                instant(it.expires_at) if it.expires_at else "never",
            )
            for it in found
        ]
        output.table(("NAME", "SCOPE", "CREATED", "EXPIRES"), rows)
    else:
        output.note("there are no tokens; to make one: syncd token create NAME")


@token.command(cls=Verb, examples=(("syncd token revoke grafana", "from now on it is worth nothing"),))
@_NAME
@common
@click.pass_obj
def revoke(options: Common, name: str) -> None:
    """End a token."""
    from syncd.services import people

    with _database(options) as database:
        people.revoke_token(database, name)
    _done(options, f"the token {name} is worth nothing any more", name=name)


@contextmanager
def _database(options: Common) -> Iterator[Database]:
    from syncd.services.wiring import open_ledger

    with open_ledger(options.load_service()) as database:
        yield database


def _span(text: str) -> timedelta | None:
    """Returns how long a token lasts; None: for ever. Raises BadName."""
    from syncd.settings.values import parse_duration

    if text == "never":
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise BadName(f'--expires {text!r} {error}; for example "90 days", or "never"') from error


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return password


def _done(options: Common, text: str, **fields: Any) -> None:
    output = Output(options)
    if output.json:
        output.document(fields)
    else:
        output.line(text)
