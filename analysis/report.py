"""The report of a study: one page that a reader can trust and a reviewer can check, with its figures, tables and fits.

    DIR/report/index.html      the page: figures inside it, no script, no network
    DIR/report/tables/*        every table of the page as CSV (raw numbers) and LaTeX (as shown)
    DIR/figures/*              every figure as SVG, PNG and CSV
    DIR/fits/*.json            the fits that the sentences quote

Sentences are written here from the numbers of the fits, in plain text; the template holds what is true of any study and
turns symbols (k, N0, Kmax, "Figure 2") into markup. Nothing is read from the clock: equal records, equal bytes.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from analysis import Fit, figures, fit, report_sections
from analysis.curves import Curves, load
from analysis.figures import Drawn, Frame, counted, joined, number, power_of_ten
from analysis.fit import OBJECTIVES, choose_size_column
from analysis.frontier import Envelope, envelope, group_fit
from analysis.intervals import coverage
from analysis.laws import get_law
from analysis.report_sections import Effects, Section
from analysis.tables import (
    AXES,
    AXIS_SHORT,
    Column,
    Table,
    amount,
    as_sentence,
    contains_zero,
    ends_of,
    interval,
    of,
    parameter,
    show_of,
    span,
    whole,
)
from scaling import record, schema
from scaling.schema import InputError

T = TypeVar("T")
TEMPLATES = Path(__file__).parent / "templates"
CHOICES = ("law", "x", "size_column", "objective", "where", "steps", "points")
SELF_TEST_STUDIES = 200
MUCH_CUT = 0.05  # of the responses of an evaluation
MOST_ROWS = 40  # of a figure's table on the page; the CSV has all

CONTENTS = [
    ("summary", "Summary"),
    ("runs", "What was run"),
    ("curves", "Learning curves"),
    ("efficiency", "Learning efficiency"),
    ("frontier", "Compute-optimal size"),
    ("reuse", "Data reuse"),
    ("group-size", "Group size"),
    ("algorithms", "GRPO against PAPO"),
    ("compute", "Where the compute went"),
    ("choices", "Choices and sensitivity"),
    ("rollouts", "Sample rollouts"),
    ("intervals", "What the intervals rest on"),
    ("provenance", "Provenance"),
]
SYMBOLS = (
    "N parameters of the policy; D prompts seen, repeats included; U distinct prompts; τ = D / U data reuse; G "
    "rollouts per prompt; T tokens processed, prompt and response; C = 6 N T training compute in FLOPs; L test loss, 1 "
    "− pass@1; k(N) learning efficiency, −d ln L / d ln X for X = C or D; Kmax its limit as N grows; N0 the size at "
    "which k = Kmax/2; "
    "E(N) intercept, ln L at X = 1. Brackets hold 95 % intervals."
)


def report(source: str | Path, out: Path | None = None) -> Path:
    """Write the report of a study folder, a table or reference data; returns the path of the page.

    Args:
        source: what `analysis.load` takes.
        out: folder for report/, figures/ and fits/; by default the study folder, else `report-NAME` in this directory.

    Raises:
        InputError: the source cannot be read, or it has no finished run.
    """
    curves = load(source)
    study = Study.read(curves)
    folder = Path(out) if out else curves.folder or Path(f"report-{study.name}")
    study.compare()
    drawings = draw(figure_makers(study), folder / "figures")
    tables = all_tables(study)
    (folder / "report" / "tables").mkdir(parents=True, exist_ok=True)
    for table in filter(None, tables.values()):
        table.write(folder / "report" / "tables")
    write_fits(study, folder / "fits")
    page = folder / "report" / "index.html"
    record.write_atomic(page, render(study, drawings, tables))
    return page


# ---------------------------------------------------------------- the study: curves, fits, run folders


@dataclass
class Study:
    """Everything the page is written from.

    Fields:
        fits: by axis (train_flops, prompts_seen); a missing one has its reason in `no_fit`.
        without_largest: the fit that has not seen the largest size, or why there is none.
        coverage: what the self-test of the main fit's intervals says, or why there is none.
        sections: by place on the page, what sets several fits side by side (`analysis.report_sections`).
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
    choices: dict[str, Any]
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
    def read(cls, curves: Curves) -> Study:
        choices = {name: curves.defaults[name] for name in CHOICES if curves.defaults.get(name) is not None}
        group = get_law(choices.get("law", "efficiency")).group
        if group:
            raise InputError(
                f"{curves.source}: analysis.law {choices['law']} describes {group}, a report describes sizes; use "
                f"a law of sizes such as efficiency in the study's analysis section (reuse and group size have their "
                f"own sections there), and `scaling fit --law {choices['law']}` for this one."
            )
        column = choose_size_column(curves, choices.get("size_column"))
        labels = figures.size_labels(figures.evaluations(curves, column))
        name = curves.folder.resolve().name if curves.folder else source_name(curves.source)
        study = cls(curves, name, choices, column, labels)
        study.fit_all()
        study.read_folders()
        return study

    def fit_all(self) -> None:
        self.fit_axes()
        if not self.fits and "per_size" not in self.choices.values():
            # A law of N needs sizes to compare; each size's own line is there without.
            self.choices["law"] = "per_size"
            self.fit_axes()
        if self.main is None:
            return
        self.without_largest = self.try_fit(split="inter", parameters=False)
        try:
            found = coverage(self.main, SELF_TEST_STUDIES)
            self.coverage = f"Coverage self-test, {found['studies']} simulated studies: {found['text']}."
        except InputError as error:
            self.coverage = f"No coverage self-test: {error}"
        self.alternatives = [
            (words, self.try_fit(**changed, parameters=False)) for words, changed in self.other_choices()
        ]

    def compare(self) -> None:
        """Fill `sections`: forecasts, laws, budgets, reuse and algorithms; what cannot be made says why there."""
        curves, found = self.curves, self.sections
        companions = companion(curves, "group_size")
        self.groups = attempt(lambda: group_lines(companions, self.choices.get("steps")))
        self.pairs = attempt(lambda: report_sections.effects(curves, self.choices, self.labels))
        found["algorithms"] = report_sections.algorithm_effects(self.pairs)
        found["reuse"] = report_sections.reuse_costs(companion(curves, "reuse"), replicates(curves))
        if not isinstance(self.groups, str):
            lines, _, best = self.groups
            found["group_size"] = report_sections.group_budgets(lines, best)
        if (main := self.main) is None:
            return
        if main.law.axes:
            found["forecasts"] = Section(
                [f"Law {main.law.name} says nothing of sizes along one axis: no forecast."], {}
            )
            return
        found["forecasts"] = report_sections.forecasts(curves, main, self.choices, self.labels)
        found["next_runs"] = report_sections.next_runs(curves, main, self.choices, self.labels)
        found["laws"], scored = report_sections.laws(curves, main, self.choices)
        compute = self.fits.get("train_flops")
        self.ladder = self.no_fit.get("train_flops", "") if compute is None else attempt(lambda: envelope(compute))
        if compute is not None and not isinstance(self.ladder, str):
            found["frontier"] = report_sections.size_budgets(compute, self.ladder, self.labels, scored)

    def fit_axes(self) -> None:
        for axis in dict.fromkeys([self.choices.get("x", "train_flops"), "train_flops", "prompts_seen"]):
            result = self.try_fit(x=axis)
            if isinstance(result, str):
                self.no_fit.setdefault(axis, result)
            else:
                self.fits[axis] = result

    def try_fit(self, **changed: Any) -> Fit | str:
        """The fit with these choices changed, or one sentence that says why there is none."""
        return attempt(lambda: fit(self.curves, **{"x": "train_flops", **self.choices, **changed}))

    @property
    def main(self) -> Fit | None:
        """The fit of the study's own axis, else of any."""
        return next(iter(self.fits.values()), None)

    @property
    def main_axis(self) -> str:
        return next(iter(self.fits), "train_flops")

    def fitted(self) -> Curves:
        """The curves that the fits use."""
        return self.curves.where(self.choices["where"]) if "where" in self.choices else self.curves

    def other_choices(self) -> list[tuple[str, dict[str, Any]]]:
        """One thing changed at a time: first step, last step, objective, axis, how N is counted."""
        table = self.fitted().table
        steps = sorted({int(step) for step in table.loc[table["test_loss"].notna(), "step"] if step > 0})
        first, last = parse_steps(self.choices.get("steps"), steps)
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
        main = self.choices.get("objective", "log")
        found += [(f"objective {name}", {"objective": name}) for name in OBJECTIVES if name not in (main, "huber")]
        axis = self.choices.get("x", "train_flops")
        others = [x for x in ("train_flops", "prompts_seen", "total_flops") if x != axis and x in table]
        found += [(f"axis {AXES.get(x, x)}", {"x": x}) for x in others if (table.loc[table["step"] > 0, x] > 0).all()]
        if {"num_params", "num_params_non_embedding"} <= set(table):
            other = {"num_params", "num_params_non_embedding"} - {self.size_column}
            words = {"num_params": "N with embeddings", "num_params_non_embedding": "N without embeddings"}
            found += [(words[name], {"size_column": name}) for name in other]
        return found

    def read_folders(self) -> None:
        """What only the run folders know: settings, processes, base models."""
        if self.curves.folder is None:
            return
        runs = self.curves.folder / schema.RUNS
        for run_id in sorted(self.curves.table["run_id"].unique()):
            self.configs[run_id] = record.read_json(runs / run_id / schema.CONFIG)
            attempts = [record.read_attempt(runs / run_id, n) for n in record.attempt_numbers(runs / run_id)]
            self.attempts += [attempt for attempt in attempts if attempt]
        names = sorted({config["model"]["base"] for config in self.configs.values() if config["model"].get("base")})
        found = [record.read_json(self.curves.folder / schema.ARTIFACTS / name / "base.json") for name in names]
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
        record.write_json(folder / f"{fitted.json()['law']}-{axis}.json", fitted.json())


