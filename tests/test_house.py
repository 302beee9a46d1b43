"""The laws of the house (docs/design.md): layers, cycles, lengths, light import, documented names."""

import ast
import functools
import importlib
import inspect
import itertools
import re
import sys
import types
import typing
from pathlib import Path

import optax
import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "gdjax"

# From the ground up. A room imports only from rooms on lines above its own; "gdjax" is the flat namespace. Inside
# `_internal`, `programs` stands above the tools; inside `optimizers`, the families stand above `blocks`.
LAYERS = [
    {"types"},
    {"_internal"},
    {"_internal.programs"},
    {"objectives", "projections", "schedules", "stopping"},
    {"linalg", "linesearch", "regularizers"},
    {"optimizers.blocks", "optimizers.partition"},
    {"optimizers.answers"},
    {"optimizers"},
    {"optimizers.catalogue", "problems", "runs"},
    {"gdjax"},
    {"sweeps", "analysis"},
    {"plots", "bench"},
    {"cli"},
    {"__main__"},
]
LAYER = {room: height for height, rooms in enumerate(LAYERS) for room in rooms}

# Families of optimizers do not import each other. Where one needs another's method it is named here, and why.
ACROSS = {
    ("constrained", "second_order"): "the penalty methods take a trust region where no inner method is given"
}

# Files that are equals: no problem imports another, but for the noun that all of them share. The catalogue, which
# imports them all, is imported by none.
EQUALS = {"problems": {"catalogue"}}
SHARED = {"gdjax.problems.convex", "gdjax.problems.datasets", "gdjax.problems.problem"}

FILES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE_LINES = 340
MAX_FUNCTION_LINES = 65


def label(path):
    return str(path.relative_to(ROOT))


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text())


def room_of(module):
    """The room of a module: the longest part of its name, from the left, that has a layer."""
    inner = module.split(".")[1:]
    if not inner:
        return "gdjax"
    return next((".".join(inner[:n]) for n in (2, 1) if ".".join(inner[:n]) in LAYER), inner[0])


def family_of(module):
    """The family of a module of `optimizers`; None elsewhere, and for what families share."""
    inner = module.split(".")[1:]
    return inner[1] if room_of(module) == "optimizers" and len(inner) > 2 else None


def absolute(module, path, node):
    """The module that a ``from`` statement names, relative ones resolved."""
    if node.level == 0:
        return node.module
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    base = package[: len(package) - node.level + 1]
    return ".".join([*base, node.module] if node.module else base)


def imports(path):
    """The modules of gdjax that a file imports anywhere in it, functions included."""
    module, found, nodes = module_name(path), set(), ast.walk(tree_of(path))
    if module == "gdjax":  # what it names for type checkers it imports lazily
        nodes = [n for part in tree_of(path).body if not isinstance(part, ast.If) for n in ast.walk(part)]
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            source = absolute(module, path, node)
            for alias in node.names:
                deeper = f"{source}.{alias.name}"
                found.add(deeper if deeper in MODULES else source)
    return {name for name in found if name == "gdjax" or name.startswith("gdjax.")}


def third_party(path):
    """The top-level packages that a file imports when it is itself imported."""
    found, stack = set(), [tree_of(path)]
    while stack:
        for node in ast.iter_child_nodes(stack.pop()):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(str(node.module).split(".")[0])
            elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                stack.append(node)
    return found - set(sys.stdlib_module_names) - {"gdjax"}


@pytest.mark.parametrize("path", FILES, ids=label)
def test_imports_go_down(path):
    here = room_of(module_name(path))
    if path == PACKAGE / "__init__.py":
        return
    assert here in LAYER, f"gdjax.{here} has no layer: give it one in LAYERS and in docs/design.md"
    for target in imports(path):
        there = room_of(target)
        if target in ("gdjax._internal", "gdjax.optimizers"):  # the package, for one of its modules
            continue
        assert there == here or LAYER[there] < LAYER[here], (
            f"{label(path)} imports {target}, which is not below it"
        )


@pytest.mark.parametrize("path", [p for p in FILES if family_of(module_name(p))], ids=label)
def test_families_do_not_import_each_other(path):
    here = family_of(module_name(path))
    others = {family_of(name) for name in imports(path)} - {here, None}
    unknown = {other for other in others if (here, other) not in ACROSS}
    assert not unknown, f"{label(path)} imports {sorted(unknown)}: move what they share to optimizers/blocks"


