"""What is installed: the wheel's files and metadata, the versions, and CI as the README has it."""

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        yield archive


def test_wheel_holds_the_whole_package_and_nothing_else(wheel):
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    files = [path for path in (ROOT / "gdjax").rglob("*") if path.is_file()]
    expected = {str(p.relative_to(ROOT)) for p in files if "__pycache__" not in p.parts}
    assert inside == expected
    assert "gdjax/py.typed" in inside
    assert any(name.endswith(".npz") for name in inside), "the demo's data ships with the package"


def test_sdist_holds_all_that_its_own_tests_read(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("gdjax", "tests", "docs", "experiments", "findings", "tools", ".ci", ".github"):
        files = [
            path
            for path in (ROOT / folder).rglob("*")
            if path.suffix in (".py", ".md", ".yml", ".toml", ".npz")
        ]
        kept = {
            str(path.relative_to(ROOT)) for path in [*files, ROOT / ".ci" / "run"] if "out" not in path.parts
        }
        assert kept <= inside, f"the sdist lacks {sorted(kept - inside)}"
    assert {"README.md", "CITATION.cff", "CONTRIBUTING.md", "mkdocs.yml", "noxfile.py"} <= inside


@pytest.mark.smoke
def test_metadata(wheel):
    name = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    fields = Parser().parsestr(wheel.read(name).decode())
    assert fields["Name"] == "gdjax"
    assert fields["License-Expression"] == "Apache-2.0"
    assert fields["Requires-Python"] == ">=3.11"
    assert fields.get_all("License-File") == ["LICENSE"]
    assert set(fields.get_all("Provides-Extra")) == {"bench", "data", "docs", "lint", "search", "test"}
    scripts = wheel.read(name.replace("METADATA", "entry_points.txt")).decode()
    assert "gdjax = gdjax.cli:main" in scripts


@pytest.mark.smoke
def test_dependencies_are_ranges():
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for requirement in [r for group in groups for r in group]:
        assert re.fullmatch(r"[\w.-]+(\[\w+\])?>=[\d.]+", requirement), requirement


def packages(requirements):
    names = {each[0] for each in map(re.compile(r"[\w-]+").match, requirements) if each}
    return {{"pillow": "PIL", "scikit-learn": "sklearn"}.get(name, name.replace("-", "_")) for name in names}


def imported(folder):
    """What the modules of a folder import from elsewhere when they are imported, by the name of the package."""
    own = {path.stem for path in (ROOT / folder).rglob("*.py")} | set(sys.stdlib_module_names) | {"gdjax"}
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(str(node.module).partition(".")[0])
    return found - own


def test_what_is_imported_is_declared():
    needed = packages(PROJECT["dependencies"])
    groups = {name: packages(each) for name, each in PROJECT["optional-dependencies"].items()}
    assert imported("gdjax") - needed <= groups["bench"]
    assert imported("tests") - needed <= groups["test"], "what may be absent is imported in a test, if at all"


def test_lowest_versions_are_those_that_are_stated():
    command = [sys.executable, str(ROOT / ".ci" / "lowest.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    stated = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
    assert done.stdout.split() == [each.replace(">=", "==") for each in stated]


def test_version_is_said_once():
    import gdjax

    assert f"version: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text()
    assert getattr(gdjax, "__version__", PROJECT["version"]) == PROJECT["version"]


def test_ci_script_is_sound_bash():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111, "it can be executed"
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