# ---------------------------------------------------------------- tables


def all_tables(study: Study) -> dict[str, Table | None]:
    """The tables by name, in the order of the page; None where the study has nothing to fill one."""
    return {
        "conditions": conditions_table(study),
        "left_out": left_out_table(study),
        "covariates": covariates_table(study),
        "runs": runs_table(study),
        "settings": settings_table(study),
        "efficiency": efficiency_table(study),
        "parameters": parameters_table(study),
        "algorithms": algorithms_table(study),
        "sensitivity": sensitivity_table(study),
        **dict.fromkeys(SECTION_TABLES),
        **{name: table for section in study.sections.values() for name, table in section.tables.items()},
    }


# What `analysis.report_sections` makes, for a study that lacks some of them.
SECTIONS = ("forecasts", "next_runs", "laws", "frontier", "reuse", "algorithms")
SECTION_TABLES = (
    "forecasts", "next_runs", "laws", "segments", "crossovers", "cost", "continuous", "reuse_differences",
    "group_segments", "algorithm_effects",
)  # fmt: skip


# ---------------------------------------------------------------- what was run


def last_evaluations(curves: Curves) -> Frame:
    """One row per run: what is constant in it, loss at step 0 and at the end, steps and CPU seconds."""
    table = curves.table
    runs = curves.runs().set_index("run_id")
    known = table[table["test_loss"].notna()].sort_values("step")
    runs["last_evaluation"] = known.groupby("run_id")["step"].last()
    runs["final_test_loss"] = known.groupby("run_id")["test_loss"].last()
    runs["first_test_loss"] = known[known["step"] == 0].groupby("run_id")["test_loss"].last()
    if "cpu_seconds" in table:
        runs["cpu_seconds"] = table.groupby("run_id")["cpu_seconds"].sum()
    if "train_flops" in table:
        runs["train_flops"] = table.groupby("run_id")["train_flops"].last()
    if "n_runs" in table:
        runs["least_runs"], runs["most_runs"] = (table.groupby("run_id")["n_runs"].agg(how) for how in ("min", "max"))
    return runs.reset_index()


def condition_keys(study: Study) -> list[str]:
    """The columns that tell conditions apart: size, algorithm, tau, G and every setting that differs between runs."""
    runs = study.curves.runs()
    keys = [study.size_column, *(name for name in ("model", "algorithm", "reuse_factor", "group_size") if name in runs)]
    return [
        *keys,
        *(name for name in study.curves.settings if name not in keys and runs[name].nunique(dropna=False) > 1),
    ]


def run_names(study: Study) -> dict[str, str]:
    """A name of each run that people can read: the config's, else its id."""
    return {run: (study.configs.get(run) or {}).get("name") or run for run in study.curves.table["run_id"].unique()}


def runs_frame(study: Study) -> Frame:
    runs = last_evaluations(study.curves)
    fitted = set(study.fitted().table["run_id"]) if study.main else set()
    names = run_names(study)
    return runs.assign(
        name=runs["run_id"].map(names),
        size=runs[study.size_column].map(study.labels),
        status="done",
        fitted=["yes" if run in fitted else "no" for run in runs["run_id"]],
    )


def run_columns(study: Study, frame: Frame) -> list[Column]:
    """The columns that both tables of runs share: N, and the settings in which runs differ."""
    columns = []
    size = study.size_column
    if frame[size].max() < 1e7:  # else the label is as good
        columns.append(Column("N", of(size, whole)))
    shown: dict[str, Column] = {
        "algorithm": Column("algorithm", of("algorithm", lambda name: str(name).upper()), left=True),
        "reuse_factor": Column("τ", of("reuse_factor", "{:.3g}".format)),
        "group_size": Column("G", of("group_size", whole)),
    }
    runs = study.curves.runs()
    columns += [column for key, column in shown.items() if key in runs and runs[key].nunique(dropna=False) > 1]
    known = {size, "num_params", "model", *shown}
    others = [key for key in condition_keys(study) if key not in known]
    return columns + [Column(setting_name(key), of(key), left=True) for key in others]


def setting_name(field_name: str) -> str:
    """A config field in words: `process weight` for algorithm.process_weight."""
    return NOTABLE.get(field_name, field_name.rsplit(".", 1)[-1].replace("_", " "))