def test_exceptions_across_families_are_needed():
    found = {(family_of(name), family_of(t)) for name, path in MODULES.items() for t in imports(path)}
    assert set(ACROSS) <= found


def test_the_hall_is_small():
    """At most 20 entries at the top of the package: a newcomer reads them in one look."""
    entries = [p.name for p in PACKAGE.iterdir() if p.name != "__pycache__"]
    assert len(entries) <= 20, sorted(entries)


READS_PROGRAMS = re.compile(r"\.primitive\b|\beqn\.params\b")


@pytest.mark.parametrize("path", FILES, ids=label)
def test_programs_are_read_in_one_room(path):
    """What JAX calls its operations and their parameters is known in `_internal/programs` only."""
    if room_of(module_name(path)) != "_internal.programs":
        assert not READS_PROGRAMS.search(path.read_text()), f"{label(path)} reads a jaxpr"


@pytest.mark.parametrize("path", [p for p in FILES if room_of(module_name(p)) in EQUALS], ids=label)
def test_siblings_do_not_import_each_other(path):
    module = module_name(path)
    room = room_of(module)
    if module == f"gdjax.{room}" or path.stem in EQUALS[room]:
        return
    siblings = {name for name in imports(path) if name.startswith(f"gdjax.{room}.")} - SHARED
    assert not siblings, f"{module} imports {sorted(siblings)}: move what they share a layer down"


def test_there_is_no_cycle():
    graph = {name: {t for t in imports(path) if t in MODULES} for name, path in MODULES.items()}
    while graph:
        free = [name for name, needs in graph.items() if not needs & graph.keys() - {name}]
        assert free, f"these modules import each other in a circle: {sorted(graph)}"
        for name in free:
            del graph[name]


@pytest.mark.parametrize("path", FILES, ids=label)
def test_files_are_short(path):
    lines = len(path.read_text().splitlines())
    assert lines <= MAX_FILE_LINES, f"{label(path)} has {lines} lines: does it hold two rooms?"


NUMERIC = (ast.Constant, ast.UnaryOp, ast.BinOp, ast.Tuple, ast.List)


def undocumented_numbers(path):
    """Numeric constants of a module that neither a docstring nor a comment says the reason of."""
    source = path.read_text(encoding="utf-8")
    lines, body = source.splitlines(), ast.parse(source).body
    for node, following in itertools.zip_longest(body, body[1:]):
        names = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(node.value, NUMERIC):
            continue
        inside = [each for each in ast.walk(node.value) if isinstance(each, ast.Constant)]
        if not inside or not all(type(each.value) in (int, float) for each in inside):
            continue
        documented = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        if not documented and "#" not in lines[node.lineno - 1] + lines[node.lineno - 2]:
            yield ", ".join(ast.unparse(name) for name in names)


@pytest.mark.parametrize("path", FILES, ids=label)
def test_numeric_constants_say_why(path):
    assert not list(undocumented_numbers(path))


def code_lines(function: typing.Any):
    """Lines of a function without its docstring."""
    first, length = function.body[0], function.end_lineno - function.lineno + 1
    said = first.end_lineno - first.lineno + 1
    documented = isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str)
    return length - (said if documented else 0)


