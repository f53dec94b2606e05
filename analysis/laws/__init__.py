"""The laws, one file each: a formula, named parameters with units, bounds and symbols, a citation.

Sizes never appear in a law. A file `NAME.py` in this folder that defines `LAW = Law(...)` is a law: it gets the
contract tests, the choice on the command line, intervals of its own, its page and a row in the tables. Single letters
are used only inside formulas (glossary: N, X, L, k, E).
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import expit

from scaling.schema import InputError, check_name

TINY = 1e-12  # least loss of a formula that can fall below 0


@dataclass(frozen=True)
class Parameter:
    """One named parameter.

    Fields:
        bounds: (low, high); with `of_size`, low is in units of the smallest and high of the largest size of the data;
            with `of_x`, the same of X. Such scales are positive and are searched on a log axis.
        published: the bounds that the source of the law used, an option of the fit.
        chosen: the bounds of a user, in the parameter's own unit, before all others; both ends equal where it is fixed.
        per_size: one value for each size; such a parameter says nothing about a size that was not fitted.
        linear: the curve is linear in it, so a fit eliminates it in closed form.
        starts: where a search begins, for a parameter that is not linear: values, or with `of_size` and `of_x`
            positions between the smallest (0) and the largest (1) on a log axis.
        at_x, at_size: the exponents of X and of N, by name, that give the parameter its unit: the amplitude of a power
            law in X is its part of the loss at X = 1, far from the data. A fit searches for that part at the middle of
            the data, so the unit of X does not matter.
        symbol: what pages call it, a letter and its subscript without a mark between them: `Kmax`, `N0`. By default the
            name.
    """

    name: str
    unit: str
    meaning: str
    bounds: tuple[float, float]
    of_size: bool = False
    of_x: bool = False
    published: tuple[float, float] | None = None
    chosen: tuple[float, float] | None = None
    per_size: bool = False
    linear: bool = False
    starts: tuple[float, ...] = ()
    at_x: str = ""
    at_size: str = ""
    symbol: str = ""

    def __post_init__(self) -> None:
        if not self.symbol:
            object.__setattr__(self, "symbol", self.name)

    @property
    def scale(self) -> bool:
        return self.of_size or self.of_x

    @property
    def fixed(self) -> bool:
        return self.chosen is not None and self.chosen[0] == self.chosen[1]

    def limits(self, sizes: np.ndarray, published: bool = False, x: np.ndarray | None = None) -> tuple[float, float]:
        """Bounds in the parameter's own unit for data with these sizes and, for `of_x`, these X."""
        if self.chosen is not None:
            return self.chosen
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
        slope: for laws whose curves are straight lines in (ln X, ln L): k as a function of (N, values). A law with a
            `shape` need not give it.
        shape: for laws whose k(N) is an amplitude, 0 or above, times a function of N with one positive parameter: that
            function of (N, scale), with `amplitude` and `scale` the names of the two. Their intervals are then those of
            the test of runs (`analysis.intervals.law_test`); every other parameter has a profile.
        by_scale: derivative of k(N) by ln scale as a function of (N, amplitude, scale); by differences where None.
        saturates: k(N) tends to the amplitude as N grows and is half of it at N = scale: then pages speak of a limit.
        x: the columns that may be the law's horizontal axis where the user names none; the first that is present.
        group: the column that takes the place of N, "" for the size itself. each, letter: the name and the symbol of
            what stands there.
        columns: what else a point must have, by name (see `analysis.fitting.points.select_points`).
        axes: two columns that the law ties together; its X is their mean on a log axis, the second brought to the
            first by its median ratio.
        level_at_one: its level is a formula of N at X = 1: in another unit of X it is another law, and a fit says so.
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
    by_scale: Callable[..., np.ndarray] | None = None
    saturates: bool = False
    x: tuple[str, ...] = ("train_flops",)
    group: str = ""
    each: str = "size"
    letter: str = "N"
    columns: tuple[str, ...] = ()
    axes: tuple[str, str] | None = None
    cross_entropy: bool = False
    level_at_one: bool = False

    def __post_init__(self) -> None:
        if self.shape is None:
            return
        shared = {parameter.name: parameter for parameter in self.shared}
        if self.amplitude not in shared or self.scale not in shared:
            raise ValueError(f"law {self.name}: shape needs amplitude and scale, the names of two shared parameters.")
        if shared[self.amplitude].bounds[0] < 0 or shared[self.scale].bounds[0] <= 0:
            raise ValueError(
                f"law {self.name}: the test of slopes wants bounds of {self.amplitude} from 0 on and of {self.scale} "
                "above 0; a law of another kind gives slope and no shape, and its parameters have profile intervals."
            )
        if self.slope is None:
            object.__setattr__(self, "slope", lambda n, v: v[self.amplitude] * self.shape(n, v[self.scale]))  # type: ignore[misc]

    def ln_loss(self, num_params, x, values: dict, **columns):
        """ln of the loss. num_params, x and the per-size values broadcast; x is X itself, not its log."""
        curve = self.curve(num_params, x, values, **columns)
        return curve if self.link == "log" else np.log(np.maximum(curve, TINY))

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
    def slope_of_any_size(self) -> bool:
        """Whether k(N) is known for a size that was not fitted: straight lines whose levels alone are free."""
        return self.slope is not None and all(p.name == "intercept" for p in self.parameters if p.per_size)

    @property
    def of_data(self) -> bool:
        """Whether X is the amount of data, and not any axis of cost."""
        return self.x == DATA

    @property
    def closed_form(self) -> bool:
        """Straight lines with a free level per size: levels and amplitude in closed form, a 1-D search at most."""
        shared, each = ({p.name for p in self.parameters if p.per_size == per_size} for per_size in (False, True))
        if self.shape is not None:
            return shared == {self.amplitude, self.scale} and each == {"intercept"}
        return self.slope is not None and not shared and each == {"efficiency", "intercept"}

    def meaning(self, parameter: Parameter) -> str:
        """What a parameter of this law is; of a k(N) that saturates the scale is where it is half of its limit."""
        if self.saturates and parameter.name == self.scale:
            return f"{parameter.meaning}: the size at which k = {self.amplitude} / 2"
        return parameter.meaning

    def parameter(self, name: str) -> Parameter:
        return next(parameter for parameter in self.parameters if parameter.name == name)

    @property
    def symbols(self) -> dict[str, str]:
        """Symbol by name of parameter, in the law's order."""
        return {parameter.name: parameter.symbol for parameter in self.parameters}

    @property
    def tested_on_slopes(self) -> tuple[str, ...]:
        """The parameters whose intervals are those of the test of runs; the others have profile intervals."""
        return (self.amplitude, self.scale) if self.shape is not None else ()


