"""`python -m tests.demo.picture`: run the demo on a terminal of its own and draw its middle as docs/demo.svg."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich import _export_format
from rich.console import Console
from rich.text import Text

from tests.demo.terminal import Mismatch

PICTURE = Path(__file__).parents[2] / "docs" / "demo.svg"
COLUMNS, ROWS = 100, 50
FIRST, LAST = "2. The backup", "6. Out again"
# Fonts that would be fetched from the network (the viewer's own will do), and who drew it.
_REMOTE = re.compile(r"\s*@font-face \{\{.*?\}\}|\s*<!--.*?-->", re.DOTALL)
_MOVES = re.compile(r"\x1b\[[0-9;?]*[A-LN-Za-ln-z]")  # every sequence that is not a colour


def record(folder: str) -> str:
    """What the demo writes to a terminal, octet by octet; its files are in `folder`. Raises Mismatch when it fails."""
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "TMPDIR": folder}
    command = [sys.executable, "-m", "tests.demo"]
    demo = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    written = io.BytesIO()
    try:
        while octets := os.read(main, 1 << 16):
            written.write(octets)
    except OSError:  # how Linux says that nobody has the other end open
        pass
    finally:
        os.close(main)
    if demo.wait():
        raise Mismatch(f"the demo failed:\n{written.getvalue().decode()}")
    return written.getvalue().decode()


def screen(written: str) -> str:
    """The lines as they stand at the end: whatever follows the last return to a line's start is what is seen."""
    lines = (_MOVES.sub("", line).rstrip("\r").rpartition("\r")[2] for line in written.split("\n"))
    return "\n".join(lines)


def main() -> None:
    """Draw it."""
    with tempfile.TemporaryDirectory(prefix="x", dir="/tmp") as folder:
        text = screen(record(folder))
    text = text[text.index(FIRST) : text.index(LAST)]
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(text.rstrip()), soft_wrap=False)
    layout = _REMOTE.sub("", _export_format.CONSOLE_SVG_FORMAT).replace("Fira Code, monospace", "monospace")
    PICTURE.write_text(console.export_svg(title="make demo", code_format=layout, unique_id="demo"))


if __name__ == "__main__":
    main()
