"""Real data in the package: three classic sets, read only when asked for."""

from importlib import resources
from typing import NamedTuple

import jax
import numpy as np

__all__ = ["Dataset", "Split", "breast_cancer", "diabetes", "digits", "split", "standardized"]


class Dataset(NamedTuple):
    """Examples in rows, as NumPy arrays; a pytree, so it goes into `gdjax.finite_sum` as it is.

    Attributes:
      features: shape ``(examples, features)``, float32 (float64 where JAX's 64-bit types are on).
      targets: shape ``(examples,)``, int32 classes or floating responses.
    """

    features: np.ndarray
    targets: np.ndarray


class Split(NamedTuple):
    """Examples to learn from, and examples held out."""

    train: Dataset
    test: Dataset


def _floating(array: np.ndarray) -> np.ndarray:
    return array.astype(jax.dtypes.canonicalize_dtype(np.float64))


def _read(name: str) -> dict[str, np.ndarray]:
    path = resources.files("gdjax.problems") / "data" / f"{name}.npz"
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def digits() -> Dataset:
    """Handwritten digits: 1797 images of 8 x 8 cells with ink from 0 to 16; targets 0 to 9.

    Reference:
      Alpaydin, Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.

    Example:
      >>> from gdjax.problems import datasets
      >>> datasets.digits().features.shape
      (1797, 64)
    """
    arrays = _read("digits")
    return Dataset(_floating(arrays["features"]), arrays["targets"].astype(np.int32))


def breast_cancer() -> Dataset:
    """Measurements of cell nuclei: 569 tumours with 30 numbers each; targets 0 malignant, 1 benign.

    The columns differ in scale by a factor of 1e5: `standardized` puts that right.

    Reference:
      Wolberg et al., Breast Cancer Wisconsin (Diagnostic), UCI Machine Learning Repository, 1995.

    Example:
      >>> from gdjax.problems import datasets
      >>> int(datasets.breast_cancer().targets.sum())
      357
    """
    arrays = _read("breast_cancer")
    return Dataset(_floating(arrays["features"]), arrays["targets"].astype(np.int32))


def diabetes() -> Dataset:
    """Diabetes: 442 patients with 10 measurements each; the target is the progression after a year.

    Reference:
      Efron, Hastie, Johnstone, Tibshirani, Least Angle Regression, Annals of Statistics 32(2), 2004.

    Example:
      >>> from gdjax.problems import datasets
      >>> datasets.diabetes().targets[:3].tolist()
      [151.0, 75.0, 141.0]
    """
    arrays = _read("diabetes")
    return Dataset(_floating(arrays["features"]), _floating(arrays["targets"]))


def split(dataset: Dataset, *, test_share: float = 0.2, seed: int = 0) -> Split:
    """Holds out a share of the examples, drawn by a fixed permutation.

    Args:
      dataset: all examples.
      test_share: how many of them to hold out, strictly between 0 and 1.
      seed: names the permutation.

    Raises:
      ValueError: if either side would be empty.

    Example:
      >>> from gdjax.problems import datasets
      >>> train, test = datasets.split(datasets.digits())
      >>> len(train.targets), len(test.targets)
      (1438, 359)
    """
    count = len(dataset.targets)
    held_out = round(test_share * count)
    if not 0 < held_out < count:
        raise ValueError(f"split: a test_share of {test_share} leaves one side of {count} examples empty")
    order = np.random.default_rng(seed).permutation(count)
    test, train = order[:held_out], order[held_out:]
    return Split(
        Dataset(dataset.features[train], dataset.targets[train]),
        Dataset(dataset.features[test], dataset.targets[test]),
    )


def standardized(data: Split) -> Split:
    r"""Shifts and scales every column by the mean and deviation of the *training* examples.

    :math:`z = (x - \mu) / \sigma`, with :math:`\sigma = 1` for columns that are constant in training
    (the corners of the digits).

    Example:
      >>> import numpy as np
      >>> from gdjax.problems import datasets
      >>> train, _ = datasets.standardized(datasets.split(datasets.breast_cancer()))
      >>> bool(np.allclose(train.features.std(axis=0), 1, atol=1e-3))
      True
    """
    features = data.train.features
    mean = features.mean(axis=0, dtype=np.float64)
    deviation = features.std(axis=0, dtype=np.float64)
    deviation = np.where(deviation > 0, deviation, 1.0)

    def one(part: Dataset) -> Dataset:
        return part._replace(features=((part.features - mean) / deviation).astype(features.dtype))

    return Split(one(data.train), one(data.test))
