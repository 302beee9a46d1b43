"""Draws the pictures of docs/pictures.md by running its code: ``python tools/make_pictures.py``."""

import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

DOCS = Path(__file__).resolve().parent.parent / "docs"
NAMES = iter(["rates", "convergence", "trajectories"])


def keep(figure: plt.Figure) -> None:
    """Takes the place of ``plt.close`` in the page."""
    figure.savefig(DOCS / "images" / f"{next(NAMES)}.png", dpi=80)


if __name__ == "__main__":
    plt.close = keep
    page: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / "pictures.md").read_text(), re.DOTALL):
        exec(block, page)
