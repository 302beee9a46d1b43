"""The shipped data: the same numbers as scikit-learn's, and a split that never moves."""

import jax
import numpy as np
import pytest
from sklearn import datasets as sklearn_datasets

from gdjax.problems import datasets

ORACLES = {
    "digits": sklearn_datasets.load_digits,
    "breast_cancer": sklearn_datasets.load_breast_cancer,
    "diabetes": lambda: sklearn_datasets.load_diabetes(scaled=False),
}


@pytest.mark.parametrize("name", ORACLES)
def test_equals_scikit_learn_exactly(name):
    oracle = ORACLES[name]()
    with jax.enable_x64(True):
        dataset = getattr(datasets, name)()
    np.testing.assert_array_equal(dataset.features, oracle.data)
    np.testing.assert_array_equal(dataset.targets, oracle.target)
    assert dataset.features.dtype == np.float64


@pytest.mark.parametrize("name", ORACLES)
def test_follows_the_default_precision(name):
    dataset = getattr(datasets, name)()
    assert dataset.features.dtype == np.float32
    assert dataset.targets.dtype == (np.float32 if name == "diabetes" else np.int32)


@pytest.mark.smoke
def test_split_is_a_fixed_partition():
    numbers = np.arange(100)
    data = datasets.Dataset(numbers[:, None].astype(np.float32), numbers)
    train, test = datasets.split(data, test_share=0.25)
    assert len(test.targets) == 25
    np.testing.assert_array_equal(np.sort(np.concatenate([train.targets, test.targets])), numbers)
    np.testing.assert_array_equal(train.features[:, 0], train.targets)
    assert (
        test.targets[:4].tolist() == np.random.default_rng(0).permutation(100)[:4].tolist() == [82, 36, 20, 5]
    )
    assert datasets.split(data, seed=1).test.targets.tolist() != datasets.split(data).test.targets.tolist()


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_split_refuses_empty_sides(share):
    with pytest.raises(ValueError, match="empty"):
        datasets.split(datasets.diabetes(), test_share=share)


def test_standardized_uses_the_training_half_only():
    raw = datasets.split(datasets.digits())
    data = datasets.standardized(raw)
    mean = raw.train.features.astype(float).mean(axis=0)
    deviation = raw.train.features.astype(float).std(axis=0)
    constant = deviation == 0
    assert 0 < constant.sum() < 10
    expected = (raw.test.features - mean)[:, ~constant] / deviation[~constant]
    np.testing.assert_allclose(data.test.features[:, ~constant], expected, rtol=1e-5, atol=1e-5)
    assert np.isfinite(data.test.features).all()
    assert data.train.features.dtype == np.float32
