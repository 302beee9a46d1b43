"""The page of a sweep: its numbers, nothing from the network, names that stay text, and what its scripts do."""

import base64
import hashlib
import html.parser
import json
import re
import shutil
import subprocess

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import gdjax
from gdjax import Status, sweeps
from gdjax.cli import app
from gdjax.plots import report

EVIL = "</script><img src=x onerror=alert(1)>\"'&<!--"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def sweep_like(rates=9, seeds=5, steps=40, optimizers=("sgd", "adam")):
    """Two optimizers over rates and seeds with traces; the highest rate of the first diverges."""
    rng = np.random.default_rng(0)
    shape = (len(optimizers), rates, seeds)
    rate = np.geomspace(1e-3, 1.0, rates)
    best = np.geomspace(0.01, 0.3, len(optimizers))
    value = 0.1 + np.log10(rate / best[:, None])[..., None] ** 2 + 0.05 * rng.random(shape)
    status = np.full(shape, Status.MAX_STEPS, np.int8)
    status[0, -1] = Status.NONFINITE
    status[0, -2, 0] = Status.DIVERGED
    loss = value[..., None] + 5.0 * 0.9 ** np.arange(steps)
    loss[0, -1, :, steps // 2 :] = np.nan
    axes = ("optimizer", "learning_rate", "seed")
    return xr.Dataset(
        {
            "value": (axes, value),
            "steps": (axes, np.full(shape, steps)),
            "status": (axes, status),
            "loss": ((*axes, "step"), loss),
        },
        {
            "optimizer": list(optimizers),
            "learning_rate": rate,
            "seed": np.arange(seeds),
            "step": np.arange(steps),
        },
        {"gdjax": "0.1.0", "jax": "0.10.2", "device": "cpu", "wall_seconds": 3.0, "compile_seconds": 1.0},
    )


class Reader(html.parser.HTMLParser):
    """Tags with attributes in order, the rows of the first table, and the texts of scripts and styles."""

    VOID = frozenset({"meta", "input", "br", "link", "img"})

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.rows, self.raw, self.words = [], [], [], {}, []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        where = self.open[-1] if self.open else ""
        if where in ("script", "style"):
            self.raw[where] = [*self.raw.get(where, []), text]
        else:
            self.words.append(text)
            if self.rows and self.rows[-1] and {"td", "th"} & set(self.open):
                self.rows[-1][-1] += text


def written(runs, tmp_path, **options):
    text = report.write(runs, tmp_path / "report.html", **options).read_text(encoding="utf-8")
    return text, Reader(text)


def data_of(text):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


# The page without its scripts


@pytest.mark.smoke
def test_the_page_holds_what_it_needs_and_asks_for_nothing(tmp_path):
    text, page = written(sweep_like(), tmp_path, title="Rates")
    assert not re.search(
        r"https?:|//[a-z]|@import|url\((?!#)", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    )
    for tag, attrs in page.tags:
        assert not {"src", "srcset", "action", "style"} & attrs.keys()
        assert tag not in ("link", "img", "iframe", "object")
        assert not [name for name in attrs if name.startswith("on")]
        assert attrs.get("href", "#").startswith("#")
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"][1:] for tag, attrs in page.tags if tag == "a"} <= set(ids)
    labelled = {"aria-labelledby", "aria-describedby"}
    assert {attrs[key] for _, attrs in page.tags for key in labelled & attrs.keys()} <= set(ids)
    assert len(text) < 300_000


def test_the_policy_names_the_one_script_and_style_by_their_hashes(tmp_path):
    text, page = written(sweep_like(), tmp_path)
    policy = next(a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    script, style = (
        text.split("<script>")[1].split("</script>")[0],
        text.split("<style>")[1].split("</style>")[0],
    )
    for part in (script, style):
        assert base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() in policy
    assert "unsafe" not in policy


def test_the_table_is_the_ranking(tmp_path):
    runs = sweep_like()
    _, page = written(runs, tmp_path)
    head, *rows = page.rows[: 1 + 18]
    assert head == ["rank", "optimizer", "learning rate", "median", "low", "high", "failed", "runs"]
    for row, expected in zip(rows, sweeps.rank(runs).itertuples(), strict=True):
        assert row[:2] == [str(expected.Index), expected.optimizer]
        assert row[2] == f"{expected.learning_rate:.4g}"
        assert row[3] == ("∞" if np.isinf(expected.median) else f"{expected.median:.5g}")
        assert row[6] == f"{expected.failed:.0%}"
    assert rows[-1][2:] == ["1", "∞", "∞", "∞", "100%", "5"]


def test_the_summary_counts_and_names_the_best(tmp_path):
    runs = sweep_like()
    text, page = written(runs, tmp_path)
    words = " ".join(" ".join(page.words).split())
    for part in (
        "90",
        "5 nonfinite",
        "1 diverged",
        "84 max steps",
        "6 (6.7%)",
        "wall time 3 s",
        "compiling 1 s",
    ):
        assert part in words, part
    best = sweeps.best(runs, over="seed")
    assert f"learning rate {float(best.learning_rate):.4g} ; median value" in words
    assert "jax==0.10.2" in text
    assert "over='seed'" in words


def test_maps_are_medians_and_counts_of_their_cells(tmp_path):
    runs = sweep_like()
    maps = data_of(written(runs, tmp_path)[0])["maps"]
    names = [each["name"] for each in maps["features"]]
    assert names == ["optimizer", "learning_rate", "seed"]
    assert maps["variables"] == ["value", "steps"]
    good = runs.value.where(~runs.status.isin([5, 9]))
    for pair, others in (("0,1", "seed"), ("0,2", "learning_rate"), ("1,2", "optimizer")):
        cells = maps["cells"][pair]
        order = [names[int(each)] for each in pair.split(",")]
        for key, reduced in (("median", good.median(others)), ("lowest", good.min(others))):
            found = np.array(cells["value"][key], float)
            np.testing.assert_allclose(found, reduced.transpose(*order).values.reshape(-1), rtol=1e-4)
        assert np.sum(cells["counts"]) == runs.status.size
    last = maps["cells"]["0,1"]["counts"][8]
    kinds = [each["name"] for each in data_of((tmp_path / "report.html").read_text())["kinds"]]
    assert dict(zip(kinds, last, strict=True)) == {"max steps": 0, "nonfinite": 5, "diverged": 0}


def test_curves_are_medians_and_quartiles_over_seeds(tmp_path):
    runs = sweep_like()
    curves = data_of(written(runs, tmp_path)[0])["curves"]
    steps, lines = curves["variables"]["loss"]["steps"], curves["variables"]["loss"]["lines"]
    best = sweeps.best(runs, over="seed").loss
    assert steps == list(range(40))
    for key, share in (("low", 0.25), ("median", 0.5), ("high", 0.75)):
        np.testing.assert_allclose(lines[0][key], best.quantile(share, "seed"), rtol=1e-4)
    lost = lines[curves["labels"].index("optimizer sgd, learning rate 1")]
    assert None not in lost["median"][:20]
    assert set(lost["median"][20:]) == {None}


def test_names_from_the_data_stay_text(tmp_path):
    runs = sweep_like(optimizers=("adam", EVIL)).rename({"learning_rate": "r<b>", "loss": EVIL + "loss"})
    runs.attrs |= {"description": EVIL, EVIL: EVIL}
    text, page = written(runs, tmp_path, title=EVIL)
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert not {"img", "b<"} & {tag for tag, _ in page.tags}
    assert "onerror" not in {name for _, attrs in page.tags for name in attrs}
    assert any(row[1:2] == [EVIL] for row in page.rows)
    data = data_of(text)
    assert EVIL in data["maps"]["features"][0]["labels"]
    assert EVIL + "loss" in data["curves"]["variables"]


def test_a_large_sweep_stays_under_three_megabytes(tmp_path):
    rng = np.random.default_rng(0)
    axes, sizes = ("a", "b", "c", "d", "e", "seed"), (45, 40, 6, 3, 2, 4)
    names = ("value", "residual", "steps", "error", "norm")
    runs = xr.Dataset(
        {name: (axes, rng.lognormal(size=sizes)) for name in names}
        | {"status": (axes, rng.choice(np.array([1, 2, 5, 9], np.int8), sizes))},
        {name: np.geomspace(1e-3, 1, n) for name, n in zip(axes, sizes, strict=True)},
    )
    text, page = written(runs, tmp_path)
    assert len(text) < 3_000_000
    assert "The best 1,000 of 64,800 are shown" in text
    assert len(page.rows) > 1000
    maps = data_of(text)["maps"]
    assert [len(each["labels"]) for each in maps["features"]] == [24, 40, 6, 3, 2, 4]
    assert np.sum(maps["cells"]["0,1"]["counts"]) == np.prod(sizes)


def test_maps_of_too_many_numbers_offer_less(tmp_path, monkeypatch):
    for most, variables, features in ((250, 2, 3), (120, 1, 3), (20, 1, 2), (1, 1, 2)):
        monkeypatch.setattr("gdjax.plots.report.maps.NUMBERS", most)
        maps = data_of(written(sweep_like(), tmp_path)[0])["maps"]
        assert (len(maps["variables"]), len(maps["features"])) == (variables, features)


def test_long_traces_of_many_settings_are_thinned(tmp_path):
    runs = sweep_like(rates=60, seeds=3, steps=1500)
    text, _ = written(runs, tmp_path)
    curves = data_of(text)["curves"]
    steps = curves["variables"]["loss"]["steps"]
    assert (steps[0], steps[-1], len(steps)) == (0, 1499, 120)
    assert len(curves["labels"]) == 80
    assert len(text) < 2_000_000


@pytest.mark.slow
def test_a_design_is_mapped_by_its_values(tmp_path):
    space = {"rate": sweeps.log_uniform(1e-4, 1.0), "decay": sweeps.uniform(0.0, 0.9)}
    design = sweeps.sobol(space, 64)
    runs = gdjax.sweep(
        lambda sample, seed: {"value": sample["rate"] + sample["decay"] * seed},
        {"sample": design, "seed": [0.0, 1.0]},
        progress=False,
    )
    text, page = written(runs, tmp_path)
    features = data_of(text)["maps"]["features"]
    assert [each["name"] for each in features] == ["rate", "decay", "seed", "sample"]
    assert len(features[0]["labels"]) == 8
    assert features[0]["labels"][0].startswith("0.0001 to ") or features[0]["labels"][0].startswith("0.00010")
    assert page.rows[0][:4] == ["rank", "sample", "rate", "decay"]


@pytest.mark.parametrize(
    ("runs", "options"),
    [
        (xr.Dataset({"value": ((), 1.5)}), {}),
        (xr.Dataset({"value": ("seed", [1.0, np.nan])}), {}),
        (xr.Dataset({"value": ("rate", [np.nan, np.inf])}), {}),
        (sweep_like().isel(learning_rate=[0], optimizer=[0]), {}),
        (sweep_like(), {"over": None}),
        (sweep_like(), {"over": ["seed", "optimizer"], "by": "loss"}),
        (sweep_like().drop_vars("status"), {}),
        (sweep_like().assign(status=lambda r: r.status * 0), {}),
        (sweep_like().isel(step=[0]), {}),
    ],
)
def test_odd_sweeps_have_a_page_too(runs, options, tmp_path):
    text, _ = written(runs, tmp_path, **options)
    assert data_of(text)["by"] == options.get("by", "value")


def test_a_store_that_is_not_complete_says_so(tmp_path):
    runs = sweep_like(steps=3)
    part = {"optimizer": 1, "learning_rate": slice(4, 9)}
    runs.status[part] = Status.RUNNING
    runs.value[part] = np.nan
    runs.to_zarr(tmp_path / "runs.zarr", zarr_format=2)
    text, page = written(tmp_path / "runs.zarr", tmp_path)
    assert "25 not finished" in " ".join(" ".join(page.words).split())
    assert "runs.zarr" in text
    assert [row[-2:] for row in page.rows[1:19]].count(["-", "0"]) == 5


@pytest.mark.slow
def test_a_store_with_boxes_missing_is_read_as_it_stands(tmp_path):
    def trial(rate, seed):
        start = jnp.ones(2) + seed
        return gdjax.Run(lambda x: jnp.sum(x**2), start, gdjax.gradient_descent(rate), stop=None, max_steps=3)

    store = tmp_path / "runs.zarr"
    axes = {"rate": [0.1, 0.2, 0.3, 0.4], "seed": [0.0, 1.0]}
    whole = gdjax.sweep(trial, axes, chunk=2, store=store, progress=False).load()
    (store / "manifest" / "record" / "2.0").unlink()
    for name in whole.data_vars:
        (store / name / "2.0").unlink()
    _, page = written(store, tmp_path)
    assert "2 not finished" in " ".join(" ".join(page.words).split())
    assert [row[1] for row in page.rows[1:5]] == ["0.4", "0.2", "0.1", "0.3"]
    assert page.rows[4][2:] == ["-", "-", "-", "-", "0"]


def test_many_names_share_a_last_cell(tmp_path):
    runs = xr.Dataset(
        {"value": (("name", "seed"), np.ones((130, 2)))}, {"name": [f"n{i}" for i in range(130)]}
    )
    first = data_of(written(runs, tmp_path)[0])["maps"]["features"][0]
    assert (len(first["labels"]), first["labels"][-1], first["ordered"]) == (101, "30 others", False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"by": "valu"}, "no variable 'valu'; did you mean value"),
        ({"over": "sed"}, "no dimension 'sed'; did you mean seed"),
    ],
)
def test_mistakes_are_calledand_leave_no_page(options, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        report.write(sweep_like(), tmp_path / "report.html", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_paths_that_hold_no_sweep(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no store"):
        report.write(tmp_path / "none.zarr", tmp_path / "report.html")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="is no store of a sweep"):
        report.write(tmp_path / "empty", tmp_path / "report.html")
    with pytest.raises(TypeError, match="DataArray"):
        report.write(sweep_like().value, tmp_path / "report.html")


@pytest.mark.slow
def test_the_command(tmp_path):
    store, page = tmp_path / "runs.zarr", tmp_path / "new" / "page.html"
    sweep_like(steps=3).to_zarr(store, zarr_format=2)
    result = CliRunner().invoke(app, ["report", str(store), "-o", str(page)])
    assert result.exit_code == 0, result.output
    assert "The report is in" in result.output
    assert "<title>runs</title>" in page.read_text(encoding="utf-8")
    for arguments, words in (
        (["--by", "valu"], "did you mean value"),
        (["-o", "page.pdf"], "--out must end in .html"),
        (["--over", "optimiser"], "did you mean optimizer"),
    ):
        result = CliRunner().invoke(app, ["report", str(store), *arguments])
        assert result.exit_code == 2
        assert words in " ".join(result.output.replace("│", " ").split())


# The page in a browser

PROBE = """
<script>
const probe = {};
const rowsNow = () => [...document.querySelectorAll("#settings tbody tr")].filter((row) => !row.hidden);
const column = (i) => rowsNow().map((row) => row.cells[i].textContent);
const press = (node, key) => node.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
const pick = (id, value) => { $(id).value = value; $(id).dispatchEvent(new Event("change")); };
const count = (selector) => document.querySelectorAll(selector).length;
probe.start = { first: column(1)[0], matches: $("matches").textContent };
probe.drawn = [count("#map .cell"), count("#map .lost-cell"), count("#curve .line")];
document.querySelector('th[data-name="learning_rate"] button').click();
probe.up = column(2);
document.querySelector('th[data-name="learning_rate"] button').click();
probe.down = column(2);
probe.sorted = document.querySelector('th[data-name="learning_rate"]').getAttribute("aria-sort");
document.querySelector('th[data-name="median"] button').click();
probe.medians = column(3);
$("filter").value = "adam learning_rate<0.01";
$("filter").dispatchEvent(new Event("input"));
probe.filtered = rowsNow().map((row) => [row.cells[1].textContent, row.cells[2].textContent]);
probe.address = location.hash;
press($("map"), "ArrowRight");
press($("map"), "ArrowRight");
press($("map"), "ArrowDown");
probe.map = $("map-read").textContent;
press($("map"), "End");
const last = document.querySelector("#map .lost-cell").getBoundingClientRect();
const middle = { clientX: last.x + last.width / 2, clientY: last.y + last.height / 2, bubbles: true };
$("map").dispatchEvent(new PointerEvent("pointermove", middle));
probe.hover = $("map-tip").textContent;
probe.tip = !$("map-tip").hidden;
pick("map-y", "2");
probe.swapped = count("#map .cell");
pick("map-x", "2");
probe.apart = [$("map-x").value, $("map-y").value];
press($("curve"), "End");
probe.curve = $("curve-read").textContent;
$("curve-none").click();
probe.none = count("#curve .line");
document.querySelector('#settings input[type="checkbox"]').click();
probe.one = count("#curve .line");
probe.legend = $("curve-legend").textContent;
$("curve-shown").click();
probe.table = [...document.querySelectorAll("#curve-legend li")].map((item) => item.textContent);
probe.wide = document.documentElement.scrollWidth <= window.innerWidth;
const called = (each) => each.textContent.trim() || each.labels?.length || each.getAttribute("aria-label");
probe.unnamed = [...document.querySelectorAll("button,select,input")].filter((each) => !called(each)).length;
probe.width = window.innerWidth;
const told = document.createElement("pre");
told.id = "probe";
told.textContent = JSON.stringify(probe);
document.body.append(told);
</script>
"""


def browse(page, *options):
    """The page's elements after its scripts have run, and what the console said."""
    home = page.parent / "profile"
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-dev-shm-usage", f"--user-data-dir={home}", "--enable-logging=stderr",
        "--virtual-time-budget=3000", *options,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")


@needs_chromium
def test_the_scripts_run_under_the_policy_and_follow_the_address(tmp_path):
    page = report.write(sweep_like(optimizers=("sgd", EVIL)), tmp_path / "report.html", title=EVIL)
    address = (
        page.as_uri() + "#sort=learning_rate&order=descending&filter=sgd&across=seed&up=optimizer&curves=1,3"
    )
    shown, console = browse(page, "--dump-dom", address)
    assert not console
    assert re.search(r'data-name="learning_rate"[^>]*aria-sort="descending"', shown)
    assert re.search(r'id="matches"[^>]*>9 of 18 settings<', shown)
    assert 'aria-label="Map of value over seed and optimizer"' in shown
    assert shown.count('<path d="M') >= 2
    assert shown.count('class="line s') == 4  # two lines, and two in the legend
    table = shown.split("<tbody>")[1].split("</tbody>")[0]
    rates = re.findall(r'<td>(?:sgd)</td><td class="n" data-v="([^"]+)"', table)
    assert list(map(float, rates)) == sorted(map(float, rates), reverse=True)
    assert "onerror=alert(1)&gt;" in shown
    assert "<img" not in shown


@needs_chromium
def test_sorting_filtering_keys_and_hover(tmp_path):
    runs = sweep_like()
    page = report.write(runs, tmp_path / "report.html")
    text = page.read_text(encoding="utf-8")
    free = re.sub(r"<meta http-equiv[^>]*>", "", text).replace("</body>", PROBE + "</body>")
    page.write_text(free, encoding="utf-8")
    shown, console = browse(page, "--window-size=390,800", "--dump-dom", page.as_uri())
    assert not console
    probe = json.loads(
        Reader("<pre>" + shown.split('<pre id="probe">')[1].split("</pre>")[0] + "</pre>").words[0]
    )
    first = sweeps.rank(runs).optimizer[1]
    assert probe["start"] == {"first": first, "matches": "18 settings"}
    assert probe["drawn"] == [18, 1, 6]
    up = list(map(float, probe["up"]))
    assert up == sorted(up)
    assert list(map(float, probe["down"])) == up[::-1]
    assert probe["sorted"] == "descending"
    assert probe["medians"][-1] == "∞"
    medians = list(map(float, probe["medians"][:-1]))
    assert medians == sorted(medians)
    expected = [f"{rate:.4g}" for rate in runs.learning_rate.values if rate < 0.01]
    assert sorted(float(rate) for _, rate in probe["filtered"]) == list(map(float, expected))
    assert {name for name, _ in probe["filtered"]} == {"adam"}
    assert "filter=adam+learning_rate%3C0.01" in probe["address"]
    assert "sort=median" in probe["address"]
    middle = float(runs.value.sel(optimizer="adam").isel(learning_rate=1).median())
    assert probe["map"].startswith("learning rate 0.002371, optimizer adam; median value ")
    shown = re.search(r"median value ([\d.]+)", probe["map"])
    assert shown is not None
    assert float(shown[1]) == pytest.approx(middle, rel=1e-3)
    assert probe["map"].endswith("5 max steps")
    assert probe["tip"]
    assert probe["hover"] == "learning rate 1, optimizer sgd\nno run that did not fail\n5 nonfinite"
    assert probe["swapped"] == 45
    assert probe["apart"] == ["2", "0"]
    final = float(sweeps.best(runs, over="seed").loss.isel(step=-1).median())
    assert probe["curve"].startswith(f"step 39; optimizer {first}, learning rate")
    shown = re.search(r": ([\d.]+) \(", probe["curve"])
    assert shown is not None
    assert float(shown[1]) == pytest.approx(final, rel=1e-3)
    assert (probe["none"], probe["one"]) == (0, 1)
    assert probe["legend"].startswith("optimizer ")
    assert len(probe["table"]) == len(expected)
    assert all("adam" in line for line in probe["table"])
    assert probe["wide"]
    assert probe["unnamed"] == 0


def accuracies():
    runs = sweep_like()
    return runs.assign(accuracy=1 / (1 + runs.value), loss=1 / (1 + runs.loss))


@pytest.mark.slow
def test_more_may_be_better(tmp_path):
    runs = accuracies()
    text, page = written(runs, tmp_path, by="accuracy", maximize=True)
    ranked = sweeps.rank(runs, by="accuracy", maximize=True)
    rows = page.rows[1:19]
    assert [row[1] for row in rows] == ranked.optimizer.tolist()
    assert [row[3] for row in rows[:-1]] == [f"{median:.5g}" for median in ranked["median"][:-1]]
    assert rows[-1][3:6] == ["-∞"] * 3
    words = " ".join(" ".join(page.words).split())
    assert "the highest first; runs that failed count as -∞" in words
    assert "by='accuracy', over='seed', maximize=True" in words
    found = data_of(text)["maps"]
    assert found["extreme"] == "highest"
    cells = found["cells"]["0,1"]["accuracy"]
    assert all(top >= middle for top, middle in zip(cells["highest"], cells["median"], strict=True) if top)
    runs.drop_vars("loss").to_zarr(tmp_path / "runs.zarr", zarr_format=2)
    out = tmp_path / "cli.html"
    arguments = ["report", str(tmp_path / "runs.zarr"), "-o", str(out), "--by", "accuracy", "--maximize"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "the highest first" in out.read_text(encoding="utf-8")


def test_a_page_of_no_time_says_nothing_of_it(tmp_path):
    runs = sweep_like()
    _, page = written(runs.assign_attrs(wall_seconds=2.0), tmp_path)
    assert "wall time" in page.words
    del runs.attrs["wall_seconds"], runs.attrs["compile_seconds"]
    _, page = written(runs, tmp_path)
    assert "wall time" not in page.words


@needs_chromium
def test_colours_of_the_page_keep_most_cells_apart(tmp_path):
    runs = sweep_like(optimizers=("sgd", "an optimizer with all of its settings spelled out at length"))
    runs["value"][1, 8] = 2e29
    runs["shifted"] = np.log(runs.value)
    page = report.write(runs, tmp_path / "report.html")
    for variable in ("value", "shifted"):
        shown, console = browse(page, "--dump-dom", page.as_uri() + f"#variable={variable}")
        assert not console
        assert shown.count('class="beyond"') == 1
        fills = re.findall(r'height="[\d.]+" fill="(rgb[^"]+)" class="cell"', shown)
        assert len(set(fills)) >= 12
        assert ">▲: above the colours; " in shown
        assert ">≥ " in shown
        assert (re.search(r'id="map-log"[^>]*disabled', shown) is not None) == (variable == "shifted")
    assert re.search(r">an optimizer[^<]*…</text>", shown)
