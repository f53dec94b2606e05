"""The study that a report is written from: curves, fits under the main and the other choices, run folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from analysis.curves.frame import Curves, Frame
from analysis.curves.load import load
from analysis.fitting.choices import OBJECTIVES, Choices, choose_size_column
from analysis.fitting.record import Fit
from analysis.intervals.coverage import coverage
from analysis.intervals.fitted import fit_with_intervals
from analysis.questions.envelope import Envelope, envelope
from analysis.questions.finals import evaluations
from analysis.questions.groups import group_fit
from analysis.questions.pairs import Effects, effects
from analysis.reporting.budgets import size_budgets
from analysis.reporting.effects import algorithm_effects
from analysis.reporting.forecasts import forecasts
from analysis.reporting.groups import group_budgets
from analysis.reporting.laws import laws
from analysis.reporting.next_runs import next_runs
from analysis.reporting.reuse import reuse_costs
from analysis.reporting.section import Section, added_sections
from analysis.words import AXES, size_labels
from scaling import files, record, schema
from scaling.schema import InputError

T = TypeVar("T")
SELF_TEST_STUDIES = 200


@dataclass
class Study:
    """Everything the page is written from.

    Fields:
        fits: by axis (train_flops, prompts_seen); a missing one has its reason in `no_fit`.
        without_largest: the fit that has not seen the largest size, or why there is none.
        coverage: what the self-test of the main fit's intervals says, or why there is none.
        sections: by place on the page, what sets several fits side by side (`analysis.reporting.section`).
        ladder, groups, pairs: the envelope of sizes, the lines of group sizes with theirs, the pairs of algorithms;
            or why there are none.
        alternatives: the other choices of window, objective, axis and size: (words, fit or the reason why not).
        labels: name of each size, by N.
        configs: config.json of each run of a study, by run id.
        attempts: attempt.json of every process that wrote rows, in order of time.
        bases: base.json of the base models that the runs started from.
    """

    curves: Curves
    name: str
    choices: Choices
    size_column: str
    labels: dict[float, str]
    fits: dict[str, Fit] = field(default_factory=dict)
    no_fit: dict[str, str] = field(default_factory=dict)
    without_largest: Fit | str = ""
    coverage: str = ""
    sections: dict[str, Section] = field(default_factory=dict)
    ladder: Envelope | str = ""
    groups: tuple[Fit, Frame, Envelope] | str = ""
    pairs: Effects | str = ""
    alternatives: list[tuple[str, Fit | str]] = field(default_factory=list)
    configs: dict[str, dict] = field(default_factory=dict)
    attempts: list[dict] = field(default_factory=list)
    bases: list[dict] = field(default_factory=list)

    @classmethod
    def read(cls, curves: Curves, choices: Choices) -> Study:
        group = choices.formula.group
        if group:
            raise InputError(
                f"{curves.source}: analysis.law {choices.law} describes {group}, a report describes sizes; use "
                f"a law of sizes such as efficiency in the study's analysis section (reuse and group size have their "
                f"own sections there), and `scaling fit --law {choices.law}` for this one."
            )
        column = choose_size_column(curves, choices.size_column)
        labels = size_labels(evaluations(curves, column))
        name = curves.folder.resolve().name if curves.folder else source_name(curves.source)
        study = cls(curves, name, choices, column, labels)
        study.fit_all()
        study.read_folders()
        return study

    def fit_all(self) -> None:
        self.fit_axes()
        if not self.fits and self.choices.law != "per_size":
            # A law of N needs sizes to compare; each size's own line is there without.
            self.choices = replace(self.choices, law="per_size")
            self.fit_axes()
        if self.main is None:
            return
        self.without_largest = self.try_fit(replace(self.choices, split="inter"), parameters=False)
        try:
            found = coverage(self.main, SELF_TEST_STUDIES)
            self.coverage = f"Coverage self-test, {found['studies']} simulated studies: {found['text']}."
        except InputError as error:
            self.coverage = f"No coverage self-test: {error}"
        self.alternatives = [(words, self.try_fit(other, parameters=False)) for words, other in self.other_choices()]

    def add_sections(self) -> None:
        """Fill `sections` with those that files of this folder add; what cannot be made says why there."""
        for added in added_sections():
            made = attempt(partial(added.make, self))
            self.sections[added.id] = Section([made], {}) if isinstance(made, str) else made

    def compare(self) -> None:
        """Fill `sections`: forecasts, laws, budgets, reuse and algorithms; what cannot be made says why there."""
        curves, found = self.curves, self.sections
        companions = companion(curves, "group_size")
        self.groups = attempt(lambda: group_lines(companions, self.choices.steps))
        self.pairs = attempt(lambda: effects(curves, self.choices, self.labels))
        found["algorithms"] = algorithm_effects(self.pairs)
        found["reuse"] = reuse_costs(companion(curves, "reuse"), replicates(curves))
        if not isinstance(self.groups, str):
            lines, _, best = self.groups
            found["group_size"] = group_budgets(lines, best)
        if (main := self.main) is None:
            return
        if main.law.axes:
            found["forecasts"] = Section(
                [f"Law {main.law.name} says nothing of sizes along one axis: no forecast."], {}
            )
            return
        found["forecasts"] = forecasts(curves, main, self.choices, self.labels)
        found["next_runs"] = next_runs(curves, main, self.choices, self.labels)
        found["laws"], scored = laws(curves, main, self.choices)
        compute = self.fits.get("train_flops")
        self.ladder = self.no_fit.get("train_flops", "") if compute is None else attempt(lambda: envelope(compute))
        if compute is not None and not isinstance(self.ladder, str):
            found["frontier"] = size_budgets(compute, self.ladder, self.labels, scored)

    def fit_axes(self) -> None:
        for axis in dict.fromkeys([self.choices.x, "train_flops", "prompts_seen"]):
            result = self.try_fit(replace(self.choices, x=axis))
            if isinstance(result, str):
                self.no_fit.setdefault(axis, result)
            else:
                self.fits[axis] = result

    def try_fit(self, choices: Choices, *, parameters: bool = True) -> Fit | str:
        """The fit with these choices, or one sentence that says why there is none."""
        return attempt(lambda: fit_with_intervals(self.curves, choices, parameters=parameters))

    @property
    def main(self) -> Fit | None:
        """The fit of the study's own axis, else of any."""
        return next(iter(self.fits.values()), None)

    @property
    def main_axis(self) -> str:
        return next(iter(self.fits), "train_flops")

    def fitted(self) -> Curves:
        """The curves that the fits use."""
        return self.choices.rows(self.curves)

    def other_choices(self) -> list[tuple[str, Choices]]:
        """One thing changed at a time: first step, last step, objective, axis, how N is counted."""
        table = self.fitted().table
        steps = sorted({int(step) for step in table.loc[table["test_loss"].notna(), "step"] if step > 0})
        first, last = parse_steps(self.choices.steps, steps)
        used = [step for step in steps if first <= step <= last]
        found: list[tuple[str, dict[str, Any]]] = []
        firsts = {
            steps[0],
            *(next((s for s in steps if s >= wanted), first) for wanted in (2 * first, 4 * first, 10 * first)),
        }
        end = "" if last == steps[-1] else last
        firsts = [step for step in sorted(firsts - {first}) if step < first or sum(s >= step for s in used) >= 4]
        found += [(f"steps ≥ {step}", {"steps": f"{step}:{end}"}) for step in firsts]
        half = [step for step in used if step <= last / 2]
        if len(half) >= 4:
            found.append((f"steps ≤ {half[-1]}", {"steps": f"{first}:{half[-1]}"}))
        main = self.choices.objective
        found += [(f"objective {name}", {"objective": name}) for name in OBJECTIVES if name not in (main, "huber")]
        axis = self.choices.x
        others = [x for x in ("train_flops", "prompts_seen", "total_flops") if x != axis and x in table]
        found += [(f"axis {AXES.get(x, x)}", {"x": x}) for x in others if (table.loc[table["step"] > 0, x] > 0).all()]
        if {"num_params", "num_params_non_embedding"} <= set(table):
            other = {"num_params", "num_params_non_embedding"} - {self.size_column}
            words = {"num_params": "N with embeddings", "num_params_non_embedding": "N without embeddings"}
            found += [(words[name], {"size_column": name}) for name in other]
        return [(words, replace(self.choices, **changed)) for words, changed in found]

    def read_folders(self) -> None:
        """What only the run folders know: settings, processes, base models."""
        if self.curves.folder is None:
            return
        runs = self.curves.folder / schema.RUNS
        for run_id in sorted(self.curves.table["run_id"].unique()):
            self.configs[run_id] = files.read_json(runs / run_id / schema.CONFIG)
            attempts = [record.read_attempt(runs / run_id, n) for n in record.attempt_numbers(runs / run_id)]
            self.attempts += [attempt for attempt in attempts if attempt]
        names = sorted({config["model"]["base"] for config in self.configs.values() if config["model"].get("base")})
        found = [files.read_json(self.curves.folder / schema.ARTIFACTS / name / "base.json") for name in names]
        self.bases = [base for base in found if base]


def attempt(make: Callable[[], T]) -> T | str:
    """What it makes, or the sentence of the InputError that says why not."""
    try:
        return make()
    except InputError as error:
        return str(error)


def known(found: T | str) -> T:
    """What `attempt` made; raises the InputError again where there is only its sentence."""
    if isinstance(found, str):
        raise InputError(found)
    return found


def group_lines(curves: Curves, steps: str | None) -> tuple[Fit, Frame, Envelope]:
    lines, rows = group_fit(curves, steps)
    return lines, rows, envelope(lines)


def source_name(source: str) -> str:
    """`qwen2.5_base` of `reference:qwen2.5_base`, `mine` of `data/mine.csv`."""
    return source.partition(":")[2] if ":" in source else Path(source).stem


def parse_steps(window: str | None, steps: list[int]) -> tuple[int, int]:
    """First and last step of the window `A:B` (both included) on these steps."""
    low, _, high = (window or ":").partition(":")
    return int(low) if low.strip() else steps[0], int(high) if high.strip() else steps[-1]


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
    found = companion(curves, "replicates")
    return None if found is curves else found
