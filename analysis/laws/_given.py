"""A law that a user gives in place of a name: a `Law`, or a function of (N, X, parameters)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np

from analysis.laws import Law, Parameter
from scaling.schema import InputError

EXAMPLE = "def my_law(n, x, a=1.0, b: (0, 2) = 0.3): return a * x**-b"


def law_of(function: Callable[..., Any]) -> Law:
    """The law L = function(N, X, parameters), with every parameter shared by all sizes.

    N and X are arrays of one shape. The other arguments are the parameters: a default is where the search starts (or
    several starts, a tuple), an annotation of two numbers its bounds. Raises InputError for a function that is none.
    """
    name = getattr(function, "__name__", "")
    if not name.isidentifier():
        raise InputError(f"law: {function!r} has no name of its own; write {EXAMPLE}")
    try:
        arguments = list(inspect.signature(function, eval_str=True).parameters.values())
    except (NameError, ValueError, TypeError) as cause:
        raise InputError(f"law {name}: its arguments cannot be read ({cause}); write {EXAMPLE}") from None
    if len(arguments) < 3 or any(a.kind in (a.VAR_POSITIONAL, a.VAR_KEYWORD) for a in arguments):
        raise InputError(f"law {name}: its arguments must be N, X and one parameter or more; write {EXAMPLE}")
    parameters = tuple(_parameter(name, argument) for argument in arguments[2:])

    def curve(n: Any, x: Any, values: dict[str, Any]) -> np.ndarray:
        known = {parameter.name: values[parameter.name] for parameter in parameters}
        return np.asarray(function(*np.broadcast_arrays(np.asarray(n, float), np.asarray(x, float)), **known), float)

    try:
        shape = curve(
            np.array([1e6, 1e9, 1e9]), np.array([1e9, 1e9, 1e12]), {p.name: p.starts[0] for p in parameters}
        ).shape
    except Exception as cause:  # whatever the user's function raises
        raise InputError(f"law {name} cannot be computed at its starts: {type(cause).__name__}: {cause}") from None
    if shape != (3,):
        raise InputError(f"law {name} returns shape {shape} for 3 points; it must return one loss for each.")
    return Law(
        name=name, formula=f"L = {name}(N, X; {', '.join(p.name for p in parameters)})", citation="given as a function",
        parameters=parameters, curve=curve, predicts="any size and any X", link="identity", cross_entropy=True,
    )  # fmt: skip


def _parameter(law: str, argument: inspect.Parameter) -> Parameter:
    name = argument.name
    if argument.default is argument.empty:
        raise InputError(f"law {law}: {name} has no start; write {name}=1.0, or several, {name}=(0.1, 1.0).")
    try:
        starts = tuple(float(start) for start in np.atleast_1d(argument.default))
        low, high = (-inf, inf) if argument.annotation in (argument.empty, float) else map(float, argument.annotation)
    except (TypeError, ValueError):
        raise InputError(
            f"law {law}: {name} wants numbers: its bounds as annotation, its start as default, {name}: (0, 2) = 0.3."
        ) from None
    if not starts or not low < high or not all(low <= start <= high for start in starts):
        raise InputError(
            f"law {law}: the start of {name}, {argument.default}, must be between its bounds {low:g} and {high:g}."
        )
    return Parameter(name, "1", f"{name} of {law}", (low, high), starts=starts)
