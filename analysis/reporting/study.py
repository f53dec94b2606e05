"""The study that a report is written from: its curves, the fits under the main and the other choices, what sizes,
group sizes and algorithms are compared by, and what the run folders know.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from analysis.curves.frame import Curves
from analysis.curves.load import load
from analysis.fitting.choices import Choices, choose_size_column
from analysis.fitting.record import Fit
from analysis.intervals.coverage import coverage
from analysis.intervals.fitted import fit_with_intervals
from analysis.missing import Missing, attempt, known
from analysis.questions.envelope import Envelope, envelope
from analysis.questions.finals import evaluations
from analysis.questions.groups import GroupLines, group_lines
from analysis.questions.pairs import Compared, Effects, compared_algorithms, effects
from analysis.questions.residuals import without_held_out
from analysis.reporting.choices import other_choices
from analysis.words import labels_of, size_labels
from scaling import files, record, schema
from scaling.schema import InputError

SELF_TEST_STUDIES = 200
NO_FIT = Missing("no law could be fitted.")


@dataclass(frozen=True)
class Study:
    """Everything the page is written from.

    Fields:
        choices: those of the page's own fits; law per_size where a law of sizes cannot be fitted. asked: as given.
        size_column: the column of N; labels: name of each size, by N; fit_labels: of what the law calls N.
        fits: by axis (train_flops, prompts_seen), the study's own first; no_fit: why one is missing, by axis.
        without_largest: the fit that has not seen the largest size.
        coverage: what the self-test of the main fit's intervals measured.
        compute: the fit on training compute; ladder: its envelope of sizes; groups: the lines of group sizes.
        algorithms: their final losses in pairs; pairs: their slopes and effective compute.
        alternatives: the other choices of window, objective, axis and size: (words, fit).
        configs: config.json of each run of a study, by run id.
        attempts: attempt.json of every process that wrote rows, in order of time.
        bases: base.json of the base models that the runs started from.
    """

    curves: Curves
    name: str
    choices: Choices
    asked: Choices
    size_column: str
    labels: dict[float, str]
    fits: dict[str, Fit]
    no_fit: dict[str, Missing]
    without_largest: Fit | Missing
    coverage: dict[str, Any] | Missing
    compute: Fit | Missing
    ladder: Envelope | Missing
    groups: GroupLines | Missing
    algorithms: Compared | Missing
    pairs: Effects | Missing
    alternatives: list[tuple[str, Fit | Missing]]
    configs: dict[str, dict] = field(default_factory=dict)
    attempts: list[dict] = field(default_factory=list)
    bases: list[dict] = field(default_factory=list)

    @property
    def main(self) -> Fit | None:
        """The fit of the study's own axis, else of any."""
        return next(iter(self.fits.values()), None)

    @property
    def fit_labels(self) -> dict[float, str]:
        """Names of what the law calls N: the sizes, or the values of the column that stands in their place."""
        if self.main is None or not self.main.law.group:
            return self.labels
        return labels_of(self.main.law, evaluations(self.main.curves, self.main.record["size_column"]))

    @property
    def main_axis(self) -> str:
        return next(iter(self.fits), "train_flops")

    def fit(self, axis: str | None = None) -> Fit:
        """The fit on an axis, by default the main one. Raises InputError with the reason why there is none."""
        axis = axis or self.main_axis
        return self.fits[axis] if axis in self.fits else known(self.no_fit.get(axis, NO_FIT))

    def seen(self) -> Curves:
        """The curves without what the page's split holds out."""
        return self.curves if self.main is None else without_held_out(self.curves, self.main)

    def fitted(self) -> Curves:
        """The curves that the fits use."""
        return self.choices.rows(self.seen())


