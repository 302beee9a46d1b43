"""The command line: ``gdjax demo``, ``gdjax race``, ``gdjax sweep``, ``gdjax report``, ``gdjax list``."""

import sys

from gdjax.cli.app import app

__all__ = ["app", "main"]


def main() -> None:
    """Runs the command line. Exit codes: 0 done, 1 failed, 2 not understood, 130 interrupted."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except (OSError, ValueError, TypeError) as error:
        print(f"gdjax: {error}", file=sys.stderr)
        sys.exit(1)
