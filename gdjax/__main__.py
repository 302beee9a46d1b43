"""``python -m gdjax`` is the command line."""

from gdjax.cli import main

main()
