"""Writes the data sets that gdjax ships, from scikit-learn's copies (``pip install "gdjax[data]"``).

Run from the root of the repository: ``python tools/make_data.py``. The same input gives the same arrays;
`tests/test_datasets.py` compares the shipped files with scikit-learn's numbers.
"""

from pathlib import Path

import numpy as np
from sklearn import datasets

FOLDER = Path(__file__).resolve().parent.parent / "gdjax" / "problems" / "data"


def exactly(array: np.ndarray, dtype: type) -> np.ndarray:
    """``array`` as ``dtype``, if that loses nothing."""
    cast = array.astype(dtype)
    if not np.array_equal(cast, array):
        raise ValueError(f"{np.dtype(dtype)} does not hold the data exactly")
    return cast


def main() -> None:
    digits = datasets.load_digits()
    cancer = datasets.load_breast_cancer()
    diabetes = datasets.load_diabetes(scaled=False)
    arrays = {
        "digits": (exactly(digits.data, np.uint8), exactly(digits.target, np.uint8)),
        "breast_cancer": (cancer.data, exactly(cancer.target, np.uint8)),
        "diabetes": (diabetes.data, exactly(diabetes.target, np.uint16)),
    }
    FOLDER.mkdir(exist_ok=True)
    for name, (features, targets) in arrays.items():
        path = FOLDER / f"{name}.npz"
        np.savez_compressed(path, features=features, targets=targets)
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