def conditions_table(study: Study) -> Table:
    """One row per condition: how many runs, how far, what came out, at what cost."""
    runs = runs_frame(study)
    rows = []
    for _, group in runs.groupby(condition_keys(study), dropna=False, sort=True):
        first = group.iloc[0].to_dict()
        rows.append(
            {
                **{key: first[key] for key in [*condition_keys(study), "size", "num_params"] if key in first},
                **({key: first[key] for key in ("num_params_non_embedding",) if key in first}),
                "status": "done",
                "runs": len(group),
                "seeds": ", ".join(f"{seed:g}" for seed in sorted(group["seed"].dropna())) if "seed" in group else None,
                "steps": span(group["last_step"].tolist(), "{:.0f}".format),
                "first_test_loss": group["first_test_loss"].mean(),
                "final_test_loss": group["final_test_loss"].mean(),
                "final_test_loss_min": group["final_test_loss"].min(),
                "final_test_loss_max": group["final_test_loss"].max(),
                **({"cpu_seconds": group["cpu_seconds"].sum()} if "cpu_seconds" in group else {}),
                **(
                    {
                        n: group[n].agg((n[:5] == "least" and "min") or "max")
                        for n in ("least_runs", "most_runs")
                        if n in group
                    }
                ),
            }
        )
    frame = pd.DataFrame(rows)
    columns = [Column("size", of("size"))]
    columns += [Column("status", lambda row: f"{row['runs']} done", left=True, status=True)]
    columns += run_columns(study, frame)
    if frame["seeds"].notna().any():
        columns.append(Column("seeds", of("seeds"), left=True))
    if "least_runs" in frame:
        columns.append(Column("runs in the mean", lambda row: mean_of(row["least_runs"], row["most_runs"])))
    columns.append(Column("steps", of("steps")))
    if frame["first_test_loss"].notna().any():
        columns.append(Column("L at step 0", of("first_test_loss", number)))
    columns.append(Column("final L", of("final_test_loss", number)))
    if (frame["runs"] > 1).any():
        columns.append(
            Column("range", lambda row: span([row["final_test_loss_min"], row["final_test_loss_max"]], number))
        )
    if "cpu_seconds" in frame:
        columns.append(Column("CPU s", of("cpu_seconds", whole)))
    note = "N counts parameters without the embedding table. " if "num_params_non_embedding" in frame else ""
    note += "L: last evaluation" + (", mean over the seeds." if (frame["runs"] > 1).any() else ".")
    return Table("conditions", "Runs by condition", frame, columns, note)


def mean_of(least: float, most: float) -> str:
    return "unknown" if np.isnan(least) else span([least, most], whole)


def runs_table(study: Study) -> Table:
    frame = runs_frame(study)
    columns = [
        Column("run", of("name")),
        Column("status", of("status"), status=True),
        Column("size", of("size"), left=True),
        *run_columns(study, frame),
    ]
    if "seed" in frame and frame["seed"].notna().any():
        columns.append(Column("seed", of("seed", whole)))
    columns += [
        Column("step reached", of("last_step", whole)),
        Column("evaluations", of("evaluations", whole)),
        Column("final L", of("final_test_loss", number)),
        Column("in the fits", of("fitted"), left=True),
    ]
    if "cpu_seconds" in frame:
        columns.insert(-1, Column("CPU s", of("cpu_seconds", whole)))
    return Table("runs", f"Every run ({len(frame)})", frame, columns)


def left_out_table(study: Study) -> Table | None:
    """Runs that the study names and the fits lack, each with its reason."""
    if not study.curves.left_out:
        return None
    cells = (record.read_json(study.curves.folder / schema.CELLS) or {}) if study.curves.folder else {}
    axes = {cell["run_id"]: cell.get("axes") or {} for cell in cells.get("cells", [])}
    rows = []
    for item in study.curves.left_out:
        word, _, reason = item["reason"].partition(": ")
        settings = ", ".join(f"{k} {v}" for k, v in axes.get(re.sub(r".*\((\w+)\)$", r"\1", item["run"]), {}).items())
        known = word in ("failed", "incomplete", "missing")
        rows.append({"run": item["run"], "status": word if known else "not used", "settings": settings or None})
        rows[-1]["reason"] = reason if known else item["reason"]
    columns = [
        Column("run", of("run")),
        Column("status", of("status"), status=True),
        Column("settings", of("settings"), left=True),
        Column("reason", of("reason"), left=True),
    ]
    return Table("left_out", "Runs that are not in any number below", pd.DataFrame(rows), columns)


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A config as {dotted field: value}."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


NOT_SCIENCE = ("name", "resources.", "tracking.", "stop.also_evaluate")


def settings_frame(study: Study) -> Frame | None:
    """One row per config field: its values over all runs, and over the fitted ones whether it moves with size."""
    if not study.configs:
        return None
    flats = {run: flat(config["config"]) for run, config in study.configs.items()}
    sizes = study.curves.runs().set_index("run_id")[study.size_column]
    fitted = set(study.fitted().table["run_id"])
    names = dict.fromkeys(name for values in flats.values() for name in values if not name.startswith(NOT_SCIENCE))
    rows = []
    for name in names:
        values = {run: flats[run].get(name) for run in flats}
        numbers = [value for value in values.values() if isinstance(value, int | float)]
        ordered = sorted(numbers) if len(numbers) == len(values) else values.values()
        shown = list(dict.fromkeys(plain(value) for value in ordered))
        by_size: dict[float, set[str]] = {}
        for run in sorted(fitted):
            by_size.setdefault(sizes[run], set()).add(plain(values[run]))
        within = len({frozenset(found) for found in by_size.values()}) > 1
        role = "constant" if len(shown) == 1 else "varies with size" if within else "varied"
        rows.append({"field": name, "value": ", ".join(shown), "role": role})
    return pd.DataFrame(rows)


def plain(value: Any) -> str:
    """A setting as text: 0.0005, and `none` for null."""
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def settings_table(study: Study) -> Table | None:
    frame = settings_frame(study)
    if frame is None:
        return None
    columns = [
        Column("field", of("field")),
        Column("role", of("role"), left=True),
        Column("value", of("value"), left=True),
    ]
    note = "Every field of the run configs that can change a value of a curve, and where the runs stop."
    return Table("settings", "Every setting", frame.sort_values("role", kind="stable"), columns, note)


# What a sentence says of a constant setting: field and words.
CONSTANTS = [
    ("task.name", "task {}"),
    ("data.prompts_per_step", "{} prompts per step"),
    ("rollout.group_size", "group size {}"),
    ("optimizer.learning_rate", "learning rate {}"),
    ("optimizer.schedule", "{} schedule"),
    ("loss.updates_per_batch", "{} update per batch"),
    ("rollout.temperature", "sampling temperature {}"),
    ("evaluation.problems", "{} test problems"),
    ("stop.steps", "{} steps"),
]
NOTABLE = {"algorithm.type": "algorithm", "data.prompts_unique": "data reuse", "rollout.group_size": "group size"}


def what_was_held(study: Study) -> dict[str, str]:
    """Three sentences: what was constant, what was varied on purpose, what moved with size."""
    frame, table = settings_frame(study), study.curves.table
    if frame is None:
        columns = ["task", "algorithm", "group_size", "reuse_factor", "eval_problems", "eval_temperature"]
        names = {"eval_problems": "test problems", "eval_temperature": "evaluation temperature", "reuse_factor": "τ"}
        words = {c: names.get(c, c.replace("_", " ")) for c in columns if c in table and table[c].notna().all()}
        same = [f"{words[c]} {plain(table[c].iloc[0])}" for c in words if table[c].nunique() == 1]
        differ = [words[c] for c in words if table[c].nunique() > 1]
        return {
            "constant": f"{', '.join(same) or 'nothing that the source names'}; the source has no settings beyond "
            "these.",
            "varied": f"{joined(['model size', *differ])}.",
            "with_size": "the base model, and with it the length of responses and the compute per prompt.",
        }
    constant = dict(zip(frame["field"], frame["value"], strict=True))
    same = set(frame.loc[frame["role"] == "constant", "field"])
    held = [words.format(constant[name]) for name, words in CONSTANTS if name in same]
    on_purpose = [name for name in frame.loc[frame["role"] == "varied", "field"] if name != "seed"]
    if "algorithm.type" in on_purpose:  # its own fields come and go with it
        on_purpose = [name for name in on_purpose if name == "algorithm.type" or not name.startswith("algorithm.")]
    varied = [setting_name(name) for name in on_purpose]
    moved = frame.loc[frame["role"] == "varies with size", "field"]
    moved = [setting_name(name) for name in moved if name != "seed" and not name.startswith("model.")]
    seeds = frame.loc[(frame["field"] == "seed") & (frame["role"] != "constant"), "value"]
    varied += [f"seed ({value})" for value in seeds]
    size = ["model size"] if len(study.labels) > 1 else []
    return {
        "constant": f"{', '.join(held)}; the full list is folded below.",
        "varied": f"{joined([*size, *dict.fromkeys(varied)] or ['nothing'])}.",
        "with_size": joined(["the base model that each size starts from", *moved, "what follows from it, in the table"])
        + ".",
    }


