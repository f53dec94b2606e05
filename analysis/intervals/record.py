"""Intervals that cover, written into the record of a fit: points on one curve are not independent, runs are.

The amplitude and the scale of a law's k(N) get the inverted F test on slopes with the law's own shape
(`analysis.intervals.law_test`), other parameters a profile (`analysis.intervals.profile`) or, where there are many
runs, a bootstrap over runs.

Measured coverage of the default over simulated studies with 4 to 7 sizes: 94-99 %. Blind to a plateau in the curves,
to a floor of the loss, and to the choice of questions: see the flags of `add_intervals`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.fitting.general import solve_near
from analysis.fitting.points import Points
from analysis.fitting.record import Fit
from analysis.fitting.solve import solve
from analysis.intervals.coverage import coverage
from analysis.intervals.law_test import LEVEL, LawTest
from analysis.intervals.missed_sizes import missed_sizes
from analysis.intervals.outlier import Outlier, outlier
from analysis.intervals.profile import ProfileTest, profile_tests
from analysis.intervals.run_lines import RunLines
from analysis.intervals.run_test import RunTest, efficiency_intervals, run_test
from analysis.intervals.shape import NoShape, Shape
from analysis.intervals.verdict import FLAWED, verdict_of
from analysis.laws import Law
from analysis.words import joined

MANY_RUNS = 30  # runs beyond the number of parameters from which their scatter alone gives an interval
QUESTIONS = (0.035, 0.05)  # relative sd of a saturating k(N)'s amplitude and scale from the choice of 500 questions


# ---------------------------------------------------------------- into the record


def add_intervals(fit: Fit, law_exact: bool = False, self_test: bool = False, parameters: bool = False) -> Fit:
    """Fill in the intervals, standard errors and flags of a fit's record; returns the fit.

    A shared parameter is `identified` where its interval exists, is closed at both ends, and the optimum is not at a
    bound. `stderr` is the run-level Wald error: a size of the uncertainty, not the interval. With `parameters` also
    those of laws that are not lines: profile intervals (`analysis.profile`), some seconds.
    """
    assert fit.points is not None and fit.solution is not None
    record, warnings = fit.record, fit.record["warnings"]
    _add_verdict(fit)
    if fit.solution.covariance is not None:
        _add_errors(record, *fit.solution.covariance)
    many = len(fit.points.runs) - record["goodness"]["n_parameters"] >= MANY_RUNS
    bootstrapped = many and fit.law.predicts_unseen and fit.law.shape is None
    basis = None  # of the parameters that are not tested on slopes
    if bootstrapped:
        _add_bootstrap(fit)
    elif parameters and not fit.law.closed_form:
        tests, basis = profile_tests(fit.points, fit.law, fit.solution)
        if tests:
            _add_profiles(fit, tests)
        else:
            names = [p.name for p in fit.law.parameters if p.name not in fit.law.tested_on_slopes]
            warnings.append(f"no interval for {', '.join(names)}: {basis}")
            basis = f"none: {basis}"
    if not any(np.ptp(fit.points.x[fit.points.run == i]) > 0 for i in range(len(fit.points.runs))):
        record["intervals"] = {
            "method": "percentile bootstrap over runs, 95 %" if bootstrapped else "none: no run has two points",
            "misfit": None, "degrees_of_freedom": None,
            "per_size_basis": "none", "parameters_basis": basis, "misfit_p": None, "curvature_z": None, "open": [],
            "questions": "each run is taken as independent",
        }  # fmt: skip
        return fit
    fit.test = test = run_test(fit.points, fit.law, law_exact)
    has_slopes = fit.law.shape is not None
    record["intervals"] = {
        "method": _method(fit.law, bootstrapped),
        "misfit": "law exact" if law_exact else "sizes may miss the law a little",
        "per_size_basis": test.basis,
        "parameters_basis": basis,
        "degrees_of_freedom": None if test.law is None else test.law.df,
        "misfit_p": None,
        "curvature_z": None if math.isnan(test.lines.curvature) else test.lines.curvature,
        "open": [],
        "questions": _questions(fit.law, test.lines),
    }
    for row, interval in zip(record["per_size"], _by_size(fit.points, test), strict=True):
        row["efficiency_ci95"] = None if interval is None else list(interval)
    outside = [
        _short(row["num_params"]) for row in record["per_size"]
        if row["efficiency_ci95"] is not None and not _holds(row["efficiency_ci95"], row["efficiency"])
    ]  # fmt: skip
    if outside:
        warnings.append(
            f"k of N = {', '.join(outside)} is outside the interval that its runs give: its curve is no line, or its "
            "losses are near 1, where a count weighs a point most"
        )
    if test.law is not None:
        _add_law_intervals(record, fit.law, test.law)
        if (unlike := outlier(test.lines, test.law)) is not None:
            _add_outlier(fit, unlike)
    elif has_slopes:
        warnings.append(f"{len(test.lines.runs)} runs: no interval, an interval needs three runs at two sizes or more")
    if np.bincount(test.lines.size).max() == 1:
        if test.law is not None:
            warnings.append(f"one run per size: assumes the law, {test.law.df} degrees of freedom")
        elif has_slopes:
            warnings.append("one run per size and fewer than three runs: no interval")
        elif fit.law.slope is not None:
            warnings.append(f"no interval of a slope: {test.basis.removeprefix('none: ')}")
    held = record["held_out"]
    if held is not None and held.get("efficiency_law") is not None and test.law is not None:
        held["efficiency_law_ci95"] = list(test.law.efficiency_interval(held["num_params"]))
    if self_test:
        record["intervals"]["coverage"] = coverage(fit, seed=record["seed"])
    return fit


def _add_verdict(fit: Fit) -> None:
    """Whether the law describes the curves, before any of its parameters."""
    assert fit.points is not None and fit.solution is not None
    try:
        fit.shape = Shape(fit.points, fit.law, fit.solution)
    except NoShape:
        fit.shape = None
    points, law, missed = fit.points, fit.law, np.zeros(0, bool)
    if law.shared and not law.closed_form and len(points.sizes) > 1:
        missed = missed_sizes(points, law, fit.solution)
    names = [_short(size) for size in points.sizes[np.flatnonzero(missed)]]
    straight = law.slope is not None
    verdict = verdict_of(fit.shape, fit.record["goodness"]["r2_within"], straight, names, len(points.sizes))
    fit.record["verdict"] = dict(verdict)
    if verdict["verdict"] in FLAWED:
        fit.warnings.insert(0, f"verdict: {verdict['text']}")


def _method(law: Law, bootstrapped: bool) -> str:
    """How the intervals of the shared parameters are made, and of those of each size."""
    if law.shape is not None:
        return "inverted profile F test on the slopes of runs, 95 %"
    if bootstrapped:
        return "percentile bootstrap over runs, 95 %"
    if law.closed_form:
        return f"t test of each {law.each}'s slope over its runs, 95 %"
    return "profile of the law's curve by the scatter of runs, 95 %"


def _add_errors(record: dict[str, Any], names: list[str], covariance: np.ndarray) -> None:
    """Standard errors of shared parameters from the scatter of runs about the law; of a scale from that of its log."""
    for name, variance in zip(names, np.diag(covariance), strict=True):
        error, entry = math.sqrt(max(float(variance), 0.0)), record["values"][name]
        entry["stderr"] = error * entry["value"] if entry["log_scale"] else error


def _add_bootstrap(fit: Fit, draws: int = 300) -> None:
    """Percentile intervals from fits to runs drawn with replacement: for laws without parameters of each size, where
    there are many runs and most of the information is between them."""
    points, values = fit.points, fit.values
    assert points is not None
    known = {name: entry["value"] for name, entry in values.items()}
    at = [np.flatnonzero(points.run == i) for i in range(len(points.runs))]
    rng = np.random.default_rng([fit.record["seed"], 1])
    drawn_values: dict[str, list[float]] = {name: [] for name in values}
    for _ in range(draws):
        drawn = points.draw([at[i] for i in rng.integers(len(at), size=len(at))])
        for name, value in solve_near(drawn, fit.law, fit.record["objective"], known).items():
            drawn_values[name].append(value)
    for name, entry in values.items():
        if "fixed" in entry:
            continue
        low, high = np.quantile(drawn_values[name], (LEVEL / 2, 1 - LEVEL / 2))
        entry["ci95"], entry["stderr"] = [float(low), float(high)], float(np.std(drawn_values[name], ddof=1))
        entry["identified"] = not entry["at_bound"]


def _add_profiles(fit: Fit, tests: Sequence[ProfileTest]) -> None:
    """Profile intervals of the parameters that are not tested on slopes, shared and of each size."""
    missed = set()
    for size, test in enumerate(tests):
        for entry, (parameter, i) in enumerate(test.problem.slots):
            if parameter.name in fit.law.tested_on_slopes or parameter.fixed:
                continue
            ends = test.interval(entry)
            if parameter.per_size:
                row = fit.per_size[i if fit.law.shared else size]
                row["values_ci95"][parameter.name] = list(ends)
                value = row["values"][parameter.name]
            else:
                of = fit.values[parameter.name]
                of["ci95"], value = list(ends), of["value"]
                of["identified"] = None not in ends and not of["at_bound"] and _holds(ends, value)
            if not _holds(ends, value):
                missed.add(parameter.name)
    if missed:
        outside = "are outside the intervals that weigh" if len(missed) > 1 else "is outside the interval that weighs"
        fit.record["warnings"].append(
            f"{joined(sorted(missed))} of the fit {outside} runs by their scatter: the law misses, or the optimum is "
            "not unique"
        )


def _holds(ends: Sequence[float | None], value: float) -> bool:
    """Whether a value is inside an interval, up to rounding."""
    return all(end is None or (end - value) * side >= -1e-6 * abs(value)
               for end, side in zip(ends, (-1, 1), strict=True))  # fmt: skip


def _by_size(points: Points, test: RunTest) -> list[tuple[float, float] | None]:
    """The intervals per size in the order of the fit's sizes; None for a size without a line."""
    by_size = dict(zip(test.lines.sizes, efficiency_intervals(test), strict=True))
    return [by_size.get(size) for size in points.sizes]


