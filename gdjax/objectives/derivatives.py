r"""Second derivatives: the Hessian, Gauss-Newton and Fisher, as products and as dense matrices.

Every function here is, or returns, a `gdjax.types.Curvature`: ``(objective, params) -> Operator``. Building
an operator evaluates the model once; a product then costs about two gradients, so a loop of products
(conjugate gradients) does not run the model forward again.

| curvature | matrix | needs | is positive |
|---|---|---|---|
| `hessian` | second derivative of f | any function | if f is convex |
| `gauss_newton` | J^T (loss'') J + penalty'' | a `gdjax.Composite` | if the loss is convex |
| `fisher` | J^T F(outputs) J + penalty'' | a `Composite`, a family | always |
| `divergence_hessian` | the same, by differentiating KL | a `Composite`, a family | always |
| `empirical_fisher` | mean of g g^T + penalty'' | a `Composite` with a `Mean` | always |

"Positive" is up to the penalty, and means semidefinite.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from gdjax._internal import arguments, checks, trees
from gdjax.objectives import Composite, Mean
from gdjax.objectives.distributions import Family
from gdjax.types import Curvature, MatVec, Operator, Params, PyTree, ValueFn

__all__ = ["composite_of", "divergence_hessian", "empirical_fisher", "fisher", "gauss_newton", "hessian"]


_AT_ONCE = 2**22
"""How many numbers one intermediate array of all columns may have: caches hold no more."""


def _widest(product: MatVec, vector: Params) -> int:
    """The size of the largest array that a product makes on its way, or one that is symbolic."""
    program = jax.make_jaxpr(product)(vector)
    sizes = [math.prod(out.aval.shape) for step in program.eqns for out in step.outvars]
    symbolic = [size for size in sizes if not isinstance(size, int)]
    return symbolic[0] if symbolic else max(sizes, default=0)


def hessian(objective: ValueFn, params: Params) -> Operator:
    r"""The Hessian :math:`\nabla^2 f(\theta)`.

    Products are forward-over-reverse; the dense matrix is `jax.hessian` over the raveled parameters. Where all
    its columns at once would need large arrays they are taken one after another, in the memory of one.

    Args:
      objective: any twice differentiable function of params.
      params: where.

    Reference:
      Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6(1), 1994.

    Example:
      >>> import jax.numpy as jnp
      >>> from gdjax import derivatives
      >>> operator = derivatives.hessian(lambda x: x[0] ** 2 + x[0] * x[1], jnp.ones(2))
      >>> operator.dense().tolist()
      [[2.0, 1.0], [1.0, 0.0]]
      >>> operator.product(jnp.array([1.0, 0.0])).tolist()
      [2.0, 1.0]
    """
    _, product = jax.linearize(jax.grad(objective), params)

    def dense():
        vector, unravel = ravel_pytree(params)
        if trees.at_most(vector.size * _widest(product, params), _AT_ONCE):
            return jax.hessian(lambda v: objective(unravel(v)))(vector)
        identity = jnp.eye(vector.size, dtype=vector.dtype)
        return jax.lax.map(lambda v: ravel_pytree(product(unravel(v)))[0], identity)

    return Operator(product, dense)


def checked(owner: str, curvature: Curvature) -> Curvature:
    """Returns a curvature, or raises where it is no function of objective and params."""
    hint = "such as gdjax.derivatives.hessian, gauss_newton or fisher(family)"
    checks.function(owner, "objective, params", hint, curvature=curvature)
    return curvature


def _check_family(owner: str, family: object) -> None:
    if not isinstance(family, Family):
        raise TypeError(
            f"{owner}: family must be a Family of gdjax.distributions, got {arguments.named(family)}"
        )


def composite_of(objective: ValueFn, owner: str) -> Composite:
    """``objective`` if it is a `Composite`, or what ``owner`` needs instead.

    Raises:
      TypeError: if it is not.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> gdjax.derivatives.composite_of(gdjax.least_squares(jnp.sin), "my_method").penalty is None
      True
    """
    if not isinstance(objective, Composite):
        raise TypeError(
            f"{owner} needs an objective whose model and loss it can see apart: gdjax.Composite, "
            f"gdjax.least_squares or gdjax.objectives.supervised; got {type(objective).__name__}"
        )
    return objective


def _plus(a: Params, b: Params) -> Params:
    return jax.tree.map(jnp.add, a, b)


def _with_penalty(operator: Operator, composite: Composite, params: Params) -> Operator:
    """Adds the Hessian of the composite's penalty."""
    if composite.penalty is None:
        return operator
    extra = hessian(composite.penalty, params)
    return Operator(
        lambda vector: _plus(operator.product(vector), extra.product(vector)),
        lambda: operator.dense() + extra.dense(),
    )


