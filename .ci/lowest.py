"""Prints the lowest versions that pyproject.toml allows, for pip: what gdjax needs, and what its tests need.

python3 .ci/lowest.py
"""

import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
print(
    *(each.replace(">=", "==") for each in project["dependencies"] + project["optional-dependencies"]["test"])
)
