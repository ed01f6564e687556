"""`syncd config` and `syncd init`: the settings in force, and a first configuration file."""

from __future__ import annotations

import json
from pathlib import Path

import click

from syncd.cli.options import BadName, Common, Group, Verb, common
from syncd.cli.render import Output, count
from syncd.engine.exit_codes import ExitCode
from syncd.errors import ConfigError, UsageError, storage_error


@click.group(
    cls=Group,
    examples=(
        ("syncd config show", "every setting in force, and where it comes from"),
        ("syncd config check", "find every mistake in the file"),
        ("syncd config schema", "JSON schema, for an editor that completes and checks settings"),
    ),
)
@common
def config() -> None:
    """Show and check the settings, and where each comes from: environment, .env, the file, defaults."""


@config.command(
    cls=Verb, examples=(("syncd config show", "everything"), ("syncd config show jobs", "only the settings below jobs"))
)
@click.argument("prefix", metavar="[KEY]", default="")
@common
@click.pass_obj
def show(options: Common, prefix: str) -> None:
    """Show every setting in force and where it comes from. Passwords are never shown."""
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


@config.command(cls=Verb, examples=(("syncd config check -c other.toml", "a file before you use it"),))
@common
@click.pass_obj
def check(options: Common) -> int:
    """Name every mistake in the configuration, as a run would find it; exit with 6 if there is one.

    Looks at files, archives and the ledger. Connects to no server, runs no program. A warning is no mistake.
    """
    from syncd.services.check_configuration import judge

    loaded = options.load()
    found = judge(loaded)
    code = ExitCode.CONFIG_INVALID if found.mistakes else ExitCode.DONE
    output = Output(options)
    for line in found.mistakes:
        output.error(f"syncd: {line}")
    for line in found.warnings:
        output.error(f"syncd: warning: {line}")
    if output.json:
        values = {"file": str(loaded.file), "errors": found.mistakes, "warnings": found.warnings}
        output.document({**values, "exit_code": int(code)})
    elif not found.mistakes:
        settings = loaded.settings
        entries = ", ".join(
            count(len(table), noun)
            for table, noun in ((settings.accounts, "account"), (settings.archives, "archive"), (settings.jobs, "job"))
        )
        output.line(f"{loaded.file}: no mistakes ({entries})")
    return code


@config.command(cls=Verb, examples=(("syncd config schema > syncd.schema.json", "for an editor"),))
@common
@click.pass_obj
def schema(options: Common) -> None:
    """Print the JSON schema of syncd.toml."""
    from syncd.settings.load import json_schema

    Output(options).document(json_schema())


@click.command(
    cls=Verb, examples=(("syncd init", "write ./syncd.toml"), ("syncd init -c ~/mail/syncd.toml", "somewhere else"))
)
@common
@click.pass_obj
def init(options: Common) -> None:
    """Write a commented syncd.toml. An existing file is never overwritten."""
    from syncd.settings.load import FILE_NAME, annotated_example

    path = options.config or Path(FILE_NAME)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(annotated_example())
    except FileExistsError:
        raise ConfigError(f"{path} exists and was not changed; edit it, or name another file with --config") from None
    except FileNotFoundError as error:
        raise UsageError(f"cannot write {path}: there is no folder {path.parent}; make it first") from error
    except OSError as error:
        raise storage_error(error, f"cannot write {path}") from error
    output = Output(options)
    if output.json:
        output.document({"file": str(path)})
        return
    there = f" -c {path}" if options.config else ""
    output.line(f"{path} is written. It contains no password; it names the place of yours. Next:")
    output.line(f"  1. edit {path}: host, username, place of the password")
    output.line(f"  2. syncd check{there}     signs in and shows what a run would do")
    output.line(f"  3. syncd run{there}       fetches the mail and leaves it on the server")