def within(law: Law, chosen: Mapping[str, tuple[float, float]]) -> Law:
    """The law with bounds that a user chose, in the parameters' own units; (v, v) fixes a parameter at v.

    Raises InputError for a name that is no parameter of the law, and for bounds that its range does not hold.
    """
    parameters = {parameter.name: parameter for parameter in law.parameters}
    for name, (low, high) in chosen.items():
        parameter = parameters[check_name(name, parameters, f"parameter of law {law.name}")]
        least, most = (0.0, math.inf) if parameter.scale else parameter.bounds
        if not least <= low <= high <= most or (parameter.scale and (low == 0 or high == math.inf)):
            legal = "above 0 and finite" if parameter.scale else f"from {least:g} to {most:g}"
            raise InputError(
                f"{name} of law {law.name} cannot be {low:g}:{high:g}: both ends must be {legal}, the lower one first."
            )
        # Such bounds are of the parameter itself: no other may move its unit.
        parameters[name] = replace(parameter, chosen=(low, high), at_x="", at_size="")
    return replace(law, parameters=tuple(parameters.values()))


def saturation(n, scale):
    """N / (N + scale), in [0, 1]: the shape of k(N), and of a level that saturates."""
    return 1 / (1 + scale / n)


SIGMOID = (
    Parameter("r0", "1", "pass rate before training", (0.0, 1.0), per_size=True, linear=True, symbol="R0"),
    Parameter("a", "1", "pass rate without end of compute", (0.0, 1.0), per_size=True, linear=True, symbol="Rmax"),
    Parameter(
        "c_mid", "unit of X", "X at half of the way", (1e-2, 1e4), of_x=True, per_size=True, starts=(0.3, 0.7, 1.2),
        symbol="Xmid",
    ),
    Parameter("b", "1", "steepness", (0.05, 10.0), per_size=True, starts=(0.5, 1.5), symbol="B"),
)  # fmt: skip


