"""`syncd config` and `syncd init`: the settings in force, and a first file of them."""

from __future__ import annotations

import json
from pathlib import Path

import click

from syncd.cli.options import BadName, Common, Group, Verb, common
from syncd.cli.render import Output, count
from syncd.errors import ConfigError, storage_error


@click.group(
    cls=Group,
    examples=(
        ("syncd config show", "every setting in force, and where it comes from"),
        ("syncd config check", "find every mistake of the file"),
        ("syncd config schema", "JSON schema, for an editor that completes and checks"),
    ),
)
@common
def config() -> None:
    """The settings in force and where each comes from: environment, .env, the file, defaults."""


@config.command(
    cls=Verb, examples=(("syncd config show", "everything"), ("syncd config show jobs", "what is below jobs"))
)
@click.argument("prefix", metavar="[KEY]", default="")
@common
@click.pass_obj
def show(options: Common, prefix: str) -> None:
    """Every setting in force and where it comes from; never a password."""
    loaded = options.load()
    below = (f"{prefix}.", f"{prefix}[")
    rows = [row for row in loaded.rows() if not prefix or row.key == prefix or row.key.startswith(below)]
    if not rows:
        raise BadName(f"no setting {prefix!r}; see: syncd config show")
    output = Output(options)
    if output.json:
        output.document([row._asdict() for row in rows])
        return
    shown = [(row.key, json.dumps(row.value, ensure_ascii=False), row.origin) for row in rows]
    output.table(("SETTING", "VALUE", "FROM"), shown)


@config.command(cls=Verb, examples=(("syncd config check -c other.toml", "a file that is not in force yet"),))
@common
@click.pass_obj
def check(options: Common) -> None:
    """Read the configuration and name every mistake; exit 6 if there is one. Connects to nothing."""
    loaded = options.load()
    settings = loaded.settings
    output = Output(options)
    if output.json:
        output.document({"file": str(loaded.file), "errors": [], "exit_code": 0})
        return
    entries = ", ".join(
        count(len(table), noun)
        for table, noun in ((settings.accounts, "account"), (settings.archives, "archive"), (settings.jobs, "job"))
    )
    output.line(f"{loaded.file}: no mistakes ({entries})")


@config.command(cls=Verb, examples=(("syncd config schema > syncd.schema.json", "for an editor"),))
@common
@click.pass_obj
def schema(options: Common) -> None:
    """The JSON schema of syncd.toml."""
    from syncd.settings.load import json_schema

    Output(options).document(json_schema())


@click.command(
    cls=Verb, examples=(("syncd init", "write ./syncd.toml"), ("syncd init -c ~/mail/syncd.toml", "somewhere else"))
)
@common
@click.pass_obj
def init(options: Common) -> None:
    """Write a commented syncd.toml; never over a file that is there."""
    from syncd.settings.load import FILE_NAME, annotated_example

    path = options.config or Path(FILE_NAME)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(annotated_example())
    except FileExistsError:
        raise ConfigError(f"{path} exists and is left as it is; edit it, or name another file with --config") from None
    except OSError as error:
        raise storage_error(error, f"cannot write {path}") from error
    output = Output(options)
    if output.json:
        output.document({"file": str(path)})
        return
    there = f" -c {path}" if options.config else ""
    output.line(f"{path} is written. It holds no password; it says where yours is. Next:")
    output.line(f"  1. edit {path}: host, username, where the password is")
    output.line(f"  2. syncd check{there}     signs in and shows what a run would do")
    output.line(f"  3. syncd run{there}       fetches the mail and leaves it on the server")
