"""The laws, one file each: a formula, named parameters with units and bounds, a citation. Sizes never appear in one.

A file `NAME.py` in this folder that defines `LAW = Law(...)` is a law: it gets the contract tests, the choice on the
command line and a row in the tables. Single letters are used only inside formulas (glossary: N, X, L, k, E).
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scaling.schema import check_name

TINY = 1e-12  # least loss of a formula that can fall below 0


@dataclass(frozen=True)
class Parameter:
    """One named parameter.

    Fields:
        bounds: (low, high); with `of_size`, low is in units of the smallest and high of the largest size of the data;
            with `of_x`, the same of X. Such scales are positive and are searched on a log axis.
        published: the bounds that the source of the law used, an option of the fit.
        per_size: one value for each size; such a parameter says nothing about a size that was not fitted.
        linear: the curve is linear in it, so a fit eliminates it in closed form.
        starts: where a search begins, for a parameter that is not linear: values, or with `of_size` and `of_x`
            positions between the smallest (0) and the largest (1) on a log axis.
    """

    name: str
    unit: str
    meaning: str
    bounds: tuple[float, float]
    of_size: bool = False
    of_x: bool = False
    published: tuple[float, float] | None = None
    per_size: bool = False
    linear: bool = False
    starts: tuple[float, ...] = ()

    @property
    def scale(self) -> bool:
        return self.of_size or self.of_x

    def limits(self, sizes: np.ndarray, published: bool = False, x: np.ndarray | None = None) -> tuple[float, float]:
        """Bounds in the parameter's own unit for data with these sizes and, for `of_x`, these X."""
        if published and self.published is not None:
            return self.published
        low, high = self.bounds
        if not self.scale:
            return low, high
        of = np.asarray(sizes if self.of_size else np.ones(1) if x is None else x)
        return low * float(np.min(of)), high * float(np.max(of))

    def start_values(self, sizes: np.ndarray, x: np.ndarray) -> list[float]:
        """The starts in the parameter's own unit."""
        if not self.scale:
            return list(self.starts)
        low, high = np.log(np.min(of := sizes if self.of_size else x)), np.log(np.max(of))
        return [float(np.exp(low + share * (high - low))) for share in self.starts]


@dataclass(frozen=True)
class Law:
    """A law L(N, X): a formula and named parameters.

    Fields:
        curve: the formula as a function of (N, X, values), and of `columns` by keyword; arrays broadcast. It returns
            ln L with link "log" and L with link "identity": the scale on which its linear parameters are linear.
        predicts: in words, what it can predict besides the points that were fitted.
        slope: for laws whose curves are straight lines in (ln X, ln L): k as a function of (N, values).
        shape: for laws whose slope is an amplitude times a function of N with one scale parameter: that function of
            (N, scale), with `amplitude` and `scale` the names of the two. None where each size has its own k.
        group: the column that takes the place of N, "" for the size itself.
        columns: what else a point must have, by name (see `analysis.fitting.points.select_points`).
        axes: two columns that the law ties together; its X is their mean on a log axis, the second brought to the
            first by its median ratio.
        cross_entropy: the loss may be a cross-entropy in nats instead of an error rate.
    """

    name: str
    formula: str
    citation: str
    parameters: tuple[Parameter, ...]
    curve: Callable[..., np.ndarray]
    predicts: str
    link: str = "log"
    slope: Callable[..., np.ndarray] | None = None
    shape: Callable[..., np.ndarray] | None = None
    amplitude: str = ""
    scale: str = ""
    group: str = ""
    columns: tuple[str, ...] = ()
    axes: tuple[str, str] | None = None
    cross_entropy: bool = False

    def ln_loss(self, num_params, x, values: dict, **columns):
        """ln of the loss. num_params, x and the per-size values broadcast; x is X itself, not its log."""
        found = self.curve(num_params, x, values, **columns)
        return found if self.link == "log" else np.log(np.maximum(found, TINY))

    def efficiency(self, num_params, x, values: dict, **columns):
        """-d ln L / d ln X at X: k(N) where the law has straight lines."""
        if self.slope is not None:
            return self.slope(num_params, values)
        up, down = (self.ln_loss(num_params, np.multiply(x, np.exp(h)), values, **columns) for h in (1e-5, -1e-5))
        return (down - up) / 2e-5

    @property
    def shared(self) -> tuple[Parameter, ...]:
        """The parameters that all sizes share."""
        return tuple(parameter for parameter in self.parameters if not parameter.per_size)

    @property
    def predicts_unseen(self) -> bool:
        """Whether a size that was not fitted has a predicted loss."""
        return not any(parameter.per_size for parameter in self.parameters)

    @property
    def closed_form(self) -> bool:
        """Straight lines with a free level per size: levels and amplitude in closed form, a 1-D search at most."""
        return self.slope is not None and any(p.per_size and p.name == "intercept" for p in self.parameters)


def saturation(n, scale):
    """N / (N + scale), in [0, 1]: the shape of k(N), and of a level that saturates."""
    return 1 / (1 + scale / n)


SIGMOID = (
    Parameter("r0", "1", "pass rate before training", (0.0, 1.0), per_size=True, linear=True),
    Parameter("a", "1", "pass rate without end of compute", (0.0, 1.0), per_size=True, linear=True),
    Parameter(
        "c_mid", "unit of X", "X at half of the way", (1e-2, 1e4), of_x=True, per_size=True, starts=(0.3, 0.7, 1.2)
    ),
    Parameter("b", "1", "steepness", (0.05, 10.0), per_size=True, starts=(0.5, 1.5)),
)


def sigmoid_rate(x, values):
    """r0 + (a - r0) / (1 + (c_mid / X)^b), the curve of SIGMOID: a sigmoid in ln X."""
    gone = 1 / (1 + (values["c_mid"] / x) ** values["b"])  # share of the way from r0 to a
    return values["r0"] * (1 - gone) + values["a"] * gone


def saturating_slope(n, values):
    """k(N) = k_max / (1 + n0/N)."""
    return values["k_max"] * saturation(n, values["n0"])


# The slope of the laws of learning efficiency (Tan et al., arXiv 2509.25300).
K_MAX = Parameter(
    "k_max", "1", "learning efficiency as N grows without bound", (0.0, math.inf), published=(0.0, 2.0), linear=True
)
N0 = Parameter(
    "n0", "parameters", "size at which k = k_max / 2", (1e-3, 1e3), of_size=True, published=(0.1e9, 100e9),
    starts=(-0.5, 0.5, 1.5),
)  # fmt: skip


def law_names() -> list[str]:
    """Names of the laws: the modules of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def get_law(name: str) -> Law:
    """The law of that name. Raises InputError naming the legal ones and the nearest match."""
    return importlib.import_module(f"{__name__}.{check_name(name, law_names(), 'law')}").LAW