def covariates_table(study: Study) -> Table | None:
    """What moved with N besides N, measured on the fitted runs."""
    table = study.fitted().table
    if len(study.labels) < 2:
        return None
    rows = []
    for size in sorted(table[study.size_column].unique()):
        group = table[table[study.size_column] == size]
        first_step = group[group["step"] == 1] if "response_length_mean" in group else group.iloc[:0]
        ends = group.groupby("run_id").tail(1)
        row: dict[str, Any] = {"num_params": size, "size": study.labels[size], "runs": len(ends)}
        if study.size_column == "num_params_non_embedding" and "num_params" in group:
            row["with_embeddings"] = group["num_params"].iloc[0]
        start = group[(group["step"] == 0) & group["test_loss"].notna()]
        row["base_test_loss"] = start["test_loss"].mean()
        if "response_length_mean" in group:
            row["response_length_first"] = first_step["response_length_mean"].mean()
            row["response_length_last"] = ends["response_length_mean"].mean()
        if {"train_flops", "prompts_seen"} <= set(group):
            row["flops_per_prompt"] = (ends["train_flops"] / ends["prompts_seen"]).mean()
            row["train_flops"] = ends["train_flops"].mean()
        rows.append(row)
    frame = pd.DataFrame(rows)
    columns = {
        "with_embeddings": Column("N with embeddings", of("with_embeddings", whole)),
        "base_test_loss": Column("L of the base", of("base_test_loss", number)),
        "response_length_first": Column("tokens per response, step 1", of("response_length_first", "{:.1f}".format)),
        "response_length_last": Column("at the end", of("response_length_last", "{:.1f}".format)),
        "flops_per_prompt": Column("C per prompt", of("flops_per_prompt", power_of_ten)),
        "train_flops": Column("C at the end", of("train_flops", power_of_ten)),
    }
    shown = [column for name, column in columns.items() if name in frame and frame[name].notna().any()]
    if not shown:
        return None
    columns = [Column("size", of("size")), Column("runs", of("runs", whole)), *shown]
    return Table(
        "covariates", "What moved with size", frame, columns, "Means over the fitted runs of a size; C in FLOPs."
    )


# ---------------------------------------------------------------- the fits


def efficiency_table(study: Study) -> Table | None:
    """k of each size alone and by the law, on each axis."""
    if study.main is None:
        return None
    rows: dict[float, dict[str, Any]] = {}
    columns = [Column("size", of("size"))]
    for axis, fitted in study.fits.items():
        short = AXIS_SHORT.get(axis, axis)
        for line in fitted.json()["per_size"]:
            row = rows.setdefault(line["num_params"], {"num_params": line["num_params"]})
            low, high = line["efficiency_ci95"] or (None, None)
            row |= {"size": study.labels.get(line["num_params"]), "runs": line["n_runs"]}
            row |= {f"k_{short}": line["efficiency"], f"k_{short}_low": low, f"k_{short}_high": high}
            row |= {f"k_law_{short}": line["efficiency_law"], f"r2_{short}": line["r2"]}
        columns += [
            Column(f"k against {short}", of(f"k_{short}", amount)),
            Column("95 %", lambda row, s=short: interval(ends_of(row, f"k_{s}_"))),
            Column(f"k by the law, {short}", of(f"k_law_{short}", amount)),
            Column("R2 within the size", of(f"r2_{short}", "{:.2f}".format)),
        ]
    columns.insert(1, Column("runs", of("runs", whole)))
    note = "Each size alone, a line through its runs; R2 within the size compares that line with a constant."
    return Table("efficiency", "Learning efficiency of each size", pd.DataFrame(list(rows.values())), columns, note)


def parameters_table(study: Study) -> Table | None:
    """The shared parameters of the law on each axis, each with its interval and whether the data identify it."""
    rows = []
    for axis, fitted in study.fits.items():
        document = fitted.json()
        for name, value in document["values"].items():
            low, high = value["ci95"] or (None, None)
            rows.append({"axis": axis, "parameter": SYMBOL.get(name, name), "law": document["law"], **value})
            rows[-1] |= {"ci95_low": low, "ci95_high": high, "points": document["n_points"], "runs": document["n_runs"]}
            del rows[-1]["ci95"]
    if not rows:
        return None
    columns = [
        Column("parameter", of("parameter")),
        Column("status", lambda row: "identified" if row["identified"] else "not identified", status=True),
        Column("axis", of("axis", lambda axis: str(AXES.get(axis, axis))), left=True),
        Column("optimum", lambda row: show_of(row)(row["value"])),
        Column("95 %", lambda row: interval(ends_of(row, "ci95_"), show_of(row))),
        Column("runs", of("runs", whole)),
        Column("points", of("points", whole)),
    ]
    note = "An optimum that is not identified is where the search ended; the data do not bound it."
    return Table("parameters", "Parameters that all sizes share", pd.DataFrame(rows), columns, note)


SYMBOL = {"k_max": "Kmax", "n0": "N0"}


def sensitivity_table(study: Study) -> Table | None:
    """What moves when one choice is changed."""
    if study.main is None:
        return None
    rows: list[dict[str, Any]] = []
    sizes = [line["num_params"] for line in study.main.json()["per_size"]]
    for words, fitted in [("this page", study.main), *study.alternatives]:
        row: dict[str, Any] = {"choice": words}
        if isinstance(fitted, str):
            row["reason"] = fitted
        else:
            document = fitted.json()
            # Sizes stand in the same order however N is counted.
            row |= {f"k_{n:.0f}": line["efficiency"] for n, line in zip(sizes, document["per_size"], strict=False)}
            row |= {name: value["value"] for name, value in document["values"].items()}
            row |= {f"{name}_text": parameter(value) for name, value in document["values"].items()}
            row |= {name: document["goodness"].get(name) for name in ("r2_pooled", "r2_pooled_constant")}
        rows.append(row)
    frame = pd.DataFrame(rows)
    columns = [Column("choice", of("choice"))]
    columns += [
        Column(f"k({study.labels[n].split()[0]})", of(f"k_{n:.0f}", amount)) for n in sizes if n in study.labels
    ]
    columns += [Column(str(SYMBOL.get(name, name)), of(f"{name}_text")) for name in study.main.json()["values"]]
    columns += [
        Column("pooled R2", of("r2_pooled", three)),
        Column("the same with k = 0", of("r2_pooled_constant", three)),
    ]
    failed = [f"{row['choice']}: {row['reason']}" for row in rows if row.get("reason")]
    note = f"This page: {choice_words(study)}. One choice changed at a time. " + (
        f"Not fitted: {'; '.join(failed)}" if failed else ""
    )
    return Table("sensitivity", "The same data under other choices", frame, columns, note)


