"""What an argument is: in words for an error, as a number where it is known, as a function of so many arguments."""

import inspect
import math
import types
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

__all__ = ["Range", "accepts", "holds_one", "known", "named", "real", "signature", "uncalled"]


def named(value: Any) -> str:
    """What was given, in the words of an error."""
    if value is None or isinstance(value, type):
        return "None" if value is None else f"the class {value.__name__}"
    kind = type(value).__name__
    if isinstance(value, np.ndarray | jax.Array):
        return f"{kind} of {value.dtype} and shape {value.shape}"
    if isinstance(value, str | bytes):
        return f"{kind} {value!r}" if len(value) < 40 else f"{kind} {value[:37]!r}..."
    if isinstance(value, bool | int | float | complex | np.generic):
        return f"{kind} {value}"
    return f"the function {value.__name__}" if hasattr(value, "__name__") else kind


def known(value: Any) -> np.ndarray | None:
    """A number or array as NumPy has it; None for a tracer, and for an array that other hosts hold parts of."""
    if isinstance(value, jax.core.Tracer):
        return None
    if isinstance(value, jax.Array):
        return np.asarray(jax.device_get(value)) if value.is_fully_addressable else None
    return np.asarray(value)


def real(value: Any, truths: bool = False) -> bool:
    """Whether a value is a real number or an array of such, traced or not; truth values only if they count."""
    if isinstance(value, bool):
        return truths
    if isinstance(value, int | float):
        return True
    if not isinstance(value, np.generic | np.ndarray | jax.Array):
        return False
    kind = getattr(value.dtype, "kind", "")
    return (kind and kind in "iuf") or (truths and kind == "b") or jnp.issubdtype(value.dtype, jnp.floating)


class Range(NamedTuple):
    """The limits of a number: ``above < x < below`` and ``low <= x <= high``, finite unless infinity is let in."""

    above: float = -math.inf
    low: float = -math.inf
    below: float = math.inf
    high: float = math.inf
    infinite: bool = False

    def contains(self, number: float) -> bool:
        """Whether a number is within; NaN never is."""
        if math.isnan(number) or (math.isinf(number) and not self.infinite):
            return False
        above = number > self.above or self.above == -math.inf
        below = number < self.below or self.below == math.inf
        return above and below and self.low <= number <= self.high

    def words(self, finite: bool) -> str:
        """The limits in words, with finiteness among them where that is what a number lacks."""
        limits = {"above": self.above, "at least": self.low, "below": self.below, "at most": self.high}
        words = [f"{word} {limit:g}" for word, limit in limits.items() if math.isfinite(limit)]
        closed = max(self.above, self.low) > -math.inf and min(self.below, self.high) < math.inf
        if not words:
            return "a number" if self.infinite else "finite"
        if not (finite or closed or self.infinite):
            words.insert(0, "finite")
        return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


def holds_one(value: Any) -> bool:
    """Whether ``float`` makes a number of a thing that is none: another library's scalar."""
    return hasattr(value, "__float__") and not isinstance(value, bool | np.generic | np.ndarray | jax.Array)


def accepts(function: Any, count: int) -> bool:
    """Whether a function can be called with ``count`` arguments, as far as its signature tells."""
    if isinstance(function, types.FunctionType):  # the common case, at a twentieth of the time
        code, named_only = function.__code__, len(function.__kwdefaults__ or ())
        least = code.co_argcount - len(function.__defaults__ or ())
        most = count if code.co_flags & inspect.CO_VARARGS else code.co_argcount
        return least <= count <= most and code.co_kwonlyargcount == named_only
    try:
        found = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return True
    try:
        found.bind(*[None] * count)
    except TypeError:
        return False
    return True


def uncalled(function: Any) -> bool:
    """Whether a function is a constructor of gdjax or optax rather than what it makes."""
    module = getattr(function, "__module__", None) or ""
    ours = module.partition(".")[0] in ("gdjax", "optax") and inspect.isfunction(function)
    if not ours or "<" in function.__qualname__:
        return False
    return next(iter(inspect.signature(function).parameters), "count") != "count"


def signature(given: Any) -> str:
    """The arguments of a function as they are written, or nothing where it does not tell."""
    try:
        return str(inspect.signature(given, follow_wrapped=False))
    except (TypeError, ValueError):
        return ""