def sigmoid_rate(x, values):
    """r0 + (a - r0) / (1 + (c_mid / X)^b), the curve of SIGMOID: a sigmoid in ln X."""
    gone = 1 / (1 + (values["c_mid"] / x) ** values["b"])  # share of the way from r0 to a
    return values["r0"] * (1 - gone) + values["a"] * gone


def odds_of_size(n, values, name):
    """A rate whose log odds are straight in ln N: `name_at` at N = 1e9, rising by `name_by`."""
    return expit(values[f"{name}_at"] + values[f"{name}_by"] * np.log(n / 1e9))


BOTH = (-math.inf, math.inf)
# The rate before training of the curves across sizes.
R0_OF_SIZE = (
    Parameter("r0_at", "1", "log odds of the pass rate before training at N = 1e9", BOTH, starts=(-1.5,)),
    Parameter("r0_by", "1", "rise of the log odds before training per ln N", (-5.0, 5.0), starts=(0.1,)),
)
R_STAR = Parameter(
    "r_star", "1", "repeats after which a repeat is worth 1/e", (0.05, 1e4), symbol="R*", starts=(3.0, 30.0)
)


def effective(x, reuse, r_star):
    """The distinct data that would do as well as these with repeats (Muennighoff et al., arXiv 2305.16264)."""
    return x / reuse * (1 - r_star * np.expm1(-(reuse - 1) / r_star))


def saturating_slope(n, values):
    """k(N) = k_max / (1 + n0/N)."""
    return values["k_max"] * saturation(n, values["n0"])


# The slope of the laws of learning efficiency (Tan et al., arXiv 2509.25300).
K_MAX = Parameter(
    "k_max", "1", "learning efficiency as N grows without bound", (0.0, math.inf), published=(0.0, 2.0), linear=True,
    symbol="Kmax",
)  # fmt: skip
N0 = Parameter(
    "n0", "parameters", "scale of N in k(N)", (1e-3, 1e3), of_size=True, published=(0.1e9, 100e9),
    starts=(-0.5, 0.5, 1.5), symbol="N0",
)  # fmt: skip
SATURATING: dict[str, Any] = {
    "slope": saturating_slope,
    "shape": saturation,
    "amplitude": "k_max",
    "scale": "n0",
    "by_scale": lambda n, k_max, n0: -k_max * (f := saturation(n, n0)) * (1 - f),
    "saturates": True,
}
DATA = ("prompts_seen", "tokens_seen", "train_flops")  # axes of laws of data; compute only where the data are unknown


_of_users: dict[str, Law] = {}  # laws that were given in place of a name, in this process


def give(law: Law | Callable[..., Any]) -> str:
    """Make a law that is a `Law` or a function known by its name, which is returned. Raises InputError."""
    from analysis.laws._given import law_of

    given = law if isinstance(law, Law) else law_of(law)
    if given.name in law_names():
        raise InputError(f"law {given.name} is the name of a shipped law; give yours another name.")
    _of_users[given.name] = given
    return given.name


def law_names() -> list[str]:
    """Names of the laws: the modules of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def get_law(name: str) -> Law:
    """The law of that name. Raises InputError naming the legal ones and the nearest match."""
    if name in _of_users:
        return _of_users[name]
    return importlib.import_module(f"{__name__}.{check_name(name, law_names(), 'law')}").LAW
