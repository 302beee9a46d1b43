"""Search over hyperparameters: budgets for those ahead, populations that exchange, suggestions in batches."""

from gdjax.sweeps.search.hyperband import hyperband
from gdjax.sweeps.search.population import perturb, population_based
from gdjax.sweeps.search.suggestions import ask_and_tell

__all__ = ["ask_and_tell", "hyperband", "perturb", "population_based"]
