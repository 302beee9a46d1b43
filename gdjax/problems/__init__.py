"""Problems: test functions of the literature, and learning problems on real data.

`catalogue` maps every name to its constructor; all of them can be called without arguments.
"""

from collections.abc import Callable

from gdjax.problems import datasets
from gdjax.problems.learning import logistic_regression, mlp, ridge, softmax_regression
from gdjax.problems.multimodal import ackley, goldstein_price, rastrigin, styblinski_tang
from gdjax.problems.problem import Optimum, Problem
from gdjax.problems.saddles import monkey_saddle, strict_saddle
from gdjax.problems.smooth import beale, booth, himmelblau, quadratic, rosenbrock

catalogue: dict[str, Callable[..., Problem]] = {
    constructor.__name__: constructor
    for constructor in (
        rosenbrock,
        quadratic,
        himmelblau,
        beale,
        booth,
        rastrigin,
        ackley,
        styblinski_tang,
        goldstein_price,
        strict_saddle,
        monkey_saddle,
        logistic_regression,
        softmax_regression,
        mlp,
        ridge,
    )
}
