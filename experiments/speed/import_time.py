"""What ``import gdjax`` costs, as a ratio to ``import jax, optax``: ``python experiments/speed/import_time.py``."""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Sequence

__all__ = ["import_seconds", "main", "ratio"]

GROUND = "import jax, optax"


def import_seconds(statement: str) -> float:
    """Seconds that a fresh interpreter needs for ``statement``, its own start not counted.

    Example:
      >>> from import_time import import_seconds
      >>> 0 <= import_seconds("import json") < 60
      True
    """
    code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def ratio(statement: str = "import gdjax", repeats: int = 15) -> tuple[float, float, float]:
    """Compares a statement with ``import jax, optax`` in turns, so that a slow minute hits both.

    Args:
      statement: what to time.
      repeats: interpreters started for each of the two, at least 1.

    Returns:
      The median of the ratios of neighbours, then the medians of the two in seconds.

    Example:
      >>> from import_time import ratio
      >>> ratio("import gdjax", repeats=1)[0] > 0
      True
    """
    ours, ground = [], []
    for _ in range(repeats):
        ground.append(import_seconds(GROUND))
        ours.append(import_seconds(statement))
    quotients = [a / b for a, b in zip(ours, ground, strict=True)]
    return statistics.median(quotients), statistics.median(ours), statistics.median(ground)


def main(argv: Sequence[str]) -> None:
    """Prints the seconds of both imports and their ratio: ``python experiments/speed/import_time.py --repeats 15``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args(argv)
    import_seconds("import gdjax")  # the first compiles bytecode
    quotient, ours, ground = ratio(repeats=arguments.repeats)
    print(f"import gdjax       {ours:.3f} s")
    print(f"{GROUND}  {ground:.3f} s")
    print(f"ratio              {quotient:.3f}  (median of {arguments.repeats} pairs)")


if __name__ == "__main__":
    main(sys.argv[1:])
