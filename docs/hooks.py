"""What the pages need beyond the plugins: the API from the code, the README as home, formulas as MathML."""

import ast
import html
import inspect
import logging
import re
import types
from pathlib import Path

import griffe
import latex2mathml.converter
from mkdocs.structure.files import File

import gdjax

ROOT = Path(__file__).resolve().parent.parent
LOG = logging.getLogger("mkdocs.hooks.gdjax")


class Sphinx(griffe.Extension):
    """Rewrites the roles of docstrings, which editors and ``help`` show well, into Markdown."""

    def on_instance(self, *, obj, **kwargs):
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)


def to_markdown(text):
    """``:math:`x``` to arithmatex, ``.. math::`` to a block of it, ``Example:`` to the section's name."""
    text = re.sub(r":math:`([^`]+)`", r"\\(\1\\)", text)
    text = re.sub(r":(?:class|func|mod|meth|data):`~?([^`]+)`", r"`\1`", text)
    text = re.sub(
        r"^( *)\.\. math::[ \t]*(.*(?:\n(?:\1 +\S.*|[ \t]*(?=\n\1 +\S)))*)",
        lambda m: (
            f"\n{m[1]}$$\n"
            + "\n".join(m[1] + line.strip() for line in m[2].strip().split("\n"))
            + f"\n{m[1]}$$"
        ),
        text,
        flags=re.MULTILINE,
    )
    return re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)


def public_modules():
    """(dotted name, path) of every module that declares ``__all__``."""
    for path in sorted((ROOT / "gdjax").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if len(parts) == 1 or any(part.startswith("_") for part in parts):
            continue
        body = ast.parse(path.read_text()).body
        targets = [
            t.id for node in body if isinstance(node, ast.Assign) for t in node.targets if hasattr(t, "id")
        ]
        if "__all__" in targets:
            yield ".".join(parts)


def page_of(module):
    return f"api/{module.removeprefix('gdjax.')}.md"


def first_sentence(thing):
    text = (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")
    return to_markdown(text).replace("|", r"\|")


def index_page(modules):
    """The flat namespace: each public name, linked to where it is described."""
    rows = []
    for name in sorted(n for n in dir(gdjax) if not n.startswith("_")):
        thing = getattr(gdjax, name)
        if isinstance(thing, types.ModuleType):
            target = thing.__name__
        else:
            target = getattr(thing, "__module__", "") or ""
        link = f"[`{name}`]({page_of(target)[4:]})" if target in modules else f"`{name}`"
        rows.append(f"| {link} | {first_sentence(thing) if callable(thing) or target else ''} |")
    return (
        "# API\n\nWhat `import gdjax` shows.\n\n| name | what it is |\n|---|---|\n" + "\n".join(rows) + "\n"
    )


def home_page():
    """The README, its links turned to the site's."""
    text = (ROOT / "README.md").read_text()
    return re.sub(r"(\]\(|src=\")docs/", r"\1", text)


def on_config(config):
    modules = list(public_modules())
    rooms = {}
    for module in modules:
        rooms.setdefault(module.split(".")[1], []).append({module: page_of(module)})
    pages = [group[0] if len(group) == 1 else {room: group} for room, group in rooms.items()]
    config.nav.append({"API": ["api/index.md", *pages]})
    return config


def on_files(files, config):
    modules = list(public_modules())
    generated = {page_of(module): f"# {module}\n\n::: {module}\n" for module in modules}
    generated["api/index.md"] = index_page(set(modules))
    generated["index.md"] = home_page()
    for uri, content in generated.items():
        files.append(File.generated(config, uri, content=content))
    return files


def formula(match, display):
    source = html.unescape(match[1]).strip()
    try:
        return latex2mathml.converter.convert(source, display=display)
    except Exception as error:
        LOG.warning("this formula does not convert: %s (%r)", source, error)
        return match[0]


def on_page_content(content, **kwargs):
    """Formulas as MathML, which browsers draw by themselves."""
    inline, block = (
        r'<span class="arithmatex">\\\((.*?)\\\)</span>',
        r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>',
    )
    content = re.sub(inline, lambda m: formula(m, "inline"), content, flags=re.DOTALL)
    return re.sub(block, lambda m: formula(m, "block"), content, flags=re.DOTALL)
