"""Axes of sweeps: whatever values came as, the same labels; names that clash, said before anything runs."""

import array
import collections
import dataclasses
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from jax.tree_util import Partial

import gdjax

RATES = [0.001, 0.01, 0.1]


def trial(rate, seed=0):
    return gdjax.Run(
        lambda x: jnp.sum(x**2), jnp.ones(2) + seed, gdjax.gradient_descent(rate), stop=None, max_steps=3
    )


def quick(rate):
    return 2 * rate


class Tensor:
    """What torch's tensors do: no NumPy before the gradient and the device are left."""

    def __init__(self, values, free=False):
        self.values, self.free = values, free

    def detach(self):
        return Tensor(self.values, True)

    def cpu(self):
        return self

    def numpy(self):
        if not self.free:
            raise RuntimeError("cannot call numpy() on a tensor that requires grad")
        return np.asarray(self.values)


class Readable:
    def __array__(self, dtype=None, copy=None):
        return np.array(RATES)


FORMS = {
    "list": RATES,
    "tuple": tuple(RATES),
    "float64": np.array(RATES),
    "float32": np.float32(RATES),
    "long double": np.array(RATES, np.longdouble),
    "jax": jnp.array(RATES),
    "list of scalars": [0.001, jnp.float32(0.01), np.float64(0.1)],
    "series": pd.Series(RATES, index=[3, 1, 2]),
    "index": pd.Index(RATES),
    "nullable": pd.array(RATES, dtype="Float64"),
    "objects": pd.Series(RATES, dtype=object),
    "DataArray": xr.DataArray(RATES, dims="other"),
    "tensor": Tensor(RATES),
    "list of tensors": [Tensor(rate) for rate in RATES],
    "__array__": Readable(),
    "array": array.array("d", RATES),
    "deque": collections.deque(RATES),
    "dict values": dict(zip("abc", RATES, strict=True)).values(),
    "dict keys": dict.fromkeys(RATES).keys(),
}


@pytest.fixture(scope="module")
def plain():
    return gdjax.sweep(quick, {"rate": RATES}, progress=False)


@pytest.mark.parametrize("form", [*FORMS, "generator", "map"])
def test_values_of_any_form_align_and_are_found(plain, form):
    made = {"generator": (rate for rate in RATES), "map": map(float, RATES)}
    found = gdjax.sweep(quick, {"rate": FORMS[form] if form in FORMS else made[form]}, progress=False)
    assert found.rate.dtype == np.float32
    xr.testing.assert_equal(found, plain)
    assert (found.result - plain.result).sizes == {"rate": 3}
    for rate in RATES:
        assert float(found.result.sel(rate=rate)) == np.float32(2) * np.float32(rate)
    assert found.sel(rate=slice(0.01, 0.1)).sizes["rate"] == 2


def test_labels_carry_the_type_that_the_trial_sees_in_float64(x64):
    found = gdjax.sweep(quick, {"rate": RATES}, progress=False)
    assert found.rate.dtype == found.result.dtype == np.float64
    short = gdjax.sweep(quick, {"rate": np.float32(RATES)}, progress=False)
    assert short.rate.dtype == short.result.dtype == np.float32
    for each in (found, short):
        assert float(each.result.sel(rate=0.01)) == pytest.approx(0.02)
    counted = gdjax.sweep(quick, {"rate": [1, 2**40]}, progress=False)
    assert counted.rate.values.tolist() == [1, 2**40]


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_labels_of_half_precision(dtype):
    found = gdjax.sweep(quick, {"rate": jnp.array([*RATES, jnp.inf, 3.0], dtype)}, progress=False)
    assert found.rate.dtype == np.float32
    assert found.result.dtype == dtype
    for rate in (*RATES, 3.0):
        assert float(found.result.sel(rate=rate)) == pytest.approx(2 * rate, rel=0.01)
    np.testing.assert_array_equal(found.rate.values.astype(dtype) * 2, found.result.values)


def test_integers_and_booleans(plain):
    values = {"n": range(3), "flag": [True, False]}
    found = gdjax.sweep(lambda n, flag: jnp.where(flag, n, -n), values, progress=False)
    other = gdjax.sweep(
        lambda n, flag: jnp.where(flag, n, -n), {"n": jnp.arange(3), "flag": np.array([True, False])}
    )
    xr.testing.assert_equal(found, other)
    assert found.n.dtype == np.int32
    assert int(found.result.sel(n=2, flag=False)) == -2


