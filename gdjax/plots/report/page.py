"""The page: what stands in it without scripts, the data for its pictures, and a policy that loads nothing."""

import base64
import hashlib
import html
import json
import math
import os
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import xarray as xr

from gdjax._internal import files
from gdjax.plots.report.curves import curves
from gdjax.plots.report.maps import maps
from gdjax.plots.report.summary import Subject, subject, word

__all__ = ["write"]

SCRIPTS = ("common.js", "table.js", "map.js", "curves.js")


def _asset(name: str) -> str:
    return resources.files("gdjax.plots.report").joinpath("assets", name).read_text(encoding="utf-8")


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)


def _words(name: str) -> str:
    return _text(str(name).replace("_", " "))


def _json(data: Any) -> str:
    """JSON that cannot end the script that it stands in."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _seconds(value: Any) -> str:
    if not isinstance(value, (int, float)) or not value > 0:
        return "not known"
    if value >= 100:
        minutes, seconds = divmod(round(value), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
    return f"{value:.3g} s"


def _number(value: float) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return "-" if math.isnan(value) else f"{value:.5g}"


def _summary(about: Subject) -> str:
    counts = np.bincount(about.ends.reshape(-1), minlength=len(about.kinds))
    total, attrs = about.ends.size, about.dataset.attrs
    ends = "".join(
        f'<li class="{"bad" if kind.failed else "good"}" title="{_text(kind.text)}"><b>{count:,}</b> '
        f"{_text(kind.name)}</li>"
        for kind, count in zip(about.kinds, counts, strict=True)
        if count
    )
    failed = int(sum(count for kind, count in zip(about.kinds, counts, strict=True) if kind.failed))
    facts = [
        ("runs", f"{total:,}"),
        ("failed", f"{failed:,} ({failed / max(total, 1):.1%})"),
        ("settings", f"{about.settings.total:,}"),
    ]
    for name, key in (("wall time", "wall_seconds"), ("of it compiling", "compile_seconds")):
        if key in attrs:
            facts.append((name, _seconds(attrs[key])))
    if "device" in attrs:
        facts.append(("device", str(attrs["device"])))
    rows = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in facts)
    return f'<dl class="facts">{rows}</dl><ul class="ends">{ends}</ul><p class="best">{_best(about)}</p>'


def _best(about: Subject) -> str:
    found, settings = about.settings.ranking, about.settings
    if not np.isfinite(found.medians[:1]).any():
        return "<b>No best setting:</b> everywhere half of the runs or more failed."
    values = [f"{_words(name)} <b>{_text(word(each[0]))}</b>" for name, each in settings.coordinates.items()]
    text = f"{_words(about.by)} <b>{_number(found.medians[0])}</b>"
    if about.over:
        text = f"median {text} over {found.counts[0]} runs"
        if not math.isnan(settings.low[0]):
            text += f", 95 % interval {_number(settings.low[0])} to {_number(settings.high[0])}"
    return f"<b>Best setting:</b> {', '.join(values) or 'there is one only'}; {text}."


def _table(about: Subject, lines: int) -> str:
    """The settings, in order; every cell carries the number that it is sorted by."""
    settings, found = about.settings, about.settings.ranking
    center = "median" if about.over else about.by
    numeric = {name: values.dtype.kind in "iufb" for name, values in settings.coordinates.items()}
    heads = [("rank", True), *numeric.items(), (center, True)]
    heads += [("low", True), ("high", True)] if about.over else []
    heads += [("failed", True), ("runs", True)]
    head = "".join(
        f'<th scope="col" data-name="{_text(name)}" data-kind="{"number" if kind else "text"}">'
        f'<button type="button">{_words(name)}</button></th>'
        for name, kind in heads
    )
    rows, failed = [], found.failed
    for i in range(len(settings.low)):
        cells = [_cell(i + 1, str(i + 1))]
        cells += [_cell(values[i], word(values[i])) for values in settings.coordinates.values()]
        cells.append(_cell(found.medians[i], _number(found.medians[i])))
        if about.over:
            cells += [_cell(bound[i], _number(bound[i])) for bound in (settings.low, settings.high)]
        cells += [_cell(failed[i], "-" if math.isnan(failed[i]) else f"{failed[i]:.0%}")]
        cells += [_cell(found.counts[i], str(found.counts[i]))]
        line = f' data-line="{i}"' if i < lines else ""
        rows.append(f"<tr{line}>{''.join(cells)}</tr>")
    return f'<table id="settings"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _cell(value: Any, shown: str) -> str:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)):
        return f"<td>{_text(shown)}</td>"
    return f'<td class="n" data-v="{float(value)!r}">{_text(shown)}</td>'


def _axes(about: Subject) -> str:
    rows = []
    for dim in about.dims:
        values = about.dataset[dim].values
        shown = [word(value) for value in (values if len(values) <= 12 else values[:10])]
        if len(values) > 12:
            shown += ["…", word(values[-1])]
        rows.append(
            f'<tr><td>{_text(dim)}</td><td class="n">{len(values)}</td><td>{_text(", ".join(shown))}</td></tr>'
        )
    head = '<tr><th scope="col">axis</th><th scope="col">values</th><th scope="col">which</th></tr>'
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _attributes(about: Subject) -> str:
    attrs = {name: value for name, value in about.dataset.attrs.items() if name != "description"}
    rows = "".join(
        f'<tr><th scope="row">{_words(name)}</th><td>{_text(word(value))}</td></tr>'
        for name, value in attrs.items()
    )
    return f"<table><tbody>{rows}</tbody></table>" if rows else "<p>The dataset has no attributes.</p>"


def _code(about: Subject, store: str | None) -> str:
    over = about.over[0] if len(about.over) == 1 else list(about.over) or None
    versions = [
        f"{name}=={about.dataset.attrs[name]}"
        for name in ("gdjax", "jax", "jaxlib", "optax", "numpy")
        if name in about.dataset.attrs
    ]
    lines = [f"# pip install {' '.join(versions)}"] if versions else []
    lines += ["import xarray", "from gdjax import report, sweeps", ""]
    where = repr(store or "runs.zarr")
    lines.append(f"runs = xarray.open_zarr({where})" + ("" if store else "  # where the sweep was stored"))
    how = f"by={about.by!r}, over={over!r}" + (", maximize=True" if about.maximize else "")
    lines.append(f"best = sweeps.best(runs, {how})")
    lines.append(f"table = sweeps.rank(runs, {how})")
    lines.append(f'report.write(runs, "report.html", {how})')
    return f"<pre><code>{_text(chr(10).join(lines))}</code></pre>"


def _reproduce(about: Subject, store: str | None) -> str:
    parts = [
        "<p>The same trial over the same axes, with the same versions, gives the same numbers on the same "
        "kind of device. This reads what was stored:</p>",
        _code(about, store),
        "<h3>Axes</h3>",
        f'<div class="scroll">{_axes(about)}</div>',
        "<h3>Made with</h3>",
        f'<div class="scroll">{_attributes(about)}</div>',
    ]
    if "description" in about.dataset.attrs:
        parts += ["<h3>Description</h3>", f"<pre>{_text(about.dataset.attrs['description'])}</pre>"]
    return "".join(parts)


def _hash(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def _page(about: Subject, title: str, store: str | None) -> str:
    drawn = curves(about)
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 1, 17), bytes=True)[:, :3]
    data = {
        "by": about.by,
        "over": list(about.over),
        "kinds": [{"name": kind.name, "failed": kind.failed} for kind in about.kinds],
        "maps": maps(about),
        "curves": drawn,
        "colours": colours.tolist(),
    }
    script = "\n".join(_asset(name) for name in SCRIPTS)
    style, shown = _asset("page.css"), len(about.settings.low)
    limited = (
        f" The best {shown:,} of {about.settings.total:,} are shown." if shown < about.settings.total else ""
    )
    parts = {
        "title": _text(title),
        "policy": f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "base-uri 'none'; form-action 'none'",
        "style": style,
        "script": script,
        "summary": _summary(about),
        "settings": _table(about, len(drawn["labels"]) if drawn["variables"] else 0),
        "order": _order(about) + limited,
        "reproduce": _reproduce(about, store),
        "data": _json(data),
    }
    page = _asset("page.html")
    pieces = page.split("{{")
    filled = [pieces[0]]
    for piece in pieces[1:]:
        name, rest = piece.split("}}", 1)
        filled += [parts[name], rest]
    return "".join(filled)


def _order(about: Subject) -> str:
    first = ", the highest first" if about.maximize else ""
    if not about.over:
        return f"Ordered by {_words(about.by)}{first}. A run that failed is last, whatever its number."
    over, worst = " and ".join(_words(dim) for dim in about.over), "-∞" if about.maximize else "infinite"
    return (
        f"Ordered by the median of {_words(about.by)} over {over}{first}; runs that failed count as {worst}. From "
        "low to high is the 95 % bootstrap interval of the median."
    )


def write(
    dataset: xr.Dataset | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    by: str = "value",
    over: str | Iterable[str] | None = "seed",
    title: str = "Sweep",
    maximize: bool = False,
) -> Path:
    """Writes one page that holds all it needs: no network, no other file.

    It has the runs by how they ended, the settings in order with intervals (to sort and filter), maps of any two
    dimensions, what was recorded along ``step``, and how to run the sweep again. Large sweeps are
    summed up before they go in: the page stays under about 3 MB.

    Args:
      dataset: what `gdjax.sweep` returned, or the path of a store, complete or not.
      path: the page's file, replaced if it is there.
      by: the variable that settings are judged by; of one along ``step`` the last number.
      over: the dimensions that medians are over. None makes a setting of every run, and so does ``"seed"``
        where there is no such dimension.
      title: of the page.
      maximize: whether more is better, as of an accuracy.

    Returns:
      The page's path.

    Raises:
      ValueError: an unknown variable, one that is not one number a run, an unknown dimension, a folder that
        is no store.
      FileNotFoundError: if there is no folder.

    Example:
      >>> import tempfile, pathlib, xarray as xr
      >>> from gdjax import report
      >>> runs = xr.Dataset({"value": (("rate", "seed"), [[3.0, 5.0], [1.0, 2.0]])}, {"rate": [0.1, 0.2]})
      >>> page = report.write(runs, pathlib.Path(tempfile.mkdtemp(), "report.html"))
      >>> "Best setting" in page.read_text(encoding="utf-8")
      True
    """
    store = None
    if isinstance(dataset, str | os.PathLike):
        store = os.fspath(dataset)
        if not Path(store).is_dir():
            raise FileNotFoundError(f"report: there is no store {store}")
        try:
            dataset = xr.open_zarr(store, chunks=None)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"report: {store} is no store of a sweep: {error}") from error
    if not isinstance(dataset, xr.Dataset):
        raise TypeError(f"report: dataset must be an xarray.Dataset or a path, got {type(dataset).__name__}")
    chosen = (over,) if isinstance(over, str) else tuple(over or ())
    about = subject(dataset, by, chosen, maximize)
    page, path = _page(about, title, store), Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_whole(path, lambda file: file.write(page.encode("utf-8")))
    return path
