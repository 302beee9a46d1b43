"""``python -m gdjax`` is the command line."""

from gdjax.cli import main

if __name__ == "__main__":
    main()
