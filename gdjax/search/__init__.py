"""Search over hyperparameters: populations that exchange, suggestions evaluated a batch at a time."""

from gdjax.search.population import perturb, population_based
from gdjax.search.suggestions import ask_and_tell

__all__ = ["ask_and_tell", "perturb", "population_based"]
