"""The laws, one file each: a formula, named parameters with units and bounds, a citation. Sizes never appear in one.

A file `NAME.py` in this folder that defines `LAW = Law(...)` is a law: it gets the contract tests, the choice on the
command line and a row in the tables. Single letters are used only inside formulas (glossary: N, X, L, k, E).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scaling.schema import check_name


@dataclass(frozen=True)
class Parameter:
    """One named parameter.

    Fields:
        bounds: (low, high); with `of_size`, low is in units of the smallest and high of the largest size of the data.
        published: the bounds that the source of the law used, an option of the fit.
        per_size: one value for each size; such a parameter says nothing about a size that was not fitted.
    """

    name: str
    unit: str
    meaning: str
    bounds: tuple[float, float]
    of_size: bool = False
    published: tuple[float, float] | None = None
    per_size: bool = False

    def limits(self, sizes: np.ndarray, published: bool = False) -> tuple[float, float]:
        """Bounds in the parameter's own unit for data with these sizes."""
        if published and self.published is not None:
            return self.published
        low, high = self.bounds
        return (low * float(np.min(sizes)), high * float(np.max(sizes))) if self.of_size else (low, high)


@dataclass(frozen=True)
class Law:
    """A law of the form ln L = -k(N) ln X + E(N).

    Fields:
        parameters: in the order of the arguments of `slope` and `intercept`.
        slope: k as a function of (N, values); arrays broadcast.
        intercept: E, the same.
        shape: for laws whose slope is an amplitude times a function of N with one scale parameter: that function of
            (N, scale), with `amplitude` and `scale` the names of the two. None where each size has its own k.
        predicts_unseen: whether a size that was not fitted has a predicted level.
    """

    name: str
    formula: str
    citation: str
    parameters: tuple[Parameter, ...]
    slope: Callable[..., np.ndarray]
    intercept: Callable[..., np.ndarray]
    shape: Callable[..., np.ndarray] | None = None
    amplitude: str = ""
    scale: str = ""
    predicts_unseen: bool = False

    def ln_loss(self, num_params, x, values: dict):
        """ln of the test loss. num_params, x and the per-size values broadcast; x is X itself, not its log."""
        return -self.slope(num_params, values) * np.log(x) + self.intercept(num_params, values)

    @property
    def shared(self) -> tuple[Parameter, ...]:
        """The parameters that all sizes share."""
        return tuple(parameter for parameter in self.parameters if not parameter.per_size)


def law_names() -> list[str]:
    """Names of the laws: the modules of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def get_law(name: str) -> Law:
    """The law of that name. Raises InputError naming the legal ones and the nearest match."""
    return importlib.import_module(f"{__name__}.{check_name(name, law_names(), 'law')}").LAW
