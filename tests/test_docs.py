"""Every Python block of the pages and every example of the docstrings runs; the README's commands are two."""

import ast
import doctest
import importlib
import re
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^( *)```(\w*)([^\n]*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


def label(path):
    return str(path.relative_to(ROOT))


def blocks(path, language):
    """(line number, attributes, text) of a page's fenced blocks in one language."""
    text = path.read_text()
    for match in FENCE.finditer(text):
        indent, found, attributes, body = match.groups()
        if found == language:
            body = re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)
            yield text.count("\n", 0, match.start()) + 1, attributes.strip(), body


def run_page(path, languages=("python",)):
    """Executes a page's blocks top to bottom in one namespace; errors name the page and the line."""
    namespace = {"__name__": "__page__"}
    for line, _, body in sorted(block for language in languages for block in blocks(path, language)):
        exec(compile("\n" * line + body, str(path), "exec"), namespace)


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if any(blocks(p, "python"))], ids=label)
def test_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_page(page)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if any(blocks(p, "py"))], ids=label)
def test_blocks_that_need_diffrax_run(page):
    """What the pages show as ``py`` needs a package that the tests do not ask for."""
    pytest.importorskip("diffrax")
    run_page(page, ("python", "py"))


def test_readme_opens_with_the_two_commands():
    first, second = [body.strip() for _, _, body in blocks(ROOT / "README.md", "sh")][:2]
    for command in (first, second):
        assert "\n" not in command, "each is one line"
        assert "-m venv" in command, "it works where the system's Python refuses to install"
    assert first.endswith("gdjax demo")
    assert re.search(r"pytest$", second)


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_links_within_the_project_lead_somewhere(page):
    generated = ROOT / "docs" / "api"
    for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        place = (page.parent / target).resolve()
        assert place.exists() or generated in place.parents, (
            f"{label(page)} links to {target}, which is not there"
        )


def modules():
    files = sorted((ROOT / "gdjax").rglob("*.py"))
    return [path for path in files if path.name != "__main__.py" and ">>> " in path.read_text()]


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))


def written_examples(path):
    """How many docstrings of a file hold an example."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]
    return sum(">>> " in (ast.get_docstring(node) or "") for node in nodes)


def examples(module):
    """A module's docstring examples, those of wrapped functions (``jit``, ``partial``) included."""
    finder, found = doctest.DocTestFinder(exclude_empty=True), {}
    for test in finder.find(module, module.__name__):
        found[test.name] = test
    for name, thing in vars(module).items():
        text, full = getattr(thing, "__doc__", None) or "", f"{module.__name__}.{name}"
        ours = getattr(thing, "__module__", None) == module.__name__
        if ours and callable(thing) and full not in found and ">>> " in text:
            parse = doctest.DocTestParser().get_doctest
            found[full] = parse(text, dict(vars(module)), full, module.__file__, 0)
    return [test for test in found.values() if test.examples]


@pytest.mark.slow
@pytest.mark.parametrize("path", modules(), ids=label)
def test_docstring_examples(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = module_of(path)
    tests = examples(module)
    assert len(tests) == written_examples(path), "an example is written where nothing executes it"
    failures = []
    for test in tests:
        test.globs = {**vars(module), "__name__": "__main__"}
        report = []
        runner = doctest.DocTestRunner(optionflags=OPTIONS)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if runner.run(test, out=report.append).failed:
                failures.append("".join(report))
    assert not failures, "\n".join(failures)


def test_the_readers_can_fail(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# x\n\n```python\na = 1\n```\n\ntext\n\n```python\nassert a == 2\n```\n")
    assert [line for line, _, _ in blocks(page, "python")] == [3, 9]
    with pytest.raises(AssertionError) as caught:
        run_page(page)
    assert caught.traceback[-1].lineno + 1 == 10