def three(value: float) -> str:
    return number(value)


def choice_words(study: Study) -> str:
    steps = study.choices.get("steps")
    first, _, last = (steps or ":").partition(":")
    window = "all steps from 1 on" if not steps else f"steps ≥ {first}" if not last else f"steps {first or 1}–{last}"
    return f"{window}, {study.choices.get('objective', 'log')} objective, {AXES.get(study.main_axis, study.main_axis)}"


def algorithms_table(study: Study) -> Table | None:
    """GRPO against PAPO per size and condition: means, difference paired by seed, interval, number of pairs."""
    try:
        pairs = figures.algorithm_pairs(study.curves)
    except InputError:
        return None
    frame = figures.pair_summary(pairs)[::-1].reset_index(drop=True)
    known = frame["pairs"] > 1
    frame["low"], frame["high"] = frame["low"].where(known), frame["high"].where(known)
    signed = lambda value: number(value, sign=True)  # noqa: E731
    columns = [
        Column("size", of("label")),
        Column("pairs", of("pairs", whole)),
        Column("GRPO", of("mean_baseline", number)),
        Column("PAPO", of("mean_other", number)),
        Column("PAPO − GRPO", of("difference", signed)),
        Column("95 %", lambda row: interval(ends_of(row), signed)),
    ]
    note = (
        f"Final test loss, mean of the evaluations at {pairs['window'].iloc[0]}; the difference is paired by seed: "
        "one base model and one stream of prompts for both runs."
    )
    return Table("algorithms", "GRPO and PAPO, paired by seed", frame, columns, note)


# ---------------------------------------------------------------- figures


@dataclass(frozen=True)
class Drawing:
    """A figure as the page shows it, or the reason why there is none."""

    reason: str = ""
    number: int = 0
    title: str = ""
    caption: str = ""
    finding: str = ""
    full: str = ""
    column: str = ""
    table: Table | None = None
    more_rows: int = 0

    @property
    def link(self) -> str:
        return "" if self.reason else f" (Figure {self.number})"


def figure_makers(study: Study) -> dict[str, Callable[..., Drawn]]:
    """The figures in the order of the page; each takes `layout`."""
    curves = study.curves

    def fitted(axis: str | None) -> Fit:
        axis = axis or study.main_axis
        if axis not in study.fits:
            raise InputError(study.no_fit.get(axis, "no law could be fitted."))
        return study.fits[axis]

    windows = figures.window_fits(study.main) if study.main else None
    return {
        "loss_vs_compute": lambda **o: figures.loss_curves(curves, fitted("train_flops"), x="train_flops", **o),
        "loss_vs_prompts": lambda **o: figures.loss_curves(curves, fitted("prompts_seen"), x="prompts_seen", **o),
        "efficiency": lambda **o: figures.efficiency(curves, fitted(None), **o),
        "frontier": lambda **o: figures.frontier(curves, fitted("train_flops"), found=known(study.ladder), **o),
        "reuse": lambda **o: figures.reuse(companion(curves, "reuse"), replicates=replicates(curves), **o),
        "group_size": lambda **o: figures.group_size(curves, lines=known(study.groups), **o),
        "algorithm_comparison": lambda **o: figures.algorithm_comparison(curves, **o),
        "multiplier": lambda **o: report_sections.multiplier(known(study.pairs), sorted(study.labels), **o),
        "compute_split": lambda **o: figures.compute_split(curves, **o),
        "sensitivity": lambda **o: figures.sensitivity(curves, fitted(None), windows=windows, **o),
    }


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


def draw(makers: Mapping[str, Callable[..., Drawn]], folder: Path) -> dict[str, Drawing]:
    """Draw every figure in both layouts, save it, and number those that the data can carry."""
    drawings: dict[str, Drawing] = {}
    numbered = 0
    for name, make in makers.items():
        try:
            full, column = make(layout="full"), make(layout="column")
            inline = figures.save(full, column, folder, name)
        except InputError as error:
            drawings[name] = Drawing(reason=str(error))
            continue
        numbered += 1
        drawings[name] = Drawing(
            number=numbered,
            title=full.title,
            caption=full.caption.removeprefix(str(escape(full.title))).strip(),
            finding=full.finding,
            full=Markup(inline[0]),
            column=Markup(inline[1]),
            table=as_table(name, full),
            more_rows=max(0, len(full.table) - MOST_ROWS),
        )
    return drawings


def as_table(name: str, drawn: Drawn) -> Table:
    """The first rows of a figure's data, numbers to four digits."""

    def text(value: Any) -> str:
        if isinstance(value, float | np.floating):
            return f"{value:.4g}".replace("e+", "e")
        return str(value)

    frame = drawn.table.head(MOST_ROWS)
    columns = [Column(str(c).replace("_", " "), of(str(c), text), left=frame[c].dtype == object) for c in frame]
    return Table(name, drawn.title, frame, columns)


# ---------------------------------------------------------------- sentences


def efficiency_sentence(fitted: Fit, labels: Mapping[float, str]) -> str:
    """k of the smallest and the largest size, and whether the intervals tell them apart."""
    document = fitted.json()
    lines = [line for line in document["per_size"] if line["efficiency"] is not None]
    axis = AXES.get(document["x"], document["x"])
    shown = [
        f"{amount(one['efficiency'])} {interval(one['efficiency_ci95'])} ({labels[one['num_params']]})" for one in lines
    ]
    if len(lines) == 1:
        return f"Learning efficiency against {axis}: k = {shown[0]}, one size only."
    first, last = lines[0]["efficiency_ci95"], lines[-1]["efficiency_ci95"]
    if first is None or last is None:
        return f"Learning efficiency against {axis} is k = {shown[0]} and {shown[-1]}; one of them has no interval."
    if last[0] is not None and first[1] is not None and last[0] > first[1]:
        return f"Learning efficiency grows with size: against {axis}, k goes from {shown[0]} to {shown[-1]}."
    return (
        f"Against {axis}, k is {shown[0]} and {shown[-1]}: the intervals overlap, growth with size is not established."
    )


def limit_sentence(fitted: Fit) -> str:
    """Kmax and N0 where the data identify both; else which is not, between what bounds and why."""
    document = fitted.json()
    values = document["values"]
    texts = {SYMBOL.get(name, name): parameter(value) for name, value in values.items()}
    if all(value["identified"] for value in values.values()):
        return f"Half of the limit Kmax = {texts['Kmax']} is reached at N0 = {texts['N0']}."
    said = [
        f"{SYMBOL.get(name, name)} is {'' if v['identified'] else 'not identified, 95 % '}{bounds(v)}"
        for name, v in values.items()
    ]
    reasons = list(dict.fromkeys(text.partition(": ")[2] for text in open_ends(document) if ": " in text))
    return f"A limit is not in sight: {joined(said)}" + (f" ({'; '.join(reasons)})." if reasons else ".")


def bounds(value: Mapping[str, Any]) -> str:
    """The interval of a parameter; with its value in front where it is identified."""
    return parameter(value) if value["identified"] else interval(value["ci95"], show_of(value))


def open_ends(document: Mapping[str, Any]) -> list[str]:
    """What a fit says of the ends of its intervals that are open."""
    return (document.get("intervals") or {}).get("open", [])


def other_warnings(document: Mapping[str, Any]) -> list[str]:
    """The warnings of a fit that no sentence about Kmax and N0 says already."""
    return [as_sentence(text) for text in document["warnings"] if text not in open_ends(document)]


