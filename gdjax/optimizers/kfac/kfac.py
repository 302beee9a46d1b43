r"""K-FAC: natural gradient whose Fisher matrix is a Kronecker product for each dense layer.

A layer :math:`z = \bar a \bar W`, with a one appended to its activations :math:`\bar a` for the bias, and the signals
:math:`g = \partial f / \partial z`, has the block :math:`E[\bar a \bar a^T \otimes g g^T]`, which is taken to be

.. math:: F_l \approx A_l \otimes G_l, \qquad A_l = E[\bar a \bar a^T], \quad G_l = E[g g^T],

so that its inverse costs those of two small matrices. The layers are found in the model's program, and the signals are
those of the metric of the outputs, by `gdjax.fisher_estimators`: of the model, and not of the labels.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import keystr, tree_leaves_with_path

from gdjax._internal import checks, control_flow, trees
from gdjax._internal.programs import dense_layers
from gdjax._internal.programs.dense_layers import Network
from gdjax.objectives import Composite, derivatives
from gdjax.objectives.derivatives import composite_of, gauss_newton, hessian
from gdjax.optimizers.blocks.damping import Levenberg, reduction_ratio, sound_damping
from gdjax.optimizers.kfac import kronecker
from gdjax.optimizers.kfac.fisher_estimators import Signals, exact
from gdjax.optimizers.kfac.kronecker import Held
from gdjax.types import Curvature, MatVec, Params, Scalar, ScalarLike, ScalarOrSchedule, Transformation

__all__ = ["KfacState", "kfac"]

_ALONE = 128
"""How many numbers outside of dense layers there may be: they have one matrix of their own, laid out."""


class _Settings(NamedTuple):
    learning_rate: ScalarOrSchedule | None
    damping: Levenberg | ScalarLike
    decay: ScalarLike
    curvature: Curvature
    signals: Signals
    interval: trees.Count


class KfacState(NamedTuple):
    """State of `kfac`.

    Attributes:
      count: updates made.
      damping: as it is now.
      factors: for each leaf that is a matrix, one factor for each of its axes, with room for a bias.
      inverses: theirs, damped, as in use.
      last: the last step, leaf by leaf; empty with a learning rate.
    """

    count: Scalar
    damping: Scalar
    factors: Held
    inverses: Held
    last: list[jax.Array]


def _leaves(tree: Params) -> list[jax.Array]:
    return [kronecker.wide(jnp.asarray(leaf)) for leaf in jax.tree.leaves(tree)]


def _check(network: Network, params: Params, outputs: Any) -> None:
    """Says which leaves no layer has, and where rows are not those of examples."""
    named = [(f"params{keystr(path)}", leaf) for path, leaf in tree_leaves_with_path(params)]
    if not trees.at_most(sum(named[i][1].size for i in network.others), _ALONE):
        list_of = "; ".join(
            f"{named[i][0]} of shape {named[i][1].shape}, used by {how}" for i, how in network.others.items()
        )
        raise TypeError(
            "kfac is for dense layers, whose matrix multiplies activations once, a bias added, and for up to "
            f"{_ALONE} numbers besides; not so here: {list_of}. Give them to another method: "
            'gdjax.partition({"dense": gdjax.kfac(), "others": gdjax.adam(1e-3)}, labels)'
        )
    shapes = [leaf.shape for leaf in jax.tree.leaves(outputs)]
    lengths = {shape[:1] for shape in shapes}
    for layer in network.layers:
        if len(lengths) > 1 or () in lengths or layer.size % shapes[0][0]:
            raise TypeError(
                f"kfac: the leading axis of the model's outputs must count the examples; {named[layer.weight][0]} "
                f"meets {layer.size} rows of activations, and the outputs have the shapes {shapes}"
            )


def _signs(count: int, dtype: Any) -> jax.Array:
    """Signs without a pattern, the same every time: the top bit of the count, mixed as MurmurHash3 does at its end."""
    bits = jax.lax.iota(jnp.uint32, count) + jnp.uint32(1)
    for factor in (0x85EBCA6B, 0xC2B2AE35):
        bits = (bits ^ (bits >> 15)) * jnp.uint32(factor)
    return jnp.where(bits >> 31 == 1, 1, -1).astype(dtype)


def _penalty_levels(composite: Composite, params: Params, network: Network) -> list[Any]:
    """The mean of the diagonal of the penalty's Hessian over each layer, by one product with signs."""
    if composite.penalty is None:
        return [0.0] * len(network.layers)
    vector, back = trees.flat(params)
    signs = back(_signs(vector.size, vector.dtype))
    bent = hessian(composite.penalty, params).product(signs)
    curvatures = [sign * curvature for sign, curvature in zip(_leaves(signs), _leaves(bent), strict=True)]
    return [jnp.maximum(jnp.mean(kronecker.joined(layer, curvatures)), 0) for layer in network.layers]