def _pulled_back(composite: Composite, params: Params, metric_at: Any) -> Operator:
    r""":math:`J^T M J` for the Jacobian J of the model and ``metric_at(outputs)``, a product with M."""

    def model(p):
        return trees.replicated(composite.model(p))

    outputs, forward = jax.linearize(model, params)
    back = jax.linear_transpose(forward, params)
    metric: MatVec = metric_at(outputs)

    def product(vector):
        return back(metric(forward(vector)))[0]

    def jacobian_and_outputs():
        vector, unravel = ravel_pytree(params)
        flat_outputs, unravel_outputs = ravel_pytree(outputs)

        def flat_model(v):
            return ravel_pytree(model(unravel(v)))[0]

        mode = jax.jacfwd if trees.at_most(vector.size - flat_outputs.size, 0) else jax.jacrev
        return mode(flat_model)(vector), unravel_outputs

    def scaled(columns, unravel_outputs):
        return jax.vmap(lambda column: ravel_pytree(metric(unravel_outputs(column)))[0], 1, 1)(columns)

    def dense():
        jacobian, unravel_outputs = jacobian_and_outputs()
        matrix = jacobian.T @ scaled(jacobian, unravel_outputs)
        return 0.5 * (matrix + matrix.T)

    def factors():
        jacobian, unravel_outputs = jacobian_and_outputs()
        return jacobian, scaled(jnp.eye(jacobian.shape[0], dtype=jacobian.dtype), unravel_outputs)

    return _with_penalty(Operator(product, dense, factors), composite, params)


def gauss_newton(objective: ValueFn, params: Params) -> Operator:
    r"""The generalized Gauss-Newton matrix :math:`J^T \, \nabla^2 \ell(m(\theta)) \, J`.

    The Hessian of :math:`\ell \circ m` without the curvature of the model; positive semidefinite for a convex
    loss, equal to the Hessian where the model is linear, and to the Fisher matrix where the loss is the
    negative log-likelihood of an exponential family in its natural parameters. A penalty adds its Hessian.

    Args:
      objective: a `Composite`, as `least_squares` and `supervised` make them.
      params: where.

    Raises:
      TypeError: if the objective is not a `Composite`.

    Reference:
      Schraudolph, Fast curvature matrix-vector products, Neural Computation 14(7), 2002; Martens, New
      insights and perspectives on the natural gradient method, JMLR 21, 2020, Section 8.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> f = gdjax.least_squares(lambda x: jnp.array([x[0] ** 2, 3.0 * x[1]]))
      >>> gdjax.derivatives.gauss_newton(f, jnp.ones(2)).dense().tolist()
      [[4.0, 0.0], [0.0, 9.0]]
    """
    composite = composite_of(objective, "gauss_newton")
    return _pulled_back(
        composite, params, lambda outputs: jax.linearize(jax.grad(composite.loss), outputs)[1]
    )


def _mean_scale(family: Family, outputs: PyTree) -> float:
    """One over the number of losses that the family makes of ``outputs``: the scale of their mean."""
    return 1.0 / max(math.prod(jax.eval_shape(family.divergence, outputs, outputs).shape), 1)


