r"""Learning problems on real data that ships with the package.

Features are standardized with the mean and deviation of the training examples; a fifth of the examples
is held out, and each problem's ``metrics`` look at those. The objectives are made by
`gdjax.objectives.supervised`: on every batch they are a `Composite`, so Gauss-Newton and Fisher
products apply.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from gdjax.objectives import supervised
from gdjax.objectives.distributions import Family, bernoulli, categorical
from gdjax.problems import datasets
from gdjax.problems.problem import Optimum, Problem
from gdjax.types import Params, Scalar, ScalarLike

__all__ = ["logistic_regression", "mlp", "ridge", "softmax_regression"]


def _linear(params: Params, features: jax.Array) -> jax.Array:
    outputs = jnp.dot(features, params["weights"])
    return outputs + jnp.broadcast_to(params["bias"], outputs.shape)


def _network(activation: Callable, params: Params, features: jax.Array) -> jax.Array:
    for layer in params[:-1]:
        features = activation(_linear(layer, features))
    return _linear(params[-1], features)


def _decay(weight_decay: Any, params: Params) -> Scalar:
    layers = params if isinstance(params, tuple) else (params,)
    return 0.5 * weight_decay * sum(jnp.sum(jnp.square(layer["weights"])) for layer in layers)


def _sign_labels(logits: jax.Array) -> jax.Array:
    return logits > 0


def _likeliest_labels(logits: jax.Array) -> jax.Array:
    return jnp.argmax(logits, axis=-1)


def _accuracy(model: Callable, decide: Callable, data: datasets.Dataset, params: Params) -> Scalar:
    right = decide(model(params, data.features)) == data.targets
    return jnp.mean(right, dtype=jnp.float32)


def _test_loss(model: Callable, loss: Callable, data: datasets.Dataset, params: Params) -> Scalar:
    return jnp.mean(loss(model(params, data.features), data.targets))


def _as_arrays(data: datasets.Dataset) -> datasets.Dataset:
    return jax.tree.map(jnp.asarray, data)


def _classifier(name, data, model, family: Family, decide, start, batch_size, weight_decay, tags) -> Problem:
    train, test = data
    test = _as_arrays(test)
    return Problem(
        name=name,
        objective=supervised(model, family.loss, train, batch_size, penalty=Partial(_decay, weight_decay)),
        start=start,
        tags=frozenset({"data", "learning"} | tags),
        metrics={
            "test_accuracy": Partial(_accuracy, Partial(model), Partial(decide), test),
            "test_loss": Partial(_test_loss, Partial(model), Partial(family.loss), test),
        },
    )


def _zeros_or_small(inputs: int, outputs: tuple[int, ...]) -> Callable[..., Params]:
    def start(key: jax.Array | None = None) -> Params:
        weights = jnp.zeros((inputs, *outputs))
        if key is not None:
            weights = 0.1 * jax.random.normal(key, weights.shape, weights.dtype)
        return {"bias": jnp.zeros(outputs), "weights": weights}

    return start


def logistic_regression(batch_size: int | None = None, *, weight_decay: ScalarLike = 1e-3) -> Problem:
    r"""Logistic regression: benign or malignant from 30 measurements (breast_cancer, 455 examples).

    .. math:: f(w, b) = \frac1n \sum_i \log(1 + e^{o_i}) - y_i o_i + \tfrac{\lambda}{2} \|w\|^2,
       \qquad o_i = w^T x_i + b

    Strictly convex. Starts at zero, with a key at normal weights of deviation 0.1.

    Args:
      batch_size: examples a step; None takes all.
      weight_decay: :math:`\lambda \ge 0`; may be a tracer. At 0 the data can be all but separated, and
        the minimizer lies far out.

    Returns:
      A `Problem` with params ``{"bias": (), "weights": (30,)}``.

    Reference:
      Hastie, Tibshirani, Friedman, The Elements of Statistical Learning, 2nd ed., Section 4.4.

    Example:
      >>> import gdjax
      >>> problem = gdjax.problems.logistic_regression()
      >>> round(float(problem.value_fn(problem.start())), 4)
      0.6931
    """
    data = datasets.standardized(datasets.split(datasets.breast_cancer()))
    start = _zeros_or_small(30, ())
    return _classifier(
        "logistic_regression",
        data,
        _linear,
        bernoulli,
        _sign_labels,
        start,
        batch_size,
        weight_decay,
        {"convex", "smooth"},
    )


def softmax_regression(batch_size: int | None = None, *, weight_decay: ScalarLike = 1e-3) -> Problem:
    r"""Multinomial logistic regression on handwritten digits (1438 examples, 64 inputs, 10 classes).

    .. math:: f(W, b) = \frac1n \sum_i \log \sum_c e^{o_{ic}} - o_{i y_i} + \tfrac{\lambda}{2} \|W\|^2,
       \qquad o_i = W^T x_i + b

    Convex. Starts at zero, with a key at normal weights of deviation 0.1.

    Args:
      batch_size: examples a step; None takes all.
      weight_decay: :math:`\lambda \ge 0`; may be a tracer.

    Returns:
      A `Problem` with params ``{"bias": (10,), "weights": (64, 10)}``.

    Reference:
      Bishop, Pattern Recognition and Machine Learning, 2006, Section 4.3.4.

    Example:
      >>> import gdjax
      >>> problem = gdjax.problems.softmax_regression(batch_size=64)
      >>> round(float(problem.metrics["test_loss"](problem.start())), 4)
      2.3026
    """
    data = datasets.standardized(datasets.split(datasets.digits()))
    start = _zeros_or_small(64, (10,))
    return _classifier(
        "softmax_regression",
        data,
        _linear,
        categorical,
        _likeliest_labels,
        start,
        batch_size,
        weight_decay,
        {"convex", "smooth"},
    )


def mlp(
    batch_size: int | None = None,
    *,
    hidden: Sequence[int] = (32,),
    activation: Callable[[jax.Array], jax.Array] = jax.nn.relu,
    weight_decay: ScalarLike = 0.0,
) -> Problem:
    r"""A fully connected network on handwritten digits (1438 examples, 64 inputs, 10 classes).

    Cross-entropy of the logits, weight decay on the weights. Biases start at zero, weights at
    :math:`\mathcal N(0, 2 / \text{inputs})`, drawn with the key (key 0 without one).

    Args:
      batch_size: examples a step; None takes all.
      hidden: widths of the hidden layers.
      activation: elementwise, between the layers.
      weight_decay: :math:`\lambda \ge 0`; may be a tracer.

    Returns:
      A `Problem` whose params are a tuple of ``{"bias", "weights"}``, one for each layer.

    Reference:
      He, Zhang, Ren, Sun, Delving deep into rectifiers, ICCV 2015, Eq. 10 (the initialization).

    Example:
      >>> import gdjax, jax
      >>> problem = gdjax.problems.mlp(batch_size=64)
      >>> [layer["weights"].shape for layer in problem.start(jax.random.key(1))]
      [(64, 32), (32, 10)]
    """
    data = datasets.standardized(datasets.split(datasets.digits()))
    widths = (64, *hidden, 10)

    def start(key: jax.Array | None = None) -> Params:
        shapes = list(pairwise(widths))
        ends = np.cumsum([inputs * outputs for inputs, outputs in shapes]).tolist()
        # One draw for all layers: a draw of each matrix compiles many times longer.
        draw = jax.random.normal(jax.random.key(0) if key is None else key, (ends[-1],))
        layers = []
        for shape, part in zip(shapes, jnp.split(draw, ends[:-1]), strict=True):
            weights = part.reshape(shape) * (2.0 / shape[0]) ** 0.5
            layers.append({"bias": jnp.zeros(shape[1]), "weights": weights})
        return tuple(layers)

    model = Partial(_network, Partial(activation))
    tags = {"network"}
    return _classifier(
        "mlp", data, model, categorical, _likeliest_labels, start, batch_size, weight_decay, tags
    )


def _half_square(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    return 0.5 * jnp.square(outputs - targets)


def _ridge_optimum(train: datasets.Dataset, weight_decay: float) -> Optimum:
    """The normal equations in float64, the bias not penalized."""
    features, targets = train.features.astype(np.float64), train.targets.astype(np.float64)
    n, columns = features.shape
    design = np.concatenate([features, np.ones((n, 1))], axis=1)
    decay = np.diag([weight_decay] * columns + [0.0])
    solution = np.linalg.solve(design.T @ design / n + decay, design.T @ targets / n)
    weights, bias = solution[:-1], solution[-1]
    value = 0.5 * np.mean((design @ solution - targets) ** 2) + 0.5 * weight_decay * weights @ weights
    return Optimum({"bias": np.asarray(bias), "weights": weights}, float(value))


def ridge(batch_size: int | None = None, *, weight_decay: float = 0.1) -> Problem:
    r"""Ridge regression: the progression of diabetes from 10 measurements (354 examples).

    .. math:: f(w, b) = \frac{1}{2n} \sum_i (w^T x_i + b - y_i)^2 + \tfrac{\lambda}{2} \|w\|^2

    The optimum is known in closed form. Starts at zero, with a key at normal weights of deviation 0.1.

    Args:
      batch_size: examples a step; None takes all.
      weight_decay: :math:`\lambda \ge 0`, a Python number.

    Returns:
      A `Problem` with params ``{"bias": (), "weights": (10,)}``.

    Reference:
      Hoerl, Kennard, Ridge regression: biased estimation for nonorthogonal problems, Technometrics
      12(1), 1970.

    Example:
      >>> import gdjax
      >>> round(float(gdjax.problems.ridge().optimum.params["bias"]))
      151
    """
    train, test = datasets.standardized(datasets.split(datasets.diabetes()))
    test = _as_arrays(test)
    return Problem(
        name="ridge",
        objective=supervised(_linear, _half_square, train, batch_size, penalty=Partial(_decay, weight_decay)),
        start=_zeros_or_small(10, ()),
        optima=(_ridge_optimum(train, weight_decay),),
        tags=frozenset({"data", "learning", "convex", "smooth"}),
        metrics={"test_loss": Partial(_test_loss, Partial(_linear), Partial(_half_square), test)},
    )