def zero_sentence(fitted: Fit, labels: Mapping[float, str]) -> str:
    lines = [line for line in fitted.json()["per_size"] if contains_zero(line["efficiency_ci95"])]
    names = [f"{labels[line['num_params']]} {interval(line['efficiency_ci95'])}" for line in lines]
    return f"The k of {joined(names)} cannot be told from zero." if names else ""


def fit_sentences(fitted: Fit) -> list[str]:
    """What was fitted to what, and how well, R2 beside that of no learning."""
    document = fitted.json()
    goodness, window = document["goodness"], document["window"]
    axis = AXIS_SHORT.get(document["x"], "X")
    sizes = counted(len(document["per_size"]), "size")
    law = (
        f"The law ln L = −k(N) ln {axis} + E(N) has one function k(N) for all sizes and a level of its own for each"
        if document["values"]
        else f"Each size has a line of its own, ln L = −k ln {axis} + E; no law joins the sizes"
    )
    said = [
        f"{law}; a line is drawn solid only over the steps that were fitted.",
        f"It rests on {counted(document['n_points'], 'evaluation')} of {counted(document['n_runs'], 'run')} of "
        f"{sizes}, "
        f"steps {window['first_step']}–{window['last_step']}, {document['objective']} objective.",
    ]
    pooled, constant, within = (goodness.get(name) for name in ("r2_pooled", "r2_pooled_constant", "r2_within"))
    if pooled is not None and constant is not None and within is not None:
        said.append(
            f"It explains {100 * within:.0f} % of the variation of L within sizes (pooled over sizes its R2 is "
            f"{number(pooled)}, beside {number(constant)} for the same with k = 0, no learning at all)."
        )
    if goodness.get("rmse_ln_loss") is not None:
        said.append(f"The points scatter about it by {number(goodness['rmse_ln_loss'])} in ln L (root mean square).")
    points = figures.fitted_points(fitted)
    miss = figures.largest_miss(figures.residual_means(points), figures.size_labels(points))
    said.append(f"{as_sentence(miss).rstrip('.')} (panel b).")
    return [*said, *other_warnings(document)]


def unseen_slope(study: Study) -> str:
    """Whether the law that has not seen the largest size predicts its k."""
    found, main = study.without_largest, study.main
    held = {} if isinstance(found, str) else found.json()["held_out"]
    if main is None or held.get("efficiency_law") is None or held["efficiency_own_line"] is None:
        return ""
    label = study.labels[held["num_params"]]
    own = next(row for row in main.per_size if row["num_params"] == held["num_params"])
    inside = verdict(held["efficiency_law_ci95"], held["efficiency_own_line"])
    return (
        f"Fitted without {label}, the law predicts k = {amount(held['efficiency_law'])} "
        f"{interval(held['efficiency_law_ci95'])} there; its own line has "
        f"{amount(held['efficiency_own_line'])} {interval(own['efficiency_ci95'])}: {inside}."
    )


def verdict(ends: Sequence[float | None] | None, value: float) -> str:
    if ends is None:
        return "without an interval this says little"
    low, high = ends
    held = (low is None or low <= value) and (high is None or value <= high)
    return "inside the predicted interval" if held else "outside the predicted interval"


def algorithm_sentences(table: Table | None) -> list[str]:
    """The difference at each size with its number of pairs, in words that its interval allows."""
    if table is None:
        return []
    said = []
    for row in table.frame.to_dict("records"):
        ends, pairs = ends_of(row), int(row["pairs"])
        text = f"{row['label']}: PAPO minus GRPO is {number(row['difference'], sign=True)}"
        if ends is None:
            said.append(f"{text} in one pair, so there is no interval.")
            continue
        text += f" {interval(ends, lambda v: number(v, sign=True))} over {counted(pairs, 'pair')}"
        word = "cannot be told from zero" if contains_zero(ends) else "the interval excludes 0"
        few = f"; an interval from {pairs} pairs is wide, more seeds would narrow it" if pairs <= 3 else ""
        said.append(f"{text}: {word}{few}.")
    return said


def sensitivity_sentences(study: Study, table: Table | None) -> list[str]:
    """Over which range the conclusions move."""
    if table is None or study.main is None or "r2_pooled" not in table.frame:
        return []
    frame = table.frame
    last = study.main.json()["per_size"][-1]["num_params"]
    fits = [fitted for _, fitted in study.alternatives if not isinstance(fitted, str)]
    said = [f"The choice of this page is {choice_words(study)}; {counted(len(fits), 'other choice')} were tried."]
    k = frame[f"k_{last:.0f}"].dropna()
    said.append(f"Over all of them k of the largest size, {study.labels[last]}, lies within {span(k.tolist())}.")
    documents = [study.main.json(), *(fitted.json() for fitted in fits)]
    for name in study.main.json()["values"]:
        identified = sum(document["values"].get(name, {}).get("identified", False) for document in documents)
        said.append(f"{SYMBOL.get(name, name)} is identified under {identified} of {len(documents)}.")
    pooled, constant = frame["r2_pooled"].dropna(), frame["r2_pooled_constant"].dropna()
    said.append(
        f"Pooled R2 stays within {span(pooled.tolist(), number)} throughout, beside "
        f"{span(constant.tolist(), number)} for "
        "k = 0: it does not tell these choices apart."
    )
    return said


def summary(
    study: Study, drawings: Mapping[str, Drawing], tables: Mapping[str, Table | None]
) -> dict[str, list[tuple[str, str]]]:
    """The box at the top: (tag or "", sentence)."""
    return {
        "run": summary_run(study),
        "says": [("", sentence) for sentence in summary_says(study, drawings)],
        "unknown": summary_unknown(study, drawings, tables),
    }


def summary_run(study: Study) -> list[tuple[str, str]]:
    table, runs = study.curves.table, study.curves.runs()
    sizes = [study.labels[n] for n in sorted(study.labels)]
    which = f"{counted(len(sizes), 'size')} ({sizes[0]} to {sizes[-1]})" if len(sizes) > 1 else f"one size ({sizes[0]})"
    kind = "mean curve" if "n_runs" in table else "run"
    said = [f"{counted(len(runs), kind)} of {which}, {span(runs['last_step'].tolist(), '{:.0f}'.format)} steps"]
    if "seed" in runs and runs["seed"].nunique() > 0:
        said[0] += f", {counted(runs['seed'].nunique(), 'seed')}"
    if "algorithm" in runs:
        said[0] += f", {joined(sorted(str(a).upper() for a in runs['algorithm'].dropna().unique()))}"
    items = [("", f"{said[0]}.")]
    if "eval_problems" in table and table["eval_problems"].notna().any():
        items.append(("", f"Test set: {test_set(table)}."))
    if beside := other_sets(table):
        items.append(("beside it", f"{'; '.join(beside)} at the end of the runs; every step is in curve.jsonl."))
    left = [item for item in study.curves.left_out if not item["reason"].startswith("not in the current")]
    if left:
        names = joined([item["run"] for item in left[:4]] + ([f"{len(left) - 4} more"] if len(left) > 4 else []))
        items.append((f"{len(left)} missing", f"{names}: not in any number of this page."))
    elif study.curves.folder:
        items.append(("complete", "Every run of the study is done."))
    if "n_runs" in table and (table["n_runs"].isna().any() or table.groupby("run_id")["n_runs"].nunique().max() > 1):
        items.append(("uneven", "The number of runs behind a mean changes within curves or is unknown."))
    return items


