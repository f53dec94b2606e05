"""Curves to laws: load learning curves, fit scaling laws with intervals that cover, draw and report them.

import analysis
study = analysis.load("studies/quickstart")
fit = analysis.fit(study, law="efficiency", x="train_flops", where="algorithm == grpo")
fit.values, fit.frame(), fit.plot()
analysis.forecast(study, size=1e6, at=[1e12]), analysis.frontier(study), analysis.compare(study, by="algorithm")
analysis.report(study)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from analysis.curves.check import make_curves
from analysis.curves.frame import Curves
from analysis.curves.load import load
from analysis.fitting.record import Fit
from analysis.intervals.fitted import Fits, fit, save_in_study
from analysis.intervals.means import paired_difference
from analysis.questions.forecast import forecast
from analysis.questions.frontier import frontier
from analysis.questions.laws import compare_laws
from analysis.questions.pairs import compare_by
from analysis.questions.scores import score_protocols
from scaling.schema import InputError

__all__ = [
    "Curves", "Fit", "Fits", "compare", "compare_by", "compare_laws", "fit", "forecast", "frontier", "load",
    "make_curves", "paired_difference", "report", "save_in_study", "score_protocols",
]  # fmt: skip


def compare(source: str | Path | Curves, laws: list[str] | None = None, by: str | None = None, **choices: Any) -> Any:
    """`compare_laws` of the laws that are named, or `compare_by` of the column that is. Raises InputError for neither
    and for both."""
    if (laws is None) == (by is None):
        raise InputError("compare: give either laws, e.g. ['efficiency', 'sigmoid'], or by, e.g. 'algorithm'.")
    return compare_by(source, by, **choices) if by is not None else compare_laws(source, laws or [], **choices)


def report(source: str | Path, out: str | Path | None = None) -> Path:
    """Write the report; see `analysis.reporting.report`. It is loaded here, because it draws."""
    from analysis.reporting import report as write

    return write(source, None if out is None else Path(out))


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
