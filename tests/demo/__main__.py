"""`python -m tests.demo`: what syncd does, shown with a POP3 server of its own; `make demo` calls it.

Everything happens in one new folder below the temporary directory, which is kept, and with a private Dovecot on
loopback, which is not. Exit 0: all was as it should be; 1: something was not, and the last line says what;
2: there is no mail in --mail; 130: Ctrl-C, and then the folder is removed as well.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.demo.letters import NoMail
from tests.demo.page import keep_open
from tests.demo.story import PASSWORD, Story
from tests.demo.terminal import Mismatch, Terminal
from tests.servers.dovecot import Dovecot
from tests.servers.sink import Sink


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make demo", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--mail", type=Path, help="a folder of eml files, a Maildir, or an mbox, instead of samples")
    parser.add_argument("--keep", action="store_true", help="serve the page at the end, until Ctrl-C")
    return parser.parse_args()


def environment() -> dict[str, str]:
    """Ours, with the syncd beside this Python found first, and without settings of anybody's."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SYNCD_")}
    return {**ours, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DEMO_PASSWORD": PASSWORD}


def show(folder: Path, mail: Path | None, *, keep: bool) -> None:
    """The demo in `folder`. Raises Mismatch, NoMail, RuntimeError, OSError."""
    start = time.monotonic()
    terminal = Terminal(folder, environment())
    with Sink() as sink, Dovecot(relay=(sink.host, sink.port)) as server:
        Story(server, sink, folder, terminal, mail.expanduser().resolve() if mail else None).tell()
        took = time.monotonic() - start
        if keep:
            keep_open(terminal, folder)
    terminal.part("Where to look")
    terminal.say(
        f"Done in {took:.0f} seconds. The server is stopped; nothing is left running.\n\n"
        f"  cd {folder}\n"
        "  home/        the archive of the first account: packs/*.mbox.zst and an index made from them\n"
        "  attic/       the archive of the second; office/ that of the IMAP account\n"
        "  office-move.md   what `syncd verify` found on both servers\n"
        "  exported/    the first one as mbox, for mutt -f, Thunderbird, Python\n"
        "  arrived.eml  the first message that was delivered again\n"
        "  syncd.toml   the configuration;  state/   the ledger\n\n"
        f"  {Path(sys.executable).with_name('syncd')} archive list home\n\n"
        "The page shows jobs, runs, archives and what waits: make demo KEEP=1 ends with it, and keeps it open.\n"
        f"Delete it all with: rm -r {folder}"
    )


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupted(*_: object) -> None:
    """All of them end the demo as Ctrl-C does; a second one does not disturb the cleaning up."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    """The exit code."""
    options = arguments()
    for number in SIGNALS:
        signal.signal(number, interrupted)
    folder = Path(tempfile.mkdtemp(prefix="syncd-demo-"))
    try:
        show(folder, options.mail, keep=options.keep)
    except KeyboardInterrupt:
        shutil.rmtree(folder)
        print(f"\ndemo: interrupted; the server is stopped, {folder} is removed", file=sys.stderr)
        return 130
    except NoMail as error:
        shutil.rmtree(folder)
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except (Mismatch, RuntimeError, OSError) as error:
        print(f"demo: FAILED: {error}\ndemo: what there is stays in {folder}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