def other_sets(table: Frame) -> list[str]:
    """`amc pass@4 0.21–0.35` for each set that was evaluated beside the test set, over the runs' last values."""
    found = []
    for column in table.columns:
        parts = str(column).removeprefix(schema.SETS).rsplit(".pass_at_", 1)
        if str(column).startswith(schema.SETS) and len(parts) == 2 and parts[1].isdigit():
            last = table.groupby("run_id")[column].last().dropna()
            if len(last):
                found.append(f"{parts[0]} pass@{parts[1]} {span(sorted(last.unique()), '{:.3g}'.format)}")
    return found


def test_set(table: Frame) -> str:
    problems = span(sorted(table["eval_problems"].dropna().unique()), whole)
    samples = sorted(table["eval_samples"].dropna().unique()) if "eval_samples" in table else []
    each = (
        "one sample each"
        if samples == [1]
        else f"{span(samples, whole)} samples each"
        if samples
        else "samples unknown"
    )
    return f"{problems} fixed problems, {each}"


def summary_says(study: Study, drawings: Mapping[str, Drawing]) -> list[str]:
    """Three sentences: the first three of what this study can say."""
    said = []
    if study.main:
        link = drawings["efficiency"].link
        said.append(efficiency_sentence(study.main, study.labels).rstrip(".") + f"{link}.")
        values = study.main.json()["values"].values()
        if values and all(value["identified"] for value in values):
            said.append(limit_sentence(study.main))
    others = [drawings[name] for name in ("reuse", "algorithm_comparison", "frontier", "group_size")]
    said += [other.finding.rstrip(".") + f"{other.link}." for other in others if not other.reason]
    return said[:3] or ["No law could be fitted and no comparison be made; see below."]


def summary_unknown(
    study: Study, drawings: Mapping[str, Drawing], tables: Mapping[str, Table | None]
) -> list[tuple[str, str]]:
    items = []
    for axis, reason in study.no_fit.items():
        if axis in ("train_flops", study.main_axis):
            items.append(("no fit", f"against {AXES.get(axis, axis)}: {reason}"))
    if study.main:
        for name, value in study.main.json()["values"].items():
            if not value["identified"]:
                show = show_of(value)
                text = f"{SYMBOL.get(name, name)}: optimum {show(value['value'])}, 95 % {interval(value['ci95'], show)}"
                items.append(("not identified", f"{text}{drawings['efficiency'].link}."))
        zero = zero_sentence(study.main, study.labels)
        if zero:
            items.append(("not established", zero))
        items += [("warning", text) for text in other_warnings(study.main.json())[:2]]
    if cut := cut_sentence(study):
        items.append(("warning", cut))
    if compared := tables["algorithms"]:
        rows = compared.frame.to_dict("records")
        unclear = [row["label"] for row in rows if contains_zero(ends_of(row)) or row["pairs"] == 1]
        if unclear:
            link = drawings["algorithm_comparison"].link
            items.append(("not established", f"GRPO against PAPO at {joined(unclear)}{link}."))
    return items or [("", f"Every parameter of the law has a finite interval; what moves with the choices is in "
                          f"{drawings['sensitivity'].link.strip(' ()') or 'the section on choices'}.")]  # fmt: skip


def cut_sentence(study: Study) -> str:
    """Which runs end with so many responses cut at their limit that it matters for L; empty where none does."""
    table = study.curves.table
    if "eval_truncated_share" not in table:
        return ""
    known = table[table["test_loss"].notna()].sort_values("step")
    last = known.groupby("run_id")["eval_truncated_share"].last()
    cut = last[last >= MUCH_CUT]
    if cut.empty:
        return ""
    return (
        f"{counted(len(cut), 'run')} had {100 * MUCH_CUT:.0f} % or more of the responses of the last evaluation cut at "
        f"their limit of tokens, most of them {run_names(study)[str(cut.idxmax())]} "
        f"({100 * cut.max():.0f} %): a cut answer counts as wrong, so a part of L is length."
    )


# ---------------------------------------------------------------- rollouts


