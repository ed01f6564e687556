"""What the demo shows: headings, one line before each command, and the command's own output, untouched."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

STOP_TIMEOUT_S = 10.0  # for a command after Ctrl-C; syncd needs less than one


class Mismatch(Exception):
    """Something is not as it should be: the demo has failed."""


class Terminal:
    """Prints, and runs commands in one folder with one environment; they write to the terminal themselves."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = dict(environment)
        self._styled = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._parts = 0

    def part(self, title: str) -> None:
        """Begin a numbered part."""
        self._parts += 1
        print(self._style("1;36", f"\n{self._parts}. {title}"), flush=True)

    def say(self, text: str) -> None:
        """One line."""
        print(text, flush=True)

    def good(self, text: str) -> None:
        """One line about something that was compared and is right."""
        print(self._style("32", f"✓ {text}"), flush=True)

    def recover(self) -> None:
        """Show the cursor and begin a line: a killed command could not."""
        print("\x1b[?25h" if sys.stdout.isatty() else "", flush=True)

    def announce(self, why: str, command: str) -> None:
        """Say what comes and why, as it would be typed."""
        print(f"\n{self._style('2', f'# {why}')}\n{self._style('1', f'$ {command}')}", flush=True)

    def run(self, why: str, *command: str) -> None:
        """Run a command to its end. Raises Mismatch when it fails."""
        self.announce(why, shlex.join(command))
        with self.start(*command) as process:
            code = wait(process)
        if code:
            raise Mismatch(f"{shlex.join(command)} ended with exit code {code}")

    def pipe(self, why: str, script: str) -> None:
        """Run a line of shell to its end, for wildcards and pipes."""
        self.announce(why, script)
        with self.start("sh", "-c", script) as process:
            wait(process)

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a command on this terminal."""
        return subprocess.Popen(command, cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL)

    def ask(self, *command: str) -> bytes:
        """The standard output of a command that is not shown. Raises Mismatch when it fails."""
        done = subprocess.run(command, cwd=self._folder, env=self._environment, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            raise Mismatch(f"{shlex.join(command)} ended with exit code {done.returncode}")
        return done.stdout

    def _style(self, codes: str, text: str) -> str:
        return f"\x1b[{codes}m{text}\x1b[0m" if self._styled else text


def wait(process: subprocess.Popen[bytes]) -> int:
    """The exit code. Where we are interrupted, so is the command (one terminal): its end is awaited, or made."""
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
