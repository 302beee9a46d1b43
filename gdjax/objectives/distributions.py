r"""Families of distributions over a model's outputs: loss, divergence and Fisher metric in closed form.

A `Family` ties what a model puts out (logits, a log rate, a mean and a log scale) to the likelihood of its
targets. All its functions work elementwise over any leading axes of examples.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gdjax.types import PyTree

__all__ = ["Family", "bernoulli", "categorical", "gaussian", "poisson"]


class Family(NamedTuple):
    r"""A parametric family :math:`p(y \mid o)` with outputs :math:`o`.

    Attributes:
      loss: ``(outputs, targets) -> losses``, :math:`-\log p(y \mid o)` for each example, without terms that
        the outputs do not touch.
      divergence: ``(outputs, others) -> divergences``, :math:`\mathrm{KL}(p_o \,\|\, p_{o'})`.
      metric: ``(outputs, tangents) -> cotangents``, the product with the Fisher matrix of the outputs,
        which is the divergence's second derivative in :math:`o'` at :math:`o' = o`.
      root: ``(outputs, noise) -> cotangents``, the product with a root S of that matrix, :math:`S S^T`; or None.
    """

    loss: Callable[[PyTree, PyTree], jax.Array]
    divergence: Callable[[PyTree, PyTree], jax.Array]
    metric: Callable[[PyTree, PyTree], PyTree]
    root: Callable[[PyTree, PyTree], PyTree] | None = None


def _categorical_loss(logits, labels):
    chosen = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - chosen


def _categorical_divergence(logits, others):
    log_p, log_q = jax.nn.log_softmax(logits), jax.nn.log_softmax(others)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def _categorical_metric(logits, tangents):
    p = jax.nn.softmax(logits)
    return p * (tangents - jnp.sum(p * tangents, axis=-1, keepdims=True))


def _categorical_root(logits, noise):
    p = jax.nn.softmax(logits)
    scaled = jnp.sqrt(p) * noise
    return scaled - p * jnp.sum(scaled, axis=-1, keepdims=True)


categorical = Family(_categorical_loss, _categorical_divergence, _categorical_metric, _categorical_root)
r"""Classes by logits, shape ``(..., classes)``; targets are integer labels, shape ``(...)``.

:math:`F = \operatorname{diag}(p) - p p^T` with :math:`p = \operatorname{softmax}(o)`.
"""


def _bernoulli_loss(logits, targets):
    return jax.nn.softplus(logits) - jnp.asarray(targets, logits.dtype) * logits


def _bernoulli_divergence(logits, others):
    gap = jax.nn.softplus(others) - jax.nn.softplus(logits)
    return gap - jax.nn.sigmoid(logits) * (others - logits)


def _bernoulli_metric(logits, tangents):
    return jax.nn.sigmoid(logits) * jax.nn.sigmoid(-logits) * tangents


def _bernoulli_root(logits, noise):
    return jnp.exp(-0.5 * (jax.nn.softplus(logits) + jax.nn.softplus(-logits))) * noise


bernoulli = Family(_bernoulli_loss, _bernoulli_divergence, _bernoulli_metric, _bernoulli_root)
r"""Yes or no by logits; targets are 0, 1 or a share between them.

:math:`F = p (1 - p)` with :math:`p = \sigma(o)`.
"""


def _poisson_loss(log_rates, counts):
    return jnp.exp(log_rates) - jnp.asarray(counts, log_rates.dtype) * log_rates


def _poisson_divergence(log_rates, others):
    gap = others - log_rates
    return jnp.exp(log_rates) * (jnp.expm1(gap) - gap)


def _poisson_metric(log_rates, tangents):
    return jnp.exp(log_rates) * tangents


def _poisson_root(log_rates, noise):
    return jnp.exp(0.5 * log_rates) * noise


poisson = Family(_poisson_loss, _poisson_divergence, _poisson_metric, _poisson_root)
r"""Counts by log rates. :math:`F = \lambda`, :math:`\lambda = e^o`."""


def _gaussian_loss(outputs, targets):
    mean, log_scale = outputs
    return 0.5 * jnp.square((targets - mean) * jnp.exp(-log_scale)) + log_scale


def _gaussian_divergence(outputs, others):
    (mean, log_scale), (mean_q, log_scale_q) = outputs, others
    gap = log_scale_q - log_scale
    shift = (mean - mean_q) * jnp.exp(-log_scale_q)
    return gap + 0.5 * (jnp.expm1(-2.0 * gap) + jnp.square(shift))


def _gaussian_metric(outputs, tangents):
    (_, log_scale), (mean_dot, log_scale_dot) = outputs, tangents
    return jnp.exp(-2.0 * log_scale) * mean_dot, 2.0 * log_scale_dot


def _gaussian_root(outputs, noise):
    (_, log_scale), (mean_noise, log_scale_noise) = outputs, noise
    return jnp.exp(-log_scale) * mean_noise, 2.0**0.5 * log_scale_noise


gaussian = Family(_gaussian_loss, _gaussian_divergence, _gaussian_metric, _gaussian_root)
r"""Reals by a pair (mean, log scale). :math:`F = \operatorname{diag}(\sigma^{-2}, 2)`."""