def test_stores_and_their_labels(tmp_path):
    where = tmp_path / "runs.zarr"
    first = gdjax.sweep(trial, {"rate": RATES, "seed": range(2)}, store=where, chunk=2, progress=False)
    again = gdjax.sweep(trial, {"rate": jnp.array(RATES), "seed": np.arange(2)}, store=where, progress=False)
    memory = gdjax.sweep(trial, {"rate": np.array(RATES), "seed": [0, 1]}, progress=False)
    for found in (first, again):
        assert found.rate.dtype == np.float32
        np.testing.assert_array_equal((found.value - memory.value).values, 0)
        assert found.value.sel(rate=0.01, seed=1) == memory.value.sel(rate=0.01, seed=1)


TABLES = {
    "dict of arrays": {"rate": np.array(RATES), "depth": np.arange(3)},
    "dict of plain sequences": {"rate": tuple(RATES), "depth": range(3)},
    "table": pd.DataFrame({"rate": RATES, "depth": [0, 1, 2]}, index=[5, 6, 7]),
    "Dataset": xr.Dataset({"rate": ("i", RATES), "depth": ("i", [0, 1, 2])}),
    "list of points": [{"rate": rate, "depth": i} for i, rate in enumerate(RATES)],
}


@pytest.mark.parametrize("form", TABLES)
def test_tables_of_points(form):
    found = gdjax.sweep(
        lambda sample: sample["rate"] * sample["depth"], {"sample": TABLES[form]}, progress=False
    )
    np.testing.assert_array_equal(found.rate, np.float32(RATES))
    np.testing.assert_allclose(found.result, [0, 0.01, 0.2], rtol=1e-6)
    assert found.depth.dims == found.rate.dims == ("sample",)
    assert list(found.coords) == ["sample", "rate", "depth"]  # in the order of the table, not of the names


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Linear:
    w: jax.Array

    def __call__(self, x):
        return self.w @ x


def linear(seed):
    return Linear(jax.random.normal(jax.random.key(seed), (2, 3)))


@pytest.mark.slow
def test_callable_pytrees_are_axes():
    def fitted(model):
        return gdjax.Run(
            lambda m: jnp.sum((m(jnp.ones(3)) - 1) ** 2),
            model,
            gdjax.gradient_descent(0.1),
            stop=None,
            max_steps=5,
        )

    stack = jax.vmap(linear)(jnp.arange(4))
    expected = jax.vmap(lambda model: fitted(model).solve().value)(stack)
    found = gdjax.sweep(fitted, {"model": stack}, progress=False)
    assert found.model.values.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(found.value, expected, rtol=1e-5)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Network:
    layer: Linear
    activation: Callable

    def __call__(self, x):
        return jnp.sum(self.activation(self.layer(x)))


def test_what_is_no_array_in_a_network_stays_as_it_is():
    """An activation is a leaf of the tree, as in equinox's modules."""
    models = [Network(linear(seed), jnp.tanh) for seed in range(4)]
    stack = Network(Linear(jnp.stack([model.layer.w for model in models])), jnp.tanh)
    expected = [model(jnp.ones(3)) for model in models]
    for values in (models, stack):
        found = gdjax.sweep(
            lambda model, scale: scale * model(jnp.ones(3)),
            {"model": values, "scale": [1.0, 2.0]},
            chunk=3,
            progress=False,
        )
        np.testing.assert_allclose(found.result.sel(scale=1), expected, rtol=1e-5)
    with pytest.raises(TypeError, match="did you mean rate=gdjax"):
        gdjax.sweep(quick, {"rate": [models[0], Network(linear(0), jax.nn.relu)]}, progress=False)