def _alone(network: Network, composite: Composite, curvature: Any, params: Params, grads, level) -> dict:
    """The direction of the leaves outside of layers, by the matrix of all of them."""
    if not network.others:
        return {}
    leaves, structure = jax.tree.flatten(params)

    def filled(function):
        def of_part(part):
            return function(jax.tree.unflatten(structure, [part.get(i, x) for i, x in enumerate(leaves)]))

        return function and of_part

    inner = Composite(filled(composite.model), composite.loss, filled(composite.penalty))
    part = {i: leaves[i] for i in network.others}
    right, back = trees.flat({i: grads[i] for i in part})
    matrix = curvature(inner, part).dense().astype(right.dtype)
    return back(kronecker.inverse(matrix, level) @ right)


def _inner(a: Any, b: Any) -> jax.Array:
    """Inner products between stacked trees, ``(k, l)``."""
    leaves = zip(_leaves(a), _leaves(b), strict=True)
    products = [x.reshape(x.shape[0], -1) @ y.reshape(y.shape[0], -1).T for x, y in leaves]
    return sum(products[1:], products[0])


def _curvatures(composite: Composite, metric: MatVec, params: Params, steps: Params) -> jax.Array:
    """The curvature of the model between steps, ``(k, k)``: a pass forward for each, none back."""
    tangents = jax.vmap(jax.linearize(composite.model, params)[1])(steps)
    curvatures = _inner(tangents, jax.vmap(metric)(tangents))
    if composite.penalty is not None:
        curvatures += _inner(steps, jax.vmap(hessian(composite.penalty, params).product)(steps))
    return curvatures


def _least(curvatures: jax.Array, slopes: jax.Array) -> jax.Array:
    r"""The minimizer of :math:`b^T w + \tfrac12 w^T Q w` over two weights; over the first where both are one line.

    Without positive curvature along the first step, that step as it is.
    """
    curved = jnp.diagonal(curvatures) > 0
    scales = jnp.where(curved, 1 / jnp.sqrt(jnp.where(curved, jnp.diagonal(curvatures), 1)), 0)
    cosine, right = curvatures[0, 1] * scales[0] * scales[1], slopes * scales
    rest = 1 - cosine**2
    apart = curved[1] & (rest > jnp.finfo(curvatures.dtype).eps ** 0.5)
    both = (cosine * right[::-1] - right) / jnp.where(apart, rest, 1)
    weights = jnp.where(apart, both, -right * jnp.array([1, 0], curvatures.dtype)) * scales
    return jnp.where(curved[0], weights, jnp.array([1, 0], curvatures.dtype))


def _same(outputs: Any) -> Any:
    return outputs


def _init(settings, params):
    damping = settings.damping
    leaves = _leaves(params)
    dtype = jnp.result_type(*leaves)
    held = kronecker.blank(leaves)
    first = damping.initial if isinstance(damping, Levenberg) else damping
    last = [jnp.zeros_like(leaf) for leaf in leaves] if settings.learning_rate is None else []
    return KfacState(jnp.int32(0), jnp.asarray(first, dtype), held, held, last)