def _add_law_intervals(record: dict[str, Any], law: Law, test: LawTest) -> None:
    values, warnings = record["values"], record["warnings"]
    amplitude, scale = (values[name] for name in law.tested_on_slopes)
    big, small = (law.symbols[name] for name in law.tested_on_slopes)
    for entry, ends in ((amplitude, test.efficiency_interval), (scale, test.scale_interval)):
        if "fixed" not in entry:
            entry["ci95"] = list(ends())
    covariance = test.covariance(amplitude["value"], scale["value"]) if amplitude["value"] > 0 else None
    if covariance is not None:
        amplitude["stderr"], scale["stderr"] = math.sqrt(covariance[0, 0]), scale["value"] * math.sqrt(covariance[1, 1])
    for symbol, entry in ((big, amplitude), (small, scale)):
        if "fixed" in entry:
            continue
        entry["identified"] = None not in entry["ci95"] and not entry["at_bound"]
        if not _holds(entry["ci95"], entry["value"]):
            entry["identified"] = False
            at_bound = any(value["at_bound"] for value in (amplitude, scale))
            warnings.append(
                f"{symbol} of the fit is outside the interval that the slopes of the runs give without these bounds: "
                "the bound holds it there"
                if at_bound
                else f"{symbol} of the fit is outside the interval that the slopes of the runs give: the law misses"
            )
    low, high = scale["ci95"]
    opened = record["intervals"]["open"]
    show = _short if scale["unit"] == "parameters" else "{:.3g}".format
    flat, steep = (f": {words}" if words else "" for words in test.far_shapes())
    if high is None and low is not None:
        opened.append(f"{small} > {show(low)}, no upper bound{steep}")
    if low is None and high is not None:
        opened.append(f"{small} < {show(high)}, no lower bound{flat}")
    if low is None and high is None:
        opened.append(f"{small} has no bound on either side: the slopes say nothing about it")
    low, high = amplitude["ci95"]
    if high is None:
        opened.append(f"{big} has no upper bound")
    if low is None:
        opened.append(f"{big} has no lower bound above 0")
    warnings += opened
    p = record["intervals"]["misfit_p"] = test.misfit_p()
    if p is not None and p < LEVEL:
        warnings.append(f"differences between sizes exceed seed noise: k(N) misses some of them (p = {p:.2g})")