def read_study(curves: Curves, choices: Choices) -> Study:
    """Fit curves and read their run folders for a report."""
    asked, column = choices, choose_size_column(curves, choices.size_column)
    labels = size_labels(evaluations(curves, column))
    fits, no_fit = fit_axes(curves, choices)
    if not fits and choices.law != "per_size":
        # A law of N needs sizes to compare; each size's own line is there without.
        choices = choices.with_law("per_size")
        fits, _ = fit_axes(curves, choices)
    main = next(iter(fits.values()), None)
    without_largest: Fit | Missing = NO_FIT
    tested: dict[str, Any] | Missing = NO_FIT
    alternatives: list[tuple[str, Fit | Missing]] = []
    if main is not None:
        without_largest = fit_without_largest(curves, choices, main)
        tested = attempt(lambda: coverage(main, SELF_TEST_STUDIES))
        alternatives = [(words, try_fit(curves, other)) for words, other in other_choices(curves, choices)]
    compute = attempt(lambda: compute_fit(curves, choices, fits, no_fit))
    return Study(
        curves=curves,
        name=curves.folder.resolve().name if curves.folder else source_name(curves.source),
        choices=choices,
        asked=asked,
        size_column=column,
        labels=labels,
        fits=fits,
        no_fit=no_fit,
        without_largest=without_largest,
        coverage=tested,
        compute=compute,
        ladder=compute if isinstance(compute, Missing) else attempt(lambda: envelope(compute)),
        groups=attempt(lambda: group_lines(companion(curves, "group_size"), choices.steps)),
        algorithms=attempt(lambda: compared_algorithms(curves)),
        pairs=attempt(lambda: effects(curves, choices, labels)),
        alternatives=alternatives,
        **read_folders(curves),
    )


def fit_axes(curves: Curves, choices: Choices) -> tuple[dict[str, Fit], dict[str, Missing]]:
    """The fits by axis, the main one first, and why an axis has none."""
    fits, no_fit = {}, {}
    law, main = choices.formula, choices.axis(curves)
    # A law that ties its axes or is one of data has no other axis.
    others = () if law.axes or law.of_data else ("train_flops", "prompts_seen")
    for axis in dict.fromkeys([main, *others]):
        fit = attempt(lambda axis=axis: fit_with_intervals(curves, replace(choices, x=axis)))
        if isinstance(fit, Missing):
            no_fit[axis] = fit
        else:
            fits[axis] = fit
    return fits, no_fit


def compute_fit(curves: Curves, choices: Choices, fits: dict[str, Fit], no_fit: dict[str, Missing]) -> Fit:
    """The fit whose sizes a budget of compute chooses among: the law's own on training compute; where the law has none
    or is not of sizes, a line of each size. Raises InputError where there is neither."""
    law = choices.formula
    if not (law.group or law.axes) and "train_flops" in fits:
        return fits["train_flops"]
    if law.group or law.axes or law.of_data:
        return fit_with_intervals(curves, replace(choices.with_law("per_size"), x="train_flops"))
    return known(no_fit.get("train_flops", NO_FIT))


def fit_without_largest(curves: Curves, choices: Choices, main: Fit) -> Fit | Missing:
    """The fit that has not seen the largest size; of a page that holds out the rest of each curve there is none."""
    if main.record["held_out"] is None:
        return try_fit(curves, replace(choices, split="inter"))
    return main if main.record["split"] == "inter" else Missing("the page holds out the rest of each curve.")


def try_fit(curves: Curves, choices: Choices) -> Fit | Missing:
    """The fit with intervals of slopes only: those of curves take seconds."""
    return attempt(lambda: fit_with_intervals(curves, choices, parameters=False))


def read_folders(curves: Curves) -> dict[str, Any]:
    """What only the run folders know: settings, processes, base models."""
    if curves.folder is None:
        return {}
    runs = curves.folder / schema.RUNS
    configs, attempts = {}, []
    for run_id in sorted(curves.table["run_id"].unique()):
        configs[run_id] = files.read_json(runs / run_id / schema.CONFIG)
        of_run = [record.read_attempt(runs / run_id, n) for n in record.attempt_numbers(runs / run_id)]
        attempts += [attempt for attempt in of_run if attempt]
    names = sorted({config["model"]["base"] for config in configs.values() if config["model"].get("base")})
    bases = [files.read_json(curves.folder / schema.ARTIFACTS / name / "base.json") for name in names]
    return {"configs": configs, "attempts": attempts, "bases": [base for base in bases if base]}


def source_name(source: str) -> str:
    """`qwen2.5_base` of `reference:qwen2.5_base`, `mine` of `data/mine.csv`."""
    return source.partition(":")[2] if ":" in source else Path(source).stem


def write_fits(study: Study, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for axis, fitted in study.fits.items():
        files.write_json(folder / f"{fitted.json()['law']}-{axis}.json", fitted.json())


def companion(curves: Curves, kind: str) -> Curves:
    """Reference data keep their reuse and group-size runs in tables of their own; a study has them among its runs."""
    if curves.source.startswith("reference:"):
        try:
            return load(f"{curves.source}_{kind}")
        except InputError:
            pass
    return curves


def replicates(curves: Curves) -> Curves | None:
    other = companion(curves, "replicates")
    return None if other is curves else other