def _factors(settings, state, composite, params, network, found, metric, level):
    """The Kronecker factors after a batch, and their inverses, renewed where it is their turn."""
    if not network.layers:
        return state.factors, state.inverses
    count = state.count
    pairs = kronecker.measured(network, found, settings.signals(composite, found.outputs, metric, count))
    # The mean until the decay is the longer memory: Martens and Grosse, section 5.
    keep = jnp.minimum(1 - 1 / (count + 1).astype(level.dtype), settings.decay)
    factors = kronecker.averaged(network, state.factors, pairs, keep)

    def invert():
        levels = [level + extra for extra in _penalty_levels(composite, params, network)]
        return kronecker.inverted(network, factors, state.inverses, levels)

    due = (count % settings.interval == 0) | (count < 3)
    return factors, control_flow.cond(due, invert, lambda: state.inverses)


def _weights(settings, count, curvatures, level, steps, slopes):
    """How far to go along each step: those that minimize the quadratic model, or the learning rate."""
    if settings.learning_rate is None:
        return _least(curvatures + level * _inner(steps, steps), slopes)
    rate = settings.learning_rate
    rate = rate(count) if callable(rate) else rate
    return jnp.asarray(rate, slopes.dtype)[None]


def _update(
    settings, updates, state, params: Any = None, *, value: Any = None, value_fn: Any = None, **extra
):
    del extra
    checks.require("kfac", params=params, value_fn=value_fn)
    learning_rate, damping, curvature = settings.learning_rate, settings.damping, settings.curvature
    composite = composite_of(value_fn, "kfac")
    structure, types = jax.tree.structure(params), [leaf.dtype for leaf in jax.tree.leaves(params)]
    grads, level = _leaves(updates), state.damping
    level = level if isinstance(damping, Levenberg) else jnp.asarray(damping, level.dtype)

    def typed(leaves):
        cast = [leaf.astype(dtype) for leaf, dtype in zip(leaves, types, strict=True)]
        return jax.tree.unflatten(structure, cast)

    # The layers and the metric of the outputs; the factors that they make.
    network = dense_layers.find(composite.model, params)
    found = network.forward(params)
    _check(network, params, found.outputs)
    metric = curvature(Composite(_same, composite.loss), found.outputs).product
    factors, inverses = _factors(settings, state, composite, params, network, found, metric, level)

    # The step, and the one before beside it.
    direction = kronecker.preconditioned(network, inverses, grads)
    direction |= _alone(network, composite, curvature, params, grads, level)
    steps = [-direction[i][None] for i in range(len(grads))]
    if learning_rate is None:
        steps = [jnp.concatenate([new, old[None]]) for new, old in zip(steps, state.last, strict=True)]

    # The quadratic model over them, and the move that it makes.
    slopes = _inner(steps, [g[None] for g in grads])[:, 0]
    curvatures = jnp.zeros((), level.dtype)
    if learning_rate is None or isinstance(damping, Levenberg):
        curvatures = _curvatures(composite, metric, params, jax.vmap(typed)(steps))
    weights = _weights(settings, state.count, curvatures, level, steps, slopes)
    move = [jnp.tensordot(weights, step, 1) for step in steps]

    # The damping, by how well the model has predicted.
    if isinstance(damping, Levenberg):
        checks.require("kfac with Levenberg damping", value=value)
        change = value_fn(optax.apply_updates(params, typed(move))) - value
        predicted = jnp.dot(weights, slopes) + 0.5 * jnp.dot(weights, curvatures @ weights)
        level = damping.after(level, reduction_ratio(change, predicted))
    last = move if learning_rate is None else []
    new = KfacState(state.count + 1, level, factors, inverses, last)
    return typed(move), trees.keep_types(new, state)


