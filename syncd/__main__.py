"""`python -m syncd`: the command line without the installed script."""

from syncd.cli.main import main

main()
