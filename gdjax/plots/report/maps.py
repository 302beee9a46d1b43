"""Maps of any two dimensions of a sweep, reduced over the others, as plain data."""

import itertools
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from gdjax.plots.report.summary import Subject, number, word
from gdjax.sweeps.ranking import labels, last

__all__ = ["maps"]

FEATURES, VARIABLES = 6, 4
"""Of each the most that a page offers."""

NUMBERS = 100_000
"""Medians of a page; where there would be more, it offers fewer variables, then fewer features."""

BINS, ALONE, WORDS = 24, 40, 100
"""Parts of a long dimension of numbers; numbers, and names, that are each shown by themselves."""


class Feature(NamedTuple):
    """What a map may lie along.

    Attributes:
      name: the dimension's, or that of labels along one.
      labels: a word for each cell.
      ordered: whether they ascend.
      dim: the dimension.
      codes: the cell of each place along the dimension.
    """

    name: str
    labels: list[str]
    ordered: bool
    dim: str
    codes: np.ndarray


def _binned(name: str, dim: str, values: np.ndarray, parts: int) -> Feature:
    """Equal parts of a range of numbers, by their logarithms where it is long."""
    low, high = float(values.min()), float(values.max())
    space = np.geomspace if low > 0 and high / low > 30 else np.linspace
    edges = space(low, high, parts + 1)
    codes = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, parts - 1)
    words = [f"{word(float(a))} to {word(float(b))}" for a, b in itertools.pairwise(edges)]
    return Feature(name, words, True, dim, codes)


def _feature(name: str, dim: str, values: np.ndarray) -> Feature:
    numeric = np.issubdtype(values.dtype, np.number) and bool(np.all(np.isfinite(values)))
    unique, codes = np.unique(values, return_inverse=True) if numeric else (values, np.arange(len(values)))
    if numeric and name != dim and len(unique) > 12:
        return _binned(name, dim, values.astype(float), int(np.clip(np.sqrt(len(values)), 4, 12)))
    if numeric and len(unique) > ALONE:
        return _binned(name, dim, values.astype(float), BINS)
    if numeric:
        return Feature(name, [word(value) for value in unique], True, dim, codes)
    words = [word(value) for value in values[:WORDS]]
    more = len(values) - WORDS
    words += [f"{more} others"] if more > 0 else []
    return Feature(name, words, False, dim, np.minimum(codes, WORDS))


def _features(about: Subject) -> list[Feature]:
    """What maps may lie along: settings first, then what medians are over, then numbers of samples."""
    order = [*(dim for dim in about.dims if dim not in about.over), *about.over]
    found = [_feature(*each) for each in labels(about.dataset, order)]
    many = [each for each in found if len(each.labels) > 1]
    described = {each.dim for each in many if each.name != each.dim}
    many.sort(key=lambda each: each.name == each.dim and each.dim in described)
    return many[:FEATURES]


def _scalars(about: Subject) -> list[str]:
    """The variables that are one number a run, the one that runs are judged by first."""
    data = about.dataset
    names = [str(name) for name, array in data.data_vars.items() if set(array.dims) == set(about.dims)]
    names = [name for name in names if name != "status" and data[name].dtype.kind in "biuf"]
    return [about.by, *(name for name in names if name != about.by)][:VARIABLES]


def _offered(features: list[Feature], variables: list[str]) -> tuple[list[Feature], list[str]]:
    """As many of them as `NUMBERS` allows."""
    features, variables = list(features), list(variables)
    while len(features) > 2 or len(variables) > 1:
        pairs = itertools.combinations((len(each.labels) for each in features), 2)
        if sum(a * b for a, b in pairs) * len(variables) <= NUMBERS:
            break
        (variables if len(variables) > 1 else features).pop()
    return features, variables


def maps(about: Subject) -> dict[str, Any]:
    """All maps of a page.

    Returns:
      ``features`` (name, labels, ordered), ``variables``, ``extreme`` (``"lowest"``, or ``"highest"`` where more is
      better), and ``cells``: for each pair ``"i,j"`` of features the counts of runs by their ends, and for each
      variable the median and that number over the runs that did not fail; cells row by row along the first.
    """
    features, variables = _offered(_features(about), _scalars(about))
    shape = tuple(about.judged.sizes[dim] for dim in about.dims)
    sound = np.isfinite(about.judged.values).reshape(-1)
    ends = about.ends.reshape(-1)
    numbers = {}
    for name in variables:
        values = last(about.dataset[name]).transpose(*about.dims).values.reshape(-1).astype(float)
        numbers[name] = np.where(sound & np.isfinite(values), values, np.nan)
    codes = []
    for each in features:
        place = about.dims.index(each.dim)
        spread = each.codes.reshape([-1 if i == place else 1 for i in range(len(shape))])
        codes.append(np.broadcast_to(spread, shape).reshape(-1))
    if len(features) == 1:
        features.append(Feature("all runs", [""], False, "", np.zeros(0)))
        codes.append(np.zeros_like(codes[0]))
    cells = {}
    for i, j in itertools.combinations(range(len(features)), 2):
        count = len(features[i].labels) * len(features[j].labels)
        cells[f"{i},{j}"] = _cells(codes[i] * len(features[j].labels) + codes[j], count, numbers, ends, about)
    shown = [{"name": each.name, "labels": each.labels, "ordered": each.ordered} for each in features]
    return {"features": shown, "variables": variables, "extreme": _extreme(about), "cells": cells}


def _extreme(about: Subject) -> str:
    return "highest" if about.maximize else "lowest"


def _cells(
    places: np.ndarray, count: int, numbers: dict[str, np.ndarray], ends: np.ndarray, about: Subject
) -> dict[str, Any]:
    kinds = len(about.kinds)
    counts = np.bincount(places * kinds + ends, minlength=count * kinds).reshape(count, kinds)
    found: dict[str, Any] = {"counts": counts.tolist()}
    for name, values in numbers.items():
        groups = pd.Series(values).groupby(places)
        both = {"median": groups.median(), _extreme(about): groups.max() if about.maximize else groups.min()}
        found[name] = {
            key: [number(x) for x in each.reindex(range(count)).to_numpy()] for key, each in both.items()
        }
    return found
