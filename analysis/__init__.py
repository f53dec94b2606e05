"""Curves to laws: load learning curves, fit scaling laws with intervals that cover, draw and report them.

import analysis
study = analysis.load("studies/quickstart")
fit = analysis.fit(study, law="efficiency", x="train_flops", where="algorithm == grpo")
fit.values, fit.frame(), fit.plot()
analysis.forecast(study, 1e6, at=[1e12]), analysis.frontier(study), analysis.compare(study, by="algorithm")
analysis.report(study)
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Unpack, overload

from analysis.curves.check import make_curves
from analysis.curves.frame import Curves
from analysis.curves.load import load
from analysis.fitting.choices import (
    EXAMPLES,
    Choices,
    Given,
    check_number,
    check_several,
    check_text,
    choose,
    choose_for,
)
from analysis.fitting.record import Fit
from analysis.intervals.fitted import Fits, fit_groups, fit_with_intervals, save_in_study
from analysis.intervals.means import paired_difference
from analysis.questions import asymptote as _asymptote
from analysis.questions import forecast as _forecast
from analysis.questions import frontier as _frontier
from analysis.questions import laws as _laws
from analysis.questions import pairs as _pairs
from analysis.questions import scores as _scores
from scaling.schema import InputError

__all__ = [
    "Choices", "Curves", "Fit", "Fits", "asymptote", "compare", "compare_by", "compare_laws", "fit", "forecast",
    "frontier", "load", "make_curves", "paired_difference", "report", "save_in_study", "score_protocols",
]  # fmt: skip

Source = str | Path | Curves


@overload
def fit(
    source: Source,
    *,
    by: None = None,
    law_exact: bool = False,
    coverage: bool = False,
    parameters: bool = True,
    **given: Unpack[Given],
) -> Fit: ...
@overload
def fit(
    source: Source,
    *,
    by: str,
    law_exact: bool = False,
    coverage: bool = False,
    parameters: bool = True,
    **given: Unpack[Given],
) -> Fits: ...
def fit(
    source: Source,
    *,
    by: str | None = None,
    law_exact: bool = False,
    coverage: bool = False,
    parameters: bool = True,
    **given: Unpack[Given],
) -> Fit | Fits:
    """Fit a law to curves, with 95 % intervals at the level of runs.

    Args:
        source: Curves, or anything that `load` takes.
        law: a name of `analysis.laws`, default efficiency; or a function of N, X and parameters that returns L,
            `def my_law(n, x, a=1.0, b: (0, 2) = 0.3): return a * x**-b` (defaults are starts, annotations bounds); or
            an `analysis.laws.Law`. x: the column on the horizontal axis, default the
            law's own: train_flops, of laws of data prompts_seen, of tau step.
        objective: log (default), binomial, linear or huber (see `analysis.fitting.choices`).
        where: which rows, e.g. `num_params <= 32e9 and algorithm == grpo`. A study's own section does not count here:
            the commands and `report` add to it, and take `where_only` for a condition in its place.
        by: a column; each of its values is fitted on its own.
        steps: "A:B", the steps A to B, both included. points: "A:B", a slice of each curve after step 0 is dropped.
        split: none (default), inter or intra:FRACTION; held-out points are scored and never fitted.
        size_column: what N is; default `num_params_non_embedding` where present, else `num_params`.
        seed: of random numbers: the self-test draws studies, fits draw none.
        bounds: None, or "published" for the bounds of the law's source.
        fix, bound: parameters held at a value or between two, in their own units: {"n0": 13e9}, {"k_max": (0, 2)}, or
            the text of the command line.
        law_exact: narrower intervals that are right only if the sizes follow the law exactly.
        coverage: run the self-test of the intervals and put what it measured beside them (some seconds).
        parameters: also intervals of the parameters of laws that are not lines (up to some seconds).

    Returns:
        A Fit; with `by` a Fits, {value: Fit}.
    """
    curves, choices = load(source), choose(given)
    if by is not None:
        check_text("by", by, EXAMPLES["by"])
        return fit_groups(curves, choices, by, law_exact=law_exact, coverage=coverage, parameters=parameters)
    return fit_with_intervals(curves, choices, law_exact=law_exact, coverage=coverage, parameters=parameters)


def forecast(
    source: Source, num_params: float, at: float | Sequence[float], *, calibrate: int = 0, **given: Unpack[Given]
) -> dict[str, Any]:
    """The loss of a size at X = `at`, with 95 % intervals of the mean curve and of one run as it would be measured.

    Args:
        num_params: N in the unit of the size column; at: one X or several.
        calibrate: m, the number of first points of that size (in the data, left out of the fit) that set its level.
        The others as for `fit`, without `split`.

    Returns:
        A document: `verdict` (as of a fit), `law`, `size`, `fitted_size`, `x_factor` (X beyond the fitted),
        `size_factor`, `rests_on`, `tuned_on_size`, `warnings` and `predictions`: for each X `loss` by the law,
        `ci95_mean` and `ci95_run` with the doubt about the law, `if_law_holds` the same two without it, `parts`
        {evaluation, parameters, law}: half-widths in loss whose squares add up to that of `ci95_run`; `median` of the
        mean curve where the law bends or does not describe the curves; `identified` where the interval of the mean
        curve bounds the loss to a factor of 20.

    Raises:
        InputError: where the law cannot predict, or the size has no points to calibrate on.
    """
    check_number("num_params", num_params)
    check_number("calibrate", calibrate, whole=True, least=0)
    several = [at] if isinstance(at, numbers.Real | str) else check_several("at", at, "[1e12, 1e13]")
    at = [check_number("at", one) for one in several]
    return _forecast.forecast(load(source), choose(given, without=("split",)), num_params, at, calibrate)


def score_protocols(
    source: Source, *, calibrate: int = 10, fraction: float = 0.3, **given: Unpack[Given]
) -> list[dict[str, Any]]:
    """Held-out scores of the leak-free protocols, in ln L: inter-model with the level predicted and calibrated on the
    first `calibrate` points, intra-model on the first `fraction` of each curve. The choices are those of `fit`, without
    `split`.

    Each entry: `protocol`, `tuned_on_held_out`, `n_points`, `x_factor`, `size_factor`, `rmse_ln_loss` by rule (law and
    the rules without a law), `bias_ln_loss`, `interval_coverage` (share of held-out points inside the interval of a
    measured run), `leak` (whether disturbing the held-out values moved a prediction; it must be false), or `error`.
    """
    check_number("calibrate", calibrate, whole=True, least=0)
    check_number("fraction", fraction)
    scores = _scores.score_protocols(load(source), choose(given, without=("split",)), calibrate, fraction)
    return [score.json() for score in scores]


def frontier(
    source: Source, *, target: float | None = None, replicates: Source | None = None, **given: Unpack[Given]
) -> dict[str, Any]:
    """What to do with a budget; a part that the data cannot carry is `{"error": why}`.

    Args:
        target: a test loss whose cost is wanted.
        replicates: repeated runs for the spread behind the reuse threshold, where the source repeats nothing.
        law: with a level of N it adds the continuous frontier.
        The others as for `fit`, without `split`; `where` chooses the runs of the sizes, reuse and group size use all.

    Returns:
        `sizes` {segments, switches}, `continuous`, `crossovers`, `cost`, `group_size`, `reuse`, `untrained`: the lowest
        loss before training, above which a budget only ranks base models; `verdict` and `warnings` of the fit.
    """
    if target is not None:
        check_number("target", target)
    repeated = None if replicates is None else load(replicates)
    return _frontier.frontier(load(source), choose(given, without=("split",)), target, repeated)


def compare_laws(source: Source, laws: Sequence[str], **given: Unpack[Given]) -> dict[str, Any]:
    """Held-out scores, QAIC and stacked weights of laws on the same curves, beside the rules without a law. The choices
    are those of `fit`, without `law` and `split`.

    Returns:
        `rows`: per law `rmse_rolling`, `difference` (of its mean squared error per run to the best law's, with 95 %
        interval over runs), `rmse_largest_size`, `qaic`, `weight` (stacked), `n_parameters`, `error`; `baselines`;
        `n_held_out`; `verdict`: a sentence.

    Raises:
        InputError: for fewer than two laws, an unknown law, a law of another grouping or tied axes, and where no law
        could be fitted.
    """
    names = [
        check_text("laws", name, "efficiency") for name in check_several("laws", laws, "['efficiency', 'sigmoid']")
    ]
    return _laws.compare_laws(load(source), names, choose(given, without=("law", "split", "fix", "bound")))


def compare_by(
    source: Source, by: str = "algorithm", *, baseline: str | None = None, **given: Unpack[Given]
) -> dict[str, Any]:
    """Runs that differ in one column, paired by seed at each size: what the other value changes.

    Args:
        by: a column with two values or more that is constant in a run; `baseline`: one of its values, default grpo or
        the first. Of the choices of `fit` it takes x, where, steps, points and size_column.

    Returns:
        `comparisons`: per size, condition and other value `n_pairs`, `efficiency`, `level` and `intercept` (other minus
        baseline: slope k, and ln L at the middle of the shared range of X and at X = 1; mean and 95 % interval over
        pairs) and `multiplier`:
        rows {loss, multiplier, ci95, n_pairs, identified}; above 1 the other needs that much less X for the same loss.
        `unpaired`: runs without a partner.
    """
    check_text("by", by, EXAMPLES["by"])
    baseline = None if baseline is None else str(baseline)
    return _pairs.compare_by(load(source), choose(given, without=_pairs.NO_FIT), by, baseline)


def compare(
    source: Source,
    laws: Sequence[str] | None = None,
    by: str | None = None,
    *,
    baseline: str | None = None,
    **given: Unpack[Given],
) -> dict[str, Any]:
    """`compare_laws` of the laws that are named, or `compare_by` of the column that is. Raises InputError for neither
    and for both."""
    if (laws is None) == (by is None):
        raise InputError("compare: give either laws, e.g. ['efficiency', 'sigmoid'], or by, e.g. 'algorithm'.")
    if by is not None:
        return compare_by(source, by, baseline=baseline, **given)
    if baseline is not None:
        raise InputError(f"compare: baseline {baseline!r} is a value of by; laws have none, leave it out.")
    return compare_laws(source, [] if laws is None else laws, **given)


def asymptote(
    source: Source, *, by: str | None = None, share: float = 0.5, cut: float = 0.02, **given: Unpack[Given]
) -> dict[str, Any]:
    """The pass rate that training tends to, by the protocol of ScaleRL (arXiv 2510.13786): the rate before training is
    measured, the first part of a curve left out, a sigmoid fitted to the first share of the compute.

    Args:
        by: a column, e.g. algorithm: its values are compared at each size and condition.
        share, cut: parts of the largest X of a size: the fit takes X from cut to share, the rest is predicted.
        The others as for `fit`, without `law`, `split`, `bounds`, `fix` and `bound`.

    Returns:
        `rows`: per size, value and condition (settings in which runs differ) `r0`, `asymptote` with `ci95`, `c_mid`,
        `b`, `verdict`, `rest` {x, x_factor, predicted, ci95, observed, rmse}, or `error`; `differences`: asymptotes
        other minus baseline with 95 % interval and `established`.
    """
    if by is not None:
        check_text("by", by, EXAMPLES["by"])
    check_number("share", share)
    check_number("cut", cut)
    choices = choose(given, without=("law", "split", "bounds", "fix", "bound"))
    return _asymptote.asymptotes(load(source), choices, by, share, cut)


def report(source: Source, out: str | Path | None = None, **given: Unpack[Given]) -> Path:
    """Write the report of a study folder, a table or reference data; returns the path of the page.

    Args:
        source: what `load` takes.
        out: folder for report/, figures/ and fits/; by default the study folder, else `report-NAME` in this directory.
        The others as for `fit`, over the study's own `analysis:` section; a split holds points out of the page's fits.

    Raises:
        InputError: the source cannot be read, or it has no finished run.
    """
    from analysis.reporting import report as write  # here, because it draws

    if out is not None and not isinstance(out, str | Path):
        raise InputError(f"out wants a folder, as text or a Path, not {out!r}.")
    curves = load(source)
    return write(curves, choose_for(curves, given), None if out is None else Path(out))


def _draw_fit(fit: Fit, **options: Any) -> Any:
    from analysis.figures.loss_curves import plot_fit

    return plot_fit(fit, **options)


Fit.drawer = _draw_fit

# Notebooks of version 0.1 call the functions through modules: forecast.forecast, compare.compare_laws, ...
for _face, _functions in {
    forecast: (forecast, score_protocols), frontier: (frontier,), compare: (compare_laws, compare_by),
}.items():  # fmt: skip
    for _function in _functions:
        setattr(_face, _function.__name__, _function)
