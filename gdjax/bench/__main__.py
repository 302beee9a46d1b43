"""``python -m gdjax.bench NAME ...`` runs ``gdjax.bench.NAME.main``."""

import importlib
import sys


def main(argv: list[str]) -> None:
    """Hands the arguments on to the benchmark that the first of them names."""
    if not argv or not argv[0].isidentifier():
        raise SystemExit(
            "usage: python -m gdjax.bench NAME ..., with NAME one of constrained, cutest, nonsmooth"
        )
    importlib.import_module(f"gdjax.bench.{argv[0]}").main(argv[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