def rollouts(study: Study) -> dict[str, Any]:
    """The same problems before and after training, chosen by a rule that nobody can bend."""
    folder = study.curves.folder
    if folder is None:
        return {"reason": "the source has curves only, no texts."}
    runs = study.fitted().runs().sort_values([study.size_column, "seed", "run_id"])
    sizes = sorted(runs[study.size_column].unique())
    middle = sizes[(len(sizes) - 1) // 2]
    run_id = runs.loc[runs[study.size_column] == middle, "run_id"].iloc[0]
    rows = record.read_record(folder / schema.RUNS / run_id, schema.ROLLOUTS)
    rows = [row for row in rows if row.get("sample", 0) == 0]
    if not rows:
        return {"reason": f"run {run_id} recorded no texts."}
    first, last = min(row["step"] for row in rows), max(row["step"] for row in rows)
    problems = []
    for problem in dict.fromkeys(row["problem"] for row in rows):
        pair = {row["step"]: row for row in rows if row["problem"] == problem}
        if first in pair and last in pair and first != last:
            samples = [("Before, step " + str(first), sample(pair[first])), (f"After, step {last}", sample(pair[last]))]
            problems.append({"prompt": pair[first]["prompt"], "samples": samples})
    if not problems:
        return {"reason": f"run {run_id} recorded texts at one step only."}
    of_size = " (the lower of the two in the middle)" if len(sizes) % 2 == 0 else ""
    rule = (
        f"Not picked by hand: the fitted run of the median size{of_size} with the lowest seed, "
        f"{run_names(study)[run_id]}; "
        f"all {len(problems)} test problems whose texts a run records, which are the first of the test set; the first "
        "sample of each; at the first and the last evaluation."
    )
    return {"rule": rule, "problems": problems}


def sample(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "response": row["response"],
        "verdict": "right" if row["correct"] else "wrong",
        "truncated": row.get("truncated", False),
    }


# ---------------------------------------------------------------- what intervals rest on, provenance


def interval_sentences(study: Study) -> list[str]:
    table, said = study.fitted().table, []
    if "eval_problems" in table and table["eval_problems"].notna().any():
        scale = float(np.sqrt(500 / table["eval_problems"].max()))
        said.append(
            f"One test set: {test_set(table)}, the same for every run and step. Intervals hold for this set. For new "
            f"problems of the same kind add in quadrature about {3.5 * scale:.1f} % of Kmax and {5 * scale:.1f} % of "
            "N0 "
            "(measured on the reference study, scaled to this number of problems); no number of seeds can show it."
        )
    if study.main:
        document = study.main.json()
        per_size = [line["n_runs"] for line in document["per_size"]]
        said.append(
            "Runs are independent, points of one curve are not: intervals rest on "
            f"{counted(document['n_runs'], 'run')} "
            f"({span(per_size, whole)} at each size), not on {counted(document['n_points'], 'point')}."
        )
        if max(per_size) == 1:
            degrees = counted(max(document["n_runs"] - 2, 0), "degree")
            said.append(
                f"One run per size: the interval of the law assumes the law; scatter about it has {degrees} of freedom."
            )
        else:
            said.append(
                "The shared parameters allow that sizes miss the law by a little; the interval of one size's k rests "
                "on the spread between its own runs and that of the other sizes."
            )
    if study.bases:
        bases = {(base["recipe"]["size"], base["recipe"].get("base_seed")) for base in study.bases}
        seeds = study.curves.table.groupby(study.size_column)["seed"].nunique()
        own = len(bases) >= int(seeds.sum())
        said.append(
            "Each seed starts from a base model of its own, so the spread between seeds contains that of the base, the "
            "largest source of variance here."
            if own
            else "Seeds of one size share a base model: the intervals are too narrow for another base."
        )
    if "n_runs" in table:
        said.append(
            "Curves are means over runs; their scatter is what is left after the mean, and the seeds are not seen "
            "singly."
        )
    said.append(
        "The choice of window, objective and axis is not in the intervals; what it moves is in the section above."
    )
    return [*said, *filter(None, [study.coverage])]


def provenance(study: Study) -> list[tuple[str, str]]:
    curves = study.curves
    source = study.name if curves.folder else curves.source if ":" in curves.source else Path(curves.source).name
    items = [("Data", f"{source}, {len(curves.table):,} rows, sha256 {curves.data_hash}…")]
    if study.attempts:
        for word, keys in [("Code", ("package", "commit")), ("Versions", ("python", "torch", "transformers"))]:
            parts = [
                f"{key} {joined(short_commits(found))}" for key in keys if (found := distinct(study.attempts, key))
            ]
            items.append((word, ", ".join(parts) or "not recorded"))
        machine, threads = (joined(distinct(study.attempts, key)) for key in ("processor", "threads"))
        items.append(("Machine", f"{machine or 'not recorded'}, threads per run {threads or 'not recorded'}"))
        moments = [attempt["started_ms"] for attempt in study.attempts if "started_ms" in attempt]
        moments += [curves.table["time_ms"].max()] if "time_ms" in curves.table else []
        days = list(dict.fromkeys(day(moment) for moment in (min(moments), max(moments)))) if moments else []
        count = f"{len(study.attempts)} process{'es' if len(study.attempts) > 1 else ''}"
        items.append(("Trained", f"{' to '.join(days) or 'not recorded'} (UTC), {count}"))
    if "cpu_seconds" in curves.table:
        cost = f"{curves.table['cpu_seconds'].sum():,.0f} CPU seconds for the runs"
        bases = [base["timing"]["cpu_seconds"] for base in study.bases if "timing" in base]
        cost += f", {sum(bases):,.0f} for {counted(len(bases), 'base model')}" if bases else ""
        items.append(("Cost", f"{cost}; start-up of processes not counted"))
    command = source if not curves.folder else curves.folder.name
    items.append(("Made by", f"scaling report {command}"))
    versions = [
        f"{name} {metadata.version(name)}" for name in ("rl-scaling-lab", "numpy", "scipy", "pandas", "matplotlib")
    ]
    items.append(("Analysis", ", ".join(versions)))
    if study.main:
        document = study.main.json()
        items.append(("Law", f"{figures.law_in_words(document, 'X')}; {document['citation']}".rstrip("; ")))
    items.append(("Fits", "fits/*.json beside this report; figures/ and report/tables/ hold every number of the page"))
    return items


def distinct(records: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    return list(dict.fromkeys(str(item[key]) for item in records if item.get(key) is not None))


def short_commits(values: Sequence[str]) -> list[str]:
    """Commits by their first 12 digits; a `+` at the end means that files were changed and not committed."""
    found = [re.fullmatch(r"([0-9a-f]{12})[0-9a-f]{28}(\+?)", value) for value in values]
    return [
        value if match is None else match[1] + (" with uncommitted changes" if match[2] else "")
        for value, match in zip(values, found, strict=True)
    ]


def day(milliseconds: float) -> str:
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC).date().isoformat()


# ---------------------------------------------------------------- the page

VARIABLE = re.compile(r"(?<![\w.\-&])([kNCDLEGUTX])(?![\w\-])")


def symbols(text: str) -> Markup:
    """Escaped text with its symbols in italics: k, N0, Kmax, R2, L."""
    text = VARIABLE.sub(r"<i>\1</i>", str(text))
    text = re.sub(r"\bN0\b", "<i>N</i><sub>0</sub>", text)
    text = re.sub(r"\bKmax\b", "<i>K</i><sub>max</sub>", text)
    return Markup(re.sub(r"\bR2\b", "<i>R</i><sup>2</sup>", text))


def prose(text: str) -> Markup:
    """A plain sentence as HTML: escaped, symbols in italics, `Figure 2` a link."""
    shown = str(symbols(str(escape(text)).replace(" %", "\u00a0%")))
    return Markup(re.sub(r"\bFigure (\d+)", r'<a href="#figure-\1">Figure \1</a>', shown))


TONES = {
    "ok": ("done", "complete", "identified", "right", "scored", "predicted", "reached", "least error"),
    "bad": ("failed", "missing", "not identified", "wrong", "no fit", "leaks", "never", "not fitted"),
    "warning": (
        "incomplete",
        "warning",
        "not established",
        "cut off",
        "uneven",
        "not made",
        "extrapolated",
        "not reached",
        "worse",
        "not told apart",
        "no interval",
    ),
}


def tone(word: str) -> str:
    """The colour of a status word; digits in front (`2 done`) do not matter."""
    bare = word.lstrip("0123456789 ")
    return next((name for name, words in TONES.items() if bare in words), "none")


def findings(drawing: Drawing) -> list[str]:
    return [] if drawing.reason else [drawing.finding]


def environment() -> jinja2.Environment:
    """The templates, with the filters that they use."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"prose": prose, "symbols": symbols, "tone": tone}
    return found


def render(study: Study, drawings: Mapping[str, Drawing], tables: Mapping[str, Table | None]) -> str:
    left_out = [] if tables["left_out"] else ["Runs left out: none."]
    left_out += [as_sentence(text) for text in study.curves.notes]
    limits = [limit_sentence(study.main)] if study.main and study.main.json()["values"] else []
    fits = {axis: fit_sentences(fitted) for axis, fitted in study.fits.items()}
    sizes = [study.labels[n].split()[0] for n in sorted(study.labels)]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8").strip()),
            title=f"How test loss scales with size and compute: {study.name}",
            subtitle=" · ".join(
                [
                    f"{len(sizes)} sizes, {sizes[0]}–{sizes[-1]}" if len(sizes) > 1 else f"one size, {sizes[0]}",
                    counted(
                        study.curves.table["run_id"].nunique(),
                        "mean curve" if "n_runs" in study.curves.table else "run",
                    ),
                    counted(int(study.curves.table["test_loss"].notna().sum()), "evaluation"),
                ]
            ),
            contents=CONTENTS,
            figures=drawings,
            tables=tables,
            summary=summary(study, drawings, tables),
            runs={"left_out": left_out, **what_was_held(study)},
            sections={name: study.sections[name].sentences if name in study.sections else [] for name in SECTIONS},
            curves={
                "compute": fits.get("train_flops", []),
                "prompts": fits.get("prompts_seen", [])[1:],  # the law is explained once
                "unseen": [unseen_slope(study)],
            },
            efficiency=[efficiency_sentence(study.main, study.labels), *limits, zero_sentence(study.main, study.labels)]
            if study.main
            else [],
            frontier=[*findings(drawings["frontier"]), FREE_STEP] if not drawings["frontier"].reason else [],
            reuse=findings(drawings["reuse"]),
            group_size=findings(drawings["group_size"]),
            algorithms=algorithm_sentences(tables["algorithms"]),
            compute=findings(drawings["compute_split"]),
            choices=sensitivity_sentences(study, tables["sensitivity"]),
            rollouts=rollouts(study),
            intervals=interval_sentences(study),
            provenance=provenance(study),
            symbols_line=SYMBOLS,
        )
        + "\n"
    )


FREE_STEP = (
    "Step 0 costs no training compute: where budgets are small the frontier ranks base models and says nothing of RL."
)