def fisher(family: Family) -> Curvature:
    r"""The exact Fisher matrix :math:`J^T F(m(\theta)) J`, with the family's closed form for the outputs.

    On the scale of a mean over examples, as `supervised` makes it. A penalty adds its Hessian, as a
    prior would.

    Args:
      family: of `gdjax.distributions`, for the outputs of the model.

    Returns:
      A `Curvature`, which raises a TypeError where the objective is not a `Composite`.

    Reference:
      Amari, Natural gradient works efficiently in learning, Neural Computation 10(2), 1998; Martens,
      JMLR 21, 2020, Section 9.2.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> from gdjax import derivatives, distributions
      >>> data = (jnp.array([2.0]), jnp.array([1]))
      >>> f = gdjax.objectives.supervised(lambda w, x: w * x, distributions.bernoulli.loss, data).at(None)
      >>> float(derivatives.fisher(distributions.bernoulli)(f, jnp.array(0.0)).product(jnp.array(1.0)))
      1.0
    """
    _check_family("fisher", family)

    def curvature(objective: ValueFn, params: Params) -> Operator:
        def metric_at(outputs):
            scale = _mean_scale(family, outputs)
            return lambda tangents: jax.tree.map(lambda leaf: scale * leaf, family.metric(outputs, tangents))

        return _pulled_back(composite_of(objective, "fisher"), params, metric_at)

    return curvature


def divergence_hessian(family: Family) -> Curvature:
    r"""The exact Fisher matrix as the second derivative of the divergence.

    .. math:: F(\theta) = \nabla^2_{\theta'} \mathrm{KL}(p_\theta \| p_{\theta'}) \big|_{\theta' = \theta}

    By differentiating through the model twice: the definition, for checks and for families without a closed
    form of their metric; `fisher` costs less.

    Args:
      family: of `gdjax.distributions`.

    Reference:
      Amari, Information Geometry and Its Applications, Springer, 2016, Section 2.
    """
    _check_family("divergence_hessian", family)

    def curvature(objective: ValueFn, params: Params) -> Operator:
        composite = composite_of(objective, "divergence_hessian")
        here = composite.model(params)

        def divergence(others):
            return jnp.mean(family.divergence(here, composite.model(others)))

        return _with_penalty(hessian(divergence, params), composite, params)

    return curvature


def empirical_fisher(objective: ValueFn, params: Params) -> Operator:
    r"""The empirical Fisher matrix :math:`\frac1n \sum_i g_i g_i^T` of per-example gradients.

    Cheap, and not the Fisher matrix: it takes the targets of the data instead of the model's own, and
    agrees only where the model has the data's distribution. A penalty adds its Hessian.

    Args:
      objective: a `Composite` whose loss is a `Mean`, as `supervised` makes them.
      params: where.

    Raises:
      TypeError: if the objective does not show its losses one by one.

    Reference:
      Kunstner, Hennig, Balles, Limitations of the empirical Fisher approximation for natural gradient
      descent, NeurIPS 2019, Eq. 3.

    Example:
      >>> import gdjax, jax.numpy as jnp
      >>> data = (jnp.array([1.0, 2.0]), jnp.array([0.0, 0.0]))
      >>> objective = gdjax.objectives.supervised(lambda w, x: w * x, lambda out, y: (out - y) ** 2 / 2, data)
      >>> operator = gdjax.derivatives.empirical_fisher(objective.at(None), jnp.array(1.0))
      >>> float(operator.product(jnp.array(1.0)))
      8.5
    """
    composite = composite_of(objective, "empirical_fisher")
    if not isinstance(composite.loss, Mean):
        raise TypeError("empirical_fisher needs a loss that is a gdjax.objectives.Mean of losses")
    losses_of = composite.loss.losses

    def losses(params):
        return trees.replicated(losses_of(composite.model(params)).ravel())

    values, forward = jax.linearize(losses, params)
    back = jax.linear_transpose(forward, params)

    def product(vector):
        return back(forward(vector) / values.size)[0]

    def dense():
        vector, unravel = ravel_pytree(params)
        mode = jax.jacfwd if trees.at_most(vector.size - values.size, 0) else jax.jacrev
        gradients = mode(lambda v: losses(unravel(v)))(vector)
        return gradients.T @ gradients / values.size

    return _with_penalty(Operator(product, dense), composite, params)