def kfac(
    learning_rate: ScalarOrSchedule | None = None,
    damping: ScalarLike | Levenberg = 0.1,
    decay: ScalarLike = 0.95,
    *,
    curvature: Curvature = gauss_newton,
    signals: Signals = exact,
    interval: int = 1,
) -> Transformation:
    r"""K-FAC: natural gradient with a Kronecker-factored matrix for each dense layer.

    With the gradient :math:`\nabla_l` of a layer as a matrix, the bias its last row, the direction is

    .. math::
       \Delta_l = -(A_l + \pi_l \sqrt{\lambda + \kappa_l}\, I)^{-1} \; \nabla_l \;
       (G_l + \tfrac{1}{\pi_l} \sqrt{\lambda + \kappa_l}\, I)^{-1}, \qquad
       \pi_l^2 = \frac{\operatorname{tr}(A_l) / d_A}{\operatorname{tr}(G_l) / d_G},

    where :math:`A_l, G_l` are averages over the updates so far, in update k the past with the weight
    :math:`\min(1 - 1/k, \beta)`, and :math:`\kappa_l` is the mean curvature of the objective's penalty. Without a
    learning rate the step is :math:`\delta = \alpha \Delta + \mu \delta_0`, with the step before, :math:`\delta_0`, and
    the weights that minimize

    .. math:: \nabla^T \delta + \tfrac12 \delta^T (F + \lambda I)\, \delta

    with F whole and exact on this batch, the penalty's Hessian in it. With one it is :math:`\eta \Delta`, and
    ``optax.trace(0.9)`` behind it adds momentum. It takes every step that it proposes.

    The layers are read off the model's program. Up to 128 numbers outside of them (a scale, a bias that
    is not added to a product) have the matrix of all of them, laid out; more go to another method, by
    `gdjax.partition`.

    Cost a step: a pass back for each column of the signals, two forward for the weights, products with the
    factors; every ``interval`` updates two matrices a layer are inverted, :math:`O(d^3)`. Memory: two pairs of
    them a layer. Choose it for networks of dense layers on mini-batches of some hundreds.

    Args:
      learning_rate: :math:`\eta`, a number or a schedule; None for the best step by the quadratic model.
      damping: :math:`\lambda \ge 0`, on the scale of the loss's curvature; or `gdjax.damping.Levenberg` to let it
        adapt, at one more evaluation an update, of the value on the same batch. Noisy batches want more.
      decay: :math:`\beta` in [0, 1), the most that the averages keep.
      curvature: of `gdjax.derivatives`, taken at the model's outputs: the Gauss-Newton matrix, which is the Fisher
        matrix for exponential families in natural parameters; ``fisher(family)`` for others.
      signals: `gdjax.fisher_estimators.exact`, ``sampled(key)`` or `empirical`: how the metric of the outputs becomes
        vectors to propagate back.
      interval: updates between two inversions after the first three, a Python integer of at least 1.

    Raises:
      TypeError: in ``update``, without ``value_fn``; with one that is no `Composite`; with leaves that no dense layer
        has; with outputs whose leading axis does not count examples.

    Reference:
      Martens, Grosse, Optimizing neural networks with Kronecker-factored approximate curvature, ICML 2015
      (arXiv:1503.05671), sections 3 (factors), 5 (averages), 6.3 (damping), 6.4 (the length of the step), 7
      (momentum); of section 6 what is left out is the search for a damping of the factors other than
      :math:`\lambda`. Positions that share a layer: Grosse, Martens, ICML 2016, section 3.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> x = jnp.linspace(-1.0, 1.0, 20)[:, None]
      >>> fit = gdjax.least_squares(lambda p: jnp.tanh(x @ p["w"] + p["b"][None]) @ p["v"] - jnp.sin(2 * x))
      >>> start = {"b": jnp.zeros(3), "v": jnp.ones((3, 1)), "w": jnp.array([[0.5, 1.0, 1.5]])}
      >>> run = gdjax.minimize(fit, start, gdjax.kfac(damping=0.01), stop=None, max_steps=30)
      >>> bool(run.value < 0.002 * fit(start))
      True
    """
    checks.integer("kfac", 1, interval=interval)
    if learning_rate is not None:
        checks.rate("kfac", learning_rate=learning_rate)
    sound_damping("kfac", damping)
    checks.concrete("kfac", low=0, below=1, decay=decay)
    derivatives.checked("kfac", curvature)
    checks.function(
        "kfac", "objective, outputs, metric, count", "such as gdjax.fisher_estimators.exact", signals=signals
    )
    settings = _Settings(learning_rate, damping, decay, curvature, signals, trees.Count(interval))
    return trees.with_settings(_init, _update, settings)