def _add_outlier(fit: Fit, outlier: Outlier) -> None:
    """Name a run that is unlike the others, with the law's values without it."""
    record, points, law = fit.record, fit.points, fit.law
    assert points is not None
    without = solve(points.take(np.array(points.runs)[points.run] != outlier.run), law, record["objective"]).values
    shown = [
        f"{law.symbols[name]} {without[name]:.3g} (with it {fit.values[name]['value']:.3g})"
        for name in law.tested_on_slopes
    ]
    name = dict(zip(record["runs"], record["run_names"], strict=True)).get(outlier.run, outlier.run)
    record["intervals"]["outlying_run"] = {
        "run": outlier.run, "num_params": outlier.num_params, "slope": outlier.slope, "expected": outlier.expected,
        "distance": outlier.distance, "p": outlier.p,
        "values_without": {name: float(without[name]) for name in law.tested_on_slopes},
    }  # fmt: skip
    record["warnings"].append(
        f"run {name} (N = {_short(outlier.num_params)}) is unlike the others: its slope {outlier.slope:.3g} is "
        f"{abs(outlier.distance):.3g} standard deviations from {outlier.expected:.3g}, the law by the other runs "
        f"(p = {outlier.p:.2g}); without it {', '.join(shown)}; look at its curve, it may have collapsed"
    )


def _short(size: float) -> str:
    """32e9, 864e6, 5,296."""
    power = next((power for power in (12, 9, 6) if size >= 10**power), 0)
    return f"{size / 10**power:.3g}e{power}" if power else f"{size:,.0f}"


def _questions(law: Law, lines: RunLines) -> str:
    """What the test set leaves open; how much was measured for the parameters of the saturating k(N) alone."""
    text = "intervals hold for this set of test questions"
    if not law.saturates:
        return text
    known = lines.trials[np.isfinite(lines.trials)]
    factor = math.sqrt(500 / float(np.median(known))) if len(known) else 1.0
    unknown = "" if len(known) else " (500 questions assumed)"
    shares = " and ".join(
        f"{100 * sd * factor:.2g} % of {law.symbols[name]}"
        for sd, name in zip(QUESTIONS, law.tested_on_slopes, strict=True)
    )
    return f"{text}; for new questions add in quadrature about {shares}{unknown}"