def test_bound_functions_are_axes():
    lines = Partial(lambda slope, x: slope * x, jnp.arange(3.0))
    assert gdjax.sweep(lambda f: f(2.0), {"f": lines}, progress=False).result.values.tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({0.1, 0.2}, TypeError, "is a set, which has no order"),
        (pd.Series(["a", "b"]), TypeError, "holds strings"),
        (pd.date_range("2020", periods=2), TypeError, "holds dates"),
        ([None, 1.0], TypeError, r"holds None; did you mean rate=gdjax\.static"),
        ([{"a": 1.0}, {"b": 2.0}], ValueError, "unequal structures"),
        (xr.DataArray(0.1), ValueError, r"single number; write \[0\.1\]"),
        ({"a": np.ones(2), "b": 3.0}, ValueError, r"single number at \['b'\]; write \[3\.0\]"),
        (pd.Series([], dtype=float), ValueError, "is empty"),
        (Tensor([[1.0], [1.0, 2.0]]), TypeError, "holds a Tensor that NumPy cannot read"),
        ([1e300, 1.0], ValueError, r"holds 1e\+300 at its top, which float32 cannot; set jax_enable_x64"),
        (np.array([1.0, 1e-60]), ValueError, "holds 1e-60"),
        ([0, 2**40], ValueError, "holds 1099511627776 at its top, which int32 cannot"),
        ({"a": np.array([2**31])}, ValueError, r"holds 2147483648 at \['a'\]"),
        (gdjax.sweeps.uniform(0.0, 1.0), TypeError, "is a range, not values; draw some"),
        (np.zeros(2, [("a", float)]), TypeError, "holds values of type"),
        ([linear, linear], TypeError, r"did you mean rate=gdjax\.static"),
    ],
)
def test_values_that_are_none(values, error, message):
    with pytest.raises(error, match=f"sweep: axis 'rate' .*{message}"):
        gdjax.sweep(quick, {"rate": values}, progress=False)


def test_an_endless_iterator(monkeypatch):
    monkeypatch.setattr("gdjax.sweeps.values.LONGEST", 100)
    with pytest.raises(ValueError, match="iterator of more than 100 values"):
        gdjax.sweep(quick, {"rate": itertools.repeat(1.0)})


# Names


def named(name, **options):
    """A trial whose only argument is called so."""
    space = {"gdjax": gdjax, "jnp": jnp, "options": options}
    run = f"gdjax.Run(lambda x: jnp.sum(x**2), jnp.ones(2), gdjax.adam({name}), stop=None, max_steps=3, **options)"
    return eval(f"lambda {name}: {run}", space)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("value", "a result of every run"),
        ("residual", "a result of every run"),
        ("steps", "a result of every run"),
        ("status", "a result of every run"),
        ("step", "the dimension of what is recorded"),
        ("loss", "what the trial records"),
        ("loss_0", "a dimension of 'loss'"),
        ("params", "the final params"),
        ("params_0", "a dimension of 'params'"),
    ],
)
@pytest.mark.parametrize("stored", [False, True])
def test_names_that_clash_are_said_before_anything_runs(name, what, stored, tmp_path):
    where, seen = tmp_path / "runs.zarr" if stored else None, []
    one = named(name, record=lambda step: {"loss": step.params})
    with pytest.raises(ValueError, match=f"sweep: axis '{name}' is called like {what}.*another name"):
        gdjax.sweep(one, {name: [0.1, 0.2]}, params=True, watch=seen.append, store=where, progress=False)
    assert not seen
    assert where is None or not where.exists()


def test_names_that_clash_in_static_axes_and_other_trials():
    with pytest.raises(ValueError, match="axis 'status' is called like a result of every run"):
        gdjax.sweep(named("status"), {"status": gdjax.static({"a": 0.1})}, progress=False)
    with pytest.raises(ValueError, match="axis 'a' is called like what the trial returns"):
        gdjax.sweep(lambda a: {"a": a}, {"a": [1.0]}, progress=False)
    with pytest.raises(ValueError, match="gives 'x_0' beside 'x', whose dimension is called so"):
        gdjax.sweep(lambda a: {"x": jnp.ones(2), "x_0": a}, {"a": [1.0]}, progress=False)


def test_names_that_do_not_clash():
    assert gdjax.sweep(lambda value: 2 * value, {"value": RATES}, progress=False).sizes == {"value": 3}
    assert gdjax.sweep(named("step"), {"step": RATES}, progress=False).value.dims == ("step",)
    found = gdjax.sweep(
        lambda sample, rate: {"loss": sample["loss"] * rate * jnp.ones(2), "step": sample["loss_0"]},
        {"sample": {"loss": [1.0], "loss_0": [2.0], "rate": [3.0]}, "rate": [0.5]},
        progress=False,
    )
    assert {"sample.loss", "sample.loss_0", "sample.rate"} <= set(found.coords)


def test_static_choices_that_differ_are_said_before_anything_runs(tmp_path):
    seen, where = [], tmp_path / "runs.zarr"
    for store in (None, where):
        with pytest.raises(ValueError, match="static choices return different variables or shapes"):
            gdjax.sweep(lambda n: jnp.zeros(n), {"n": gdjax.static([1, 2])}, watch=seen.append, store=store)
    assert not seen
    assert not where.exists()