@pytest.mark.parametrize("path", FILES, ids=label)
def test_functions_are_short(path):
    functions = [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {f.name: code_lines(f) for f in functions if code_lines(f) > MAX_FUNCTION_LINES}
    assert not long, f"longer than {MAX_FUNCTION_LINES} lines of code: {long}"


@pytest.mark.parametrize("path", FILES, ids=label)
def test_lower_layers_need_only_jax_and_optax(path):
    """What ``import gdjax`` may pull in: checked file by file, so that the culprit has a name."""
    if LAYER.get(room_of(module_name(path)), 99) <= LAYER["gdjax"]:
        assert third_party(path) <= {"jax", "jaxlib", "optax", "numpy"}


LAZY = {name: name for name in ("sweeps", "analysis", "bench", "plots", "cli", "linalg")} | {
    "search": "sweeps.search",
    "report": "plots.report",
    "checkpoints": "runs.checkpoints",
}
# What JAX and optax load, what gdjax loads on top; then each lazy room by its name alone, the others unloaded.
IMPORTS = """
import sys, jax, optax
print(*sys.modules)
import gdjax
print(*sys.modules)
for name, home in ROOMS.items():
    for loaded in [each for each in sys.modules if each.split(".")[0] == "gdjax"]:
        del sys.modules[loaded]
    import gdjax
    assert f"gdjax.{home}" not in sys.modules, name
    print(getattr(gdjax, name).__name__)
"""


@pytest.fixture(scope="module")
def imported(python):
    return python(IMPORTS.replace("ROOMS", repr(LAZY))).splitlines()


def test_import_is_light(imported):
    ground, ours = ({name.split(".")[0] for name in line.split()} for line in imported[:2])
    extra = ours - ground - set(sys.stdlib_module_names) - {"gdjax"}
    assert not extra, f"import gdjax pulls in {sorted(extra)}"
    heavy = ["gdjax.sweeps", "gdjax.plots", "gdjax.bench", "gdjax.analysis", "gdjax.cli"]
    assert not [name for name in heavy if name in imported[1].split()]


def test_import_starts_no_device(python):
    """With a platform that does not exist, the first array made at import time would raise."""
    assert python("import gdjax; print('ok')", JAX_PLATFORMS="nonexistent") == "ok\n"
    with pytest.raises(AssertionError, match="nonexistent"):
        python("import jax.numpy as jnp; jnp.zeros(())", JAX_PLATFORMS="nonexistent")


@pytest.mark.parametrize("name", LAZY)
def test_lazy_rooms_come_when_named(name, imported):
    assert imported[2 + list(LAZY).index(name)] == f"gdjax.{LAZY[name]}"


def test_unknown_names_raise_attribute_error():
    import gdjax

    with pytest.raises(AttributeError, match="no_such_name"):
        gdjax.no_such_name  # noqa: B018


def public_names():
    """(module, name) of everything that gdjax shows: its own namespace and each module's ``__all__``."""
    found = {}
    for module in sorted(MODULES):
        if any(part.startswith("_") for part in module.split(".")):
            continue
        loaded = importlib.import_module(module)
        names = getattr(loaded, "__all__", None)
        if names is None:
            names = [name for name in vars(loaded) if not name.startswith("_")] if module == "gdjax" else []
        for name in names:
            found.setdefault(id(getattr(loaded, name)), (module, name))
    return sorted(found.values())


def test_public_names_are_documented():
    """What users meet carries a reference or an executed example; everything public a docstring."""
    rooms = (
        "linesearch",
        "objectives",
        "objectives.derivatives",
        "objectives.objective",
        "optimizers.partition",
        "plots",
        "schedules",
        "sweeps.search",
        "stopping",
        "sweeps",
    )
    met = {"gdjax", "gdjax.problems", *(f"gdjax.{room}" for room in rooms)}
    bare, unproved = [], []
    for module, name in public_names():
        thing = getattr(importlib.import_module(module), name)
        alias = typing.get_origin(thing) is not None
        if alias or (not callable(thing) and not isinstance(thing, types.ModuleType)):
            continue
        text = inspect.getdoc(thing) or ""
        if not text or text.startswith(f"{name}("):  # the docstring that NamedTuple makes up
            bare.append(f"{module}.{name}")
        elif inspect.isroutine(thing) and module in met and not re.search(r"Reference|>>>", text):
            unproved.append(f"{module}.{name}")
    assert not bare, f"no docstring: {bare}"
    assert not unproved, f"neither a reference nor an example: {unproved}"


# Functions of `optimizers` that return a transformation and are no method of their own.
NO_METHODS = {
    "at_least_float32": "a wrapper for the precision of states",
    "clip_by_global_norm": "a stage of a chain: it scales gradients",
    "clip_by_norm": "a stage of a chain: it scales gradients",
    "master_copy": "a wrapper for the precision of params",
    "masked": "a wrapper for parts of the params",
    "partition": "a wrapper that gives each part a method",
    "around": "what the penalty methods are made of",
    "bound": "a helper: settings bound to a method",
    "transformation_inside": "a helper: the check of an inner method",
}


def test_every_method_is_in_the_catalogue():
    """A method joins the contract tests, the command line and the benchmarks by its line there."""
    from gdjax.optimizers.catalogue import CATALOGUE

    found = set()
    for module in MODULES:
        if not module.startswith("gdjax.optimizers.") or module.endswith(".catalogue"):
            continue
        loaded = importlib.import_module(module)
        for name in getattr(loaded, "__all__", []):
            kind = (
                typing.get_type_hints(getattr(loaded, name)).get("return")
                if inspect.isfunction(getattr(loaded, name))
                else None
            )
            if isinstance(kind, type) and issubclass(kind, optax.GradientTransformation):
                found.add(name)
    assert found >= CATALOGUE.keys() - {"line_search"}
    assert not found - CATALOGUE.keys() - NO_METHODS.keys(), sorted(
        found - CATALOGUE.keys() - NO_METHODS.keys()
    )
    assert found >= NO_METHODS.keys(), sorted(NO_METHODS.keys() - found)


def test_all_names_exist_and_are_sorted_into_one_namespace():
    for module in MODULES:
        loaded = importlib.import_module(module)
        for name in getattr(loaded, "__all__", []):
            assert hasattr(loaded, name), f"{module}.__all__ names {name}, which is not there"


@pytest.mark.parametrize("path", FILES, ids=label)
def test_code_is_safe_and_uses_public_jax(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            source = getattr(node, "module", None) or ""
            names = [source, *(alias.name for alias in node.names)]
            assert not {"pickle", "dill", "cloudpickle", "joblib"} & {n.split(".")[0] for n in names}
            assert not any(re.match(r"(jax|optax)\b.*\._", f"{source}.{n}") for n in names), (
                f"{label(path)} reaches into a private module: {names}"
            )
        if isinstance(node, ast.Call):
            assert getattr(node.func, "id", "") not in {"eval", "exec", "__import__"}
            for keyword in node.keywords:
                allowed = getattr(keyword.value, "value", None) is False
                assert keyword.arg != "allow_pickle" or allowed, f"{label(path)} allows pickles"


def text_files():
    """Every text file of the project, the pieces that tools leave behind left out."""
    own = ["gdjax", "tests", "docs", "experiments", "findings", "tools", ".ci", ".github"]
    files = [p for folder in own for p in (ROOT / folder).rglob("*") if p.is_file()]
    files += [
        p for p in ROOT.iterdir() if p.is_file() and (not p.name.startswith(".") or p.name == ".gitignore")
    ]
    kinds = {
        ".py",
        ".sh",
        ".md",
        ".toml",
        ".cff",
        ".yml",
        ".yaml",
        ".svg",
        ".txt",
        ".css",
        ".js",
        ".json",
        "",
    }
    return sorted(p for p in files if p.suffix in kinds and "__pycache__" not in p.parts)


FORBIDDEN = {
    "a path of one machine": r"(?<![\w.}-])/(?:w[o]rk|r[o]ot|h[o]me|f[a]rm|[o]pt|t[m]p)/\w",
    "a registry host": r"py[p]i\.org|pythonh[o]sted\.org|npm[j]s\.|de[b]ian\.org",
    "unfinished work": r"\bTO[D]O\b|\bFIX[M]E\b|NotImplemented[E]rror",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_tree_is_clean_of(what):
    found = [
        f"{label(path)}:{number}: {line.strip()[:80]}"
        for path in text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="ignore").splitlines(), 1)
        if re.search(FORBIDDEN[what], line)
    ]
    assert not found, f"{what}: {found}"


def test_the_laws_can_fail(tmp_path):
    """The readers above see what they are meant to see."""
    source = (
        "import gdjax.plots\ndef f():\n    from gdjax import cli\n    from gdjax.optimizers import newton\n"
    )
    file = tmp_path / "x.py"
    file.write_text(source)
    nodes = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Import | ast.ImportFrom)]
    assert len(nodes) == 3
    assert third_party(file) == set()
    file.write_text(
        "import scipy\ntry:\n    import torch\nexcept ImportError:\n    pass\ndef f():\n    import xarray\n"
    )
    tree_of.cache_clear()
    assert third_party(file) == {"scipy", "torch"}
    assert re.search(FORBIDDEN["a path of one machine"], "see /" + "work/main")
    assert re.search(FORBIDDEN["a registry host"], "py" + "pi.org")
    function = ast.parse('def f():\n    """One.\n\n    Two.\n    """\n    return 1\n').body[0]
    assert code_lines(function) == 2
