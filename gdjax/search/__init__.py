"""Search over hyperparameters: budgets for those ahead, populations that exchange, suggestions in batches."""

from gdjax.search.hyperband import hyperband
from gdjax.search.population import perturb, population_based
from gdjax.search.suggestions import ask_and_tell

__all__ = ["ask_and_tell", "hyperband", "perturb", "population_based"]
