"""The reference study (Tan et al., arXiv 2509.25300) from the shipped curves: tables and figures beside what it prints.

    DIR/report/index.html      the page; DIR/report/tables/*  every table as CSV and LaTeX; DIR/figures/*

Each number of ours is computed here from the curves; each published one stands in `PUBLISHED` and nowhere else. Where
the published protocol uses what it predicts, the page says so and shows the version that does not. What the shipped
data do not support is listed, and so is what is odd in them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from markupsafe import Markup
from scipy.optimize import least_squares

from analysis import Fit, figures, fit
from analysis.curves import Curves, load
from analysis.figures import Frame, short_number
from analysis.fit import fit_curves, select_points
from analysis.forecast import detect_leak, first_points, score_protocols
from analysis.frontier import already_there, evaluations, frontier, reuse_threshold
from analysis.laws import decomposition
from analysis.report import TEMPLATES, Drawing, draw, environment
from analysis.solve import Points
from analysis.splits import rmse
from analysis.tables import Column, Table, as_sentence, interval, of
from scaling import record
from scaling.schema import InputError, check_name

SOURCES = {
    "base": "reference:qwen2.5_base",
    "replicates": "reference:qwen2.5_base_replicates",
    "reuse": "reference:qwen2.5_base_reuse",
    "group_size": "reference:qwen2.5_base_group_size",
}
# What the study prints: (Kmax, N0 in 1e9, R2) by axis and protocol; final test loss by size in 1e9; the range of the
# standard deviation over repeats; the reuse up to which the final loss is flat.
PUBLISHED = {
    "fits": {
        ("train_flops", "intra"): (0.135, 13.1, 0.996),
        ("train_flops", "inter"): (0.152, 17.4, 0.994),
        ("prompts_seen", "intra"): (0.135, 11.5, 0.995),
        ("prompts_seen", "inter"): (0.163, 17.0, 0.995),
    },
    "final": {0.5: 0.942, 1.5: 0.913, 3: 0.858, 7: 0.715, 14: 0.605, 32: 0.494, 72: 0.436},
    "sd": (0.006, 0.015),
    "flat_reuse": 25,
}
PROTOCOLS = {
    "intra": ("first part of every curve (last 80 points dropped)", {"points": ":-80"}),
    "inter": ("0.5B-32B, all points", {"where": "num_params <= 32e9"}),
}
AXES = {"train_flops": "C", "prompts_seen": "D"}
WINDOWS = ("1:", "5:", "11:", "25:", "1:50", "11:50", "40:60")
MISSING = {
    "transfer to other domains": "the losses on other test sets were not read off",
    "response length": "not read off",
    "loss against N for trained and public models": "not read off",
    "instruct and Llama models": "only base models are shipped; no Llama curve that was published measures a run",
}
CONTENTS = [
    ("fits", "Fitted parameters", "Do the published Kmax and N0 come out, and how well are they known?"),
    ("inter", "Predicting a larger size", "Is 72B predicted by the smaller sizes, or fitted?"),
    ("intra", "Predicting the rest of a curve", "Does the first part of a curve tell its end?"),
    ("efficiency", "Learning efficiency", "How do k and E change with size, on both axes?"),
    ("decomposition", "Loss decomposition", "What does the three-part law predict?"),
    ("final", "Final loss", "Where do the sizes end, and how far do repeats scatter?"),
    ("reuse", "Data reuse", "From which reuse on is the loss worse?"),
    ("group-size", "Group size", "Which number of rollouts is best at a budget?"),
    ("frontier", "Compute-optimal size", "Are larger models better at a fixed budget?"),
    ("odd", "What is odd in these data", "What must a reader not average away?"),
    ("findings", "The four findings", "What of the study's conclusions do its own curves support?"),
    ("missing", "What is not here", "Which tables and figures cannot be made from the shipped curves?"),
]


class Study:
    """The curves of the study and the fits that several tables share, each made once."""

    def __init__(self, curves: Mapping[str, Curves] | None = None):
        given = curves or {}
        self.curves = {name: given.get(name) or load(source) for name, source in SOURCES.items()}
        self._fits: dict[str, Fit] = {}

    @cached_property
    def decomposition(self) -> Decomposition:
        return decompose(self.curves["base"])

    def fit(self, **choices: Any) -> Fit:
        key = repr(sorted(choices.items()))
        if key not in self._fits:
            self._fits[key] = fit(self.curves["base"], **choices)
        return self._fits[key]


def reproduce(name: str = "tan2025", out: str | Path | None = None, curves: Mapping[str, Curves] | None = None) -> Path:
    """Write the page that sets ours beside the published; returns its path.

    Args:
        name: the study; there is tan2025. out: default `reproduce-NAME` in this directory.
        curves: by name of `SOURCES`, in the place of the shipped ones.
    """
    check_name(name, ["tan2025"], "study to reproduce")
    folder = Path(out) if out else Path(f"reproduce-{name}")
    study = Study(curves)
    tables = all_tables(study)
    drawings = draw(figure_makers(study), folder / "figures")
    (folder / "report" / "tables").mkdir(parents=True, exist_ok=True)
    for table in tables.values():
        table.write(folder / "report" / "tables")
    page = folder / "report" / "index.html"
    record.write_atomic(page, render(study, drawings, tables))
    return page


# ---------------------------------------------------------------- tables


def all_tables(study: Study) -> dict[str, Table]:
    """Every table by name: `fits`, `inter`, `intra`, `efficiency`, `decomposition`, `final`, `reuse`, `group_size`,
    `windows`, `late`, `odd`, `findings`."""
    return {
        "fits": fits_table(study),
        "inter": inter_table(study),
        "intra": intra_table(study),
        "efficiency": efficiency_table(study),
        "decomposition": decomposition_table(study),
        "final": final_table(study),
        "reuse": reuse_table(study),
        "group_size": group_table(study),
        "windows": windows_table(study),
        "late": late_table(study),
        "odd": odd_table(study),
        "findings": findings_table(study),
    }


def digits(count: int, *, sign: bool = False) -> Callable[[Any], str]:
    """A number with so many decimals and a true minus sign; a missing one as a dash."""

    def show(value: Any) -> str:
        if value is None or not np.isfinite(value):
            return "–"
        return f"{value:{'+' if sign else ''}.{count}f}".replace("-", "−")

    return show


def size(value: Any) -> str:
    return short_number(float(value))


def billions(ends: Any) -> str:
    return interval(ends, lambda value: f"{value / 1e9:.3g}")


def _ends(row: dict[str, Any], name: str, scale: float = 1.0) -> Any:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return tuple(None if end is None or pd.isna(end) else end / scale for end in (low, high))


def _split(row: dict[str, Any], name: str, ends: Any) -> None:
    row[f"{name}_low"], row[f"{name}_high"] = ends if ends is not None else (None, None)


def fits_table(study: Study) -> Table:
    rows = []
    for (x, protocol), (k_max, n0, r2) in PUBLISHED["fits"].items():
        words, choice = PROTOCOLS[protocol]
        found = study.fit(x=x, objective="linear", **choice)
        values, good = found.values, found.record["goodness"]
        row = {
            "protocol": f"L(N, {AXES[x]}), {protocol}", "points": words,
            "k_max": values["k_max"]["value"], "k_max_published": k_max,
            "n0": values["n0"]["value"] / 1e9, "n0_published": n0,
            "r2": good["r2_pooled"], "r2_published": r2, "r2_without_slope": good["r2_pooled_constant"],
        }  # fmt: skip
        for name in ("k_max", "n0", "r2"):
            row[f"{name}_difference"] = row[name] - row[f"{name}_published"]
        _split(row, "k_max", values["k_max"]["ci95"])
        _split(row, "n0", values["n0"]["ci95"])
        rows.append(row)
    columns = [
        Column("protocol", of("protocol")),
        Column("Kmax", of("k_max", digits(4))), Column("published", of("k_max_published", digits(3))),
        Column("difference", of("k_max_difference", digits(4, sign=True))),
        Column("95 %", lambda row: interval(_ends(row, "k_max"), lambda v: f"{v:.3f}")),
        Column("N0, 1e9", of("n0", digits(2))), Column("published", of("n0_published", digits(1))),
        Column("difference", of("n0_difference", digits(2, sign=True))),
        Column("95 %", lambda row: billions(_ends(row, "n0"))),
        Column("R2", of("r2", digits(4))), Column("published", of("r2_published", digits(3))),
        Column("difference", of("r2_difference", digits(4, sign=True))),
        Column("R2 of k = 0", of("r2_without_slope", digits(3))),
    ]  # fmt: skip
    note = (
        f"Points: intra, {PROTOCOLS['intra'][0]}; inter, {PROTOCOLS['inter'][0]}. "
        "Objective of the study: squared error on L, equal weight per size. Intervals: inverted profile F test on the "
        "slopes of the mean curves, one per size, so they assume the law. R2 is pooled and unweighted; a level per "
        "size without any slope has the R2 of the last column, so R2 alone says nothing."
    )
    return Table("fits", "Kmax, N0 and R2 by protocol and axis", pd.DataFrame(rows), columns, note)


def leaking_protocol(x: str) -> Callable[[Curves], np.ndarray]:
    """The published inter-model figure: slope from 0.5B-32B, level of 72B by least squares on the very points shown."""

    def predict(curves: Curves) -> np.ndarray:
        found = fit_curves(curves, x=x, objective="linear", split="inter")
        points, _ = select_points(curves.where("num_params > 32e9"), x)
        slope = float(found.efficiency(points.sizes[0]))
        shape = np.exp(-slope * (points.x - points.x.mean()))
        return np.log(shape * float(points.loss @ shape) / float(shape @ shape))

    return predict


def inter_table(study: Study) -> Table:
    base, rows = study.curves["base"], []
    held = base.table["num_params"] > 32e9
    for x, letter in AXES.items():
        points, _ = select_points(base.where("num_params > 32e9"), x)
        protocol = leaking_protocol(x)
        away = protocol(base) - points.ln_loss()
        rows.append({
            "axis": letter, "rule": "published: level fitted on 72B itself", "tuned": "level on all 72B points",
            "points": len(points), "rmse": rmse(away), "bias": float(away.mean()), "coverage": None,
            "leaks": detect_leak(protocol, base, held),
        })  # fmt: skip
        scores = score_protocols(base, x=x, objective="linear")
        for entry in scores[:2]:
            if "error" in entry:
                raise InputError(entry["error"])
            for rule, error in entry["rmse_ln_loss"].items():
                name = {"law": "slope by the law, " + ("level linear in ln N" if entry is scores[0] else
                                                       "level from 10 points")}.get(rule, rule)  # fmt: skip
                rows.append({
                    "axis": letter, "rule": name, "tuned": entry["tuned_on_held_out"], "points": entry["n_points"],
                    "rmse": error, "bias": entry["bias_ln_loss"][rule], "leaks": entry["leak"],
                    "coverage": entry["interval_coverage"] if rule == "law" else None,
                })  # fmt: skip
    columns = [
        Column("rule", of("rule")), Column("axis", of("axis")), Column("tuned on 72B", of("tuned"), left=True),
        Column("points", of("points")), Column("rmse of ln L", of("rmse", digits(3))),
        Column("bias", of("bias", digits(3, sign=True))),
        Column("inside 95 %", of("coverage", lambda v: f"{100 * v:.0f} %")),
        Column("uses what it predicts", lambda row: "yes" if row["leaks"] else "no"),
    ]  # fmt: skip
    note = (
        "The published inter-model figure fits E(72B) to the 72B curve: it predicts a slope and not a level. The last "
        "column is measured: the 72B values to be predicted were disturbed, and the prediction moved or did not. "
        "Intervals are those of a measured run."
    )
    return Table("inter", "72B predicted from 0.5B-32B", pd.DataFrame(rows), columns, note)


def intra_table(study: Study) -> Table:
    rows = []
    for x, letter in AXES.items():
        for fraction in (25 / 105, 0.3, 0.5):
            entry = score_protocols(study.curves["base"], x=x, objective="linear", fraction=fraction)[2]
            if "error" in entry:
                raise InputError(entry["error"])
            row = {
                "axis": letter, "fitted": fraction, "points": entry["n_points"], "x_factor": entry["x_factor"],
                "coverage": entry["interval_coverage"], "leaks": entry["leak"],
            }  # fmt: skip
            rows.append(row | {f"rmse_{name.replace(' ', '_')}": v for name, v in entry["rmse_ln_loss"].items()})
    columns = [
        Column("fitted part", of("fitted", lambda v: f"first {100 * v:.0f} %")), Column("axis", of("axis")),
        Column("points predicted", of("points")), Column("X up to, times fitted", of("x_factor", digits(1))),
        Column("law", of("rmse_law", digits(4))), Column("line per size", of("rmse_line_per_size", digits(4))),
        Column("last value", of("rmse_last_value", digits(4))),
        Column("inside 95 %", of("coverage", lambda v: f"{100 * v:.0f} %")),
    ]  # fmt: skip
    note = (
        "rmse of ln L of the points after the fitted part. The published figure fits the first 25 of 105 points. "
        f"A line per size predicts better than the law in {sum(r['rmse_line_per_size'] < r['rmse_law'] for r in rows)} "
        f"of the {len(rows)} rows. Intervals are those of the same run as it is measured, by its own line."
    )
    return Table("intra", "The rest of each curve predicted from its first part", pd.DataFrame(rows), columns, note)


def efficiency_table(study: Study) -> Table:
    fits = {x: study.fit(x=x) for x in AXES}
    rows = []
    for i, line in enumerate(fits["train_flops"].per_size):
        row: dict[str, Any] = {"num_params": line["num_params"]}
        for x, letter in AXES.items():
            own = fits[x].per_size[i]
            row |= {f"k_{letter}": own["efficiency"], f"k_law_{letter}": own["efficiency_law"],
                    f"E_{letter}": own["intercept"], f"E_law_{letter}": own["intercept_law"]}  # fmt: skip
            _split(row, f"k_{letter}", own["efficiency_ci95"])
        rows.append(row)
    columns = [Column("N", of("num_params", size))]
    for letter in AXES.values():
        columns += [
            Column(f"k on {letter}", of(f"k_{letter}", digits(4))),
            Column("95 %", lambda row, name=f"k_{letter}": interval(_ends(row, name), lambda v: f"{v:.3f}")),
            Column("law", of(f"k_law_{letter}", digits(4))),
            Column(f"E on {letter}", of(f"E_{letter}", digits(2))),
        ]
    found = study.fit(law="consistency").record["consistency"]
    p = found["by_run"]["p"]
    note = (
        "k: slope of the size's own line, E: ln L at X = 1 (natural log). If C were N D phi with one phi, k would be "
        f"the same on both axes: mean difference {found['by_run']['mean_difference']:+.4f}"
        + (f" over {found['by_run']['n_runs']} curves, p = {p:.2g}." if p is not None else ".")
        + " The study prints these as figures only."
    )
    return Table("efficiency", "k(N) and E(N) on both axes", pd.DataFrame(rows), columns, note.replace("-", "−"))


class Decomposition(NamedTuple):
    """The two protocols of the loss decomposition on the prompts axis.

    Fields:
        intra: fitted to the first `PART` of every curve; smaller: to all points of every size but the largest.
        early, late: points of the largest size that set its own two numbers, and those that are predicted.
        own: its amplitude and d0, with the shape of `smaller`.
    """

    intra: Fit
    smaller: Fit
    early: Points
    late: Points
    own: dict[str, float]

    def largest(self, ln_x: np.ndarray) -> np.ndarray:
        """Loss of the largest size at ln X, (n,): shape of the smaller sizes, its own two numbers."""
        values = {name: entry["value"] for name, entry in self.smaller.values.items()}
        return np.asarray(decomposition.LAW.curve(self.early.sizes[0], np.exp(ln_x), {**values, **self.own}))


PART = 0.3  # of a curve that the loss decomposition is fitted to


def decompose(base: Curves) -> Decomposition:
    law = "decomposition", "prompts_seen", "linear"
    intra = fit_curves(base, *law, split=f"intra:{PART}")
    smaller = fit_curves(base, *law, where="num_params <= 32e9")
    every, _ = select_points(base.where("num_params > 32e9"), "prompts_seen")
    early = first_points(every, int(PART * len(every)))
    values = {name: entry["value"] for name, entry in smaller.values.items()}
    fixed = float(decomposition.fixed_part(every.sizes[0], values))

    def miss(theta: np.ndarray) -> np.ndarray:
        own = {"amplitude": np.exp(theta[0]), "d0": np.exp(theta[1])}
        return early.loss - decomposition.LAW.curve(every.sizes[0], np.exp(early.x), {**values, **own})

    start = [math.log(max(float(early.loss[0]) - fixed, 0.05)), float(early.x.max())]
    amplitude, d0 = np.exp(least_squares(miss, start).x)
    late = every.take(every.step > early.step.max())
    return Decomposition(intra, smaller, early, late, {"amplitude": float(amplitude), "d0": float(d0)})


def decomposition_scores(found: Decomposition) -> list[dict[str, Any]]:
    """rmse of ln L on what each protocol predicts, beside the rules without a law."""
    held = found.intra.record["held_out"]
    early, late = found.early, found.late
    line = np.polyval(np.polyfit(early.x, early.ln_loss(), 1), late.x)
    return [
        {"protocol": f"intra-model, first {100 * PART:.0f} % of each curve", "tuned": "nothing",
         "points": held["n_points"], **{f"rmse_{name}": value for name, value in held["rmse_ln_loss"].items()}},
        {"protocol": "inter-model, 72B, shape of 0.5B-32B",
         "tuned": f"two numbers on the first {len(early)} points of 72B", "points": len(late),
         "rmse_law": rmse(np.log(found.largest(late.x)) - late.ln_loss()), "rmse_per_size": rmse(line - late.ln_loss()),
         "rmse_last_value": rmse(early.ln_loss()[-1] - late.ln_loss())},
    ]  # fmt: skip


def decomposition_table(study: Study) -> Table:
    """The rest of each curve from its first part; 72B with shared shape, its own two numbers from its first part."""
    smaller, rows = study.decomposition.smaller, decomposition_scores(study.decomposition)
    values = {name: entry["value"] for name, entry in smaller.values.items()}
    columns = [
        Column("protocol", of("protocol")), Column("tuned on what is predicted", of("tuned"), left=True),
        Column("points", of("points")), Column("decomposition", of("rmse_law", digits(4))),
        Column("line per size", of("rmse_per_size", digits(4))),
        Column("last value", of("rmse_last_value", digits(4))),
    ]  # fmt: skip
    slopes = [
        (row["num_params"], float(decomposition.steepest_slope(row["num_params"], {**values, **row["values"]})))
        for row in smaller.per_size
    ]
    note = "rmse of ln L on the prompts axis. Its steepest slopes: " + ", ".join(
        f"{size(n)} {k:.3f}" for n, k in slopes
    )
    bounds = smaller.record["diagnostics"]["bound_hits"]
    note += f". At a bound: {', '.join(bounds)}." if bounds else "."
    return Table("decomposition", "Loss decomposition: held-out error", pd.DataFrame(rows), columns, note)


def decomposition_figure(study: Study, *, layout: figures.Layout = "full") -> figures.Drawn:
    """Both protocols of the loss decomposition: curves of the law, solid where fitted and dashed where predicted."""
    found, base = study.decomposition, evaluations(study.curves["base"])
    colours, labels = figures.size_colours(base["size"]), figures.size_labels(base)
    intra, inter = figures.fitted_points(found.intra), figures.fitted_points(found.smaller)
    lines = [
        pd.concat([figures.law_line(one, points, n) for n in sorted(points["size"].unique())], ignore_index=True)
        for one, points in ((found.intra, intra), (found.smaller, inter))
    ]
    largest = float(found.early.sizes[0])
    held = base[(base["size"] == largest) & (base["step"] > 0)].copy()
    held["x"], held["loss_floored"] = held["prompts_seen"], held["test_loss"]
    held["state"] = np.where(held["step"].isin(found.early.step), "fitted", "held out")
    x = np.geomspace(held["x"].min(), held["x"].max(), 60)
    part = np.where(x <= math.exp(found.early.x.max()), "fitted", "extrapolated")
    own = pd.DataFrame({"size": largest, "x": x, "loss": found.largest(np.log(x)), "part": part, "low": np.nan,
                        "high": np.nan, "basis": ""})  # fmt: skip
    drawn_lines = lines[0], pd.concat([lines[1], own], ignore_index=True)
    # The law is not bounded, a loss is.
    panels = [
        (points, rows[rows["loss"] <= 1])
        for points, rows in zip((intra, pd.concat([inter, held])), drawn_lines, strict=True)
    ]
    titles = [f"First {100 * PART:.0f} % of each curve", f"Shape of the others for {labels[largest]}"]

    with figures.style("decomposition"):
        figure = figures.new_figure(layout, 3.1, 4.5)
        axes = figures.two_panels(figure, layout, [1, 1], [1, 1])
        shown = pd.concat([points for points, _ in panels])
        limits = figures.loss_limits([*shown["loss_floored"], *(v for _, rows in panels for v in rows["loss"])])
        for ax, letter, title, (points, rows) in zip(axes, "ab", titles, panels, strict=True):
            figures.panel_title(ax, letter, title)
            figures.plain_log_axis(ax.yaxis, *limits)
            for n in labels:
                figures.draw_size(ax, points[points["size"] == n], rows[rows["size"] == n], colours[n])
            figures.x_axis(ax, points["x"], max(map(len, labels.values())), 2.7)
            ax.set(xlabel=figures.X_AXES["prompts_seen"][0], ylabel=figures.LOSS_LABEL)
        figures.outside_legend(figure, figures.loss_legend(shown), layout)
        for ax, (points, rows) in zip(axes, panels, strict=True):
            ends = [figures.EndLabel(labels[n], colours[n], *figures.label_curve(points, rows, n)) for n in labels]
            figures.end_labels(ax, ends)

    said = [
        f"{row['protocol']}: rmse of ln L {figures.number(row['rmse_law'])}, beside "
        f"{figures.number(row['rmse_per_size'])} for a line per size and {figures.number(row['rmse_last_value'])} for "
        "the last value"
        for row in decomposition_scores(found)
    ]
    finding = as_sentence("; ".join(said))
    hits = [
        f"{', '.join(names)} ({letter})"
        for letter, one in (("a", found.intra), ("b", found.smaller))
        if (names := one.record["diagnostics"]["bound_hits"])
    ]
    record, counted = found.intra.record, figures.counted
    caption = [
        figures.loss_marks(intra),
        f"Lines: {figures.law_in_words(record, 'D').replace('X/', 'D/')}, {record['objective']} objective; solid where "
        "fitted, dashed where predicted.",
        f"a: fitted to the first {100 * PART:.0f} % of every curve ({counted(record['n_points'], 'point')} of "
        f"{counted(record['n_runs'], 'curve')}), nothing tuned on the rest. b: l_inf, N0, alpha and beta from all "
        f"{counted(found.smaller.record['n_points'], 'point')} of the smaller sizes; amplitude and d0 of "
        f"{labels[largest]} tuned on its first {counted(len(found.early), 'point')}.",
        "No bands: one curve per size, and no interval of this law has a measured coverage.",
        f"At a bound, so not identified: {'; '.join(hits)}." if hits else "",
        finding,
    ]
    tables = [
        figures.loss_table(points, rows, "prompts_seen").assign(panel=letter)
        for letter, (points, rows) in zip("ab", panels, strict=True)
    ]
    return figures.drawn(figure, "Loss decomposition.", caption, finding, pd.concat(tables, ignore_index=True))


def final_table(study: Study) -> Table:
    base = evaluations(study.curves["base"])
    repeats = evaluations(study.curves["replicates"])
    rows = []
    for n, curve in base.groupby("size"):
        last = curve.iloc[-1]
        published = PUBLISHED["final"].get(round(float(n) / 1e9, 3))
        own = repeats[(repeats["size"] == n) & (repeats["step"] >= curve["step"].max() - 10)]
        means = own.groupby("run_id").filter(lambda run: len(run) >= 5).groupby("run_id")["test_loss"].mean()
        rows.append({
            "num_params": n, "step": int(last["step"]), "runs_behind": last.get("n_runs"), "ours": last["test_loss"],
            "published": published, "difference": None if published is None else last["test_loss"] - published,
            "last_ten": curve["test_loss"].tail(10).mean(), "repeats": len(means),
            "mean_of_repeats": means.mean() if len(means) else None,
            "sd": means.std(ddof=1) if len(means) > 1 else None,
            "sem": means.std(ddof=1) / math.sqrt(len(means)) if len(means) > 1 else None,
        })  # fmt: skip
    columns = [
        Column("N", of("num_params", size)), Column("last step", of("step")),
        Column("runs there", of("runs_behind", lambda v: f"{v:.0f}")),
        Column("final L", of("ours", digits(4))), Column("published", of("published", digits(3))),
        Column("difference", of("difference", digits(4, sign=True))),
        Column("mean of the last ten", of("last_ten", digits(4))), Column("whole repeats", of("repeats")),
        Column("their mean", of("mean_of_repeats", digits(4))), Column("sd", of("sd", digits(4))),
        Column("SEM", of("sem", digits(4))),
    ]  # fmt: skip
    low, high = PUBLISHED["sd"]
    note = (
        "The published value is the last evaluation of the mean curve, where fewer runs stand behind it than before. "
        f"Repeats: mean over the last eleven steps of each whole run. The study prints an average sd of {low} to "
        f"{high} per evaluation and divides by √3 everywhere; here SEM divides by the runs that there are."
    )
    return Table("final", "Final test loss by size", pd.DataFrame(rows), columns, note)


def reuse_table(study: Study) -> Table:
    found = reuse_threshold(study.curves["reuse"], study.curves["replicates"])
    lines = fit(study.curves["reuse"], law="tau", x="step", steps="10:100")
    difference = {row["reuse_factor"]: row for row in found["rows"]}
    frame = evaluations(study.curves["reuse"])
    rows = []
    for line in lines.per_size:
        tau = line["num_params"]
        row = {
            "reuse_factor": tau, "efficiency": line["efficiency"], "intercept": line["intercept"],
            "final": frame[(frame["reuse_factor"] == tau) & frame["step"].between(90, 100)]["test_loss"].mean(),
            "difference": difference[tau]["difference"] if tau in difference else None,
        }  # fmt: skip
        _split(row, "difference", difference[tau]["ci95"] if tau in difference else None)
        rows.append(row)
    columns = [
        Column("tau", of("reuse_factor", lambda v: f"{v:.0f}")), Column("final L", of("final", digits(4))),
        Column("minus tau = 1", of("difference", digits(4, sign=True))),
        Column("95 %", lambda row: "" if row["difference"] is None or pd.isna(row["difference"]) else
               interval(_ends(row, "difference"), digits(3, sign=True))),
        Column("k(tau)", of("efficiency", digits(4))), Column("E(tau)", of("intercept", digits(3))),
    ]  # fmt: skip
    said = (
        f"worse from tau = {found['threshold']:.0f} on" if found["identified"]
        else f"the tau from which it is worse is not identified up to {found['highest_run']:.0f}"
    )  # fmt: skip
    note = (
        f"7B, group size 8, one run at each tau; final: {found['window']}. The study finds the loss flat up to about "
        f"{PUBLISHED['flat_reuse']} and worse at 100; with the spread between repeats {said}. k and E: lines over "
        "steps 10-100. The study draws k and E and prints no numbers."
    )
    return Table("reuse", "Data reuse", pd.DataFrame(rows), columns, note)


def group_table(study: Study) -> Table:
    found = frontier(study.curves["group_size"])["group_size"]
    if "error" in found:
        raise InputError(found["error"])
    rows = [
        {"from": row["from"], "to": row["to"], "best": row["best"], "compared": row["compared"],
         "not_rejected": ", ".join(f"{v:.0f}" for v in row["not_rejected"])}
        for row in found["segments"]
    ]  # fmt: skip
    columns = [
        Column("C from", of("from", lambda v: f"{v:.2e}")), Column("to", of("to", lambda v: f"{v:.2e}")),
        Column("best G", lambda row: f"{row['best']:.0f}" + ("" if row["compared"] else " (only one run)")),
        Column("not told apart from it", of("not_rejected"), left=True),
    ]  # fmt: skip
    note = "7B, one run at each group size: intervals borrow the spread between seeds from the replicates."
    return Table("group_size", "Best group size by budget", pd.DataFrame(rows), columns, note)


def windows_table(study: Study) -> Table:
    rows = []
    for steps in WINDOWS:
        for objective in ("log", "linear"):
            found = study.fit(steps=steps, objective=objective)
            row = {
                "steps": steps, "objective": objective, "k_max": found.values["k_max"]["value"],
                "n0": found.values["n0"]["value"] / 1e9, "identified": found.values["n0"]["identified"],
                "r2": found.record["goodness"]["r2_pooled"],
                "r2_without_slope": found.record["goodness"]["r2_pooled_constant"],
            }  # fmt: skip
            _split(row, "n0", found.values["n0"]["ci95"])
            rows.append(row)
    columns = [
        Column("steps", of("steps", lambda v: v.replace(":", "–") if not v.endswith(":") else f"≥ {v[:-1]}")),
        Column("objective", of("objective"), left=True), Column("Kmax", of("k_max", digits(3))),
        Column("N0, 1e9", of("n0", lambda v: f"{v:.3g}")), Column("95 %", lambda row: billions(_ends(row, "n0"))),
        Column("N0 is", lambda row: "identified" if row["identified"] else "not identified", status=True),
        Column("R2", of("r2", digits(4))), Column("R2 of k = 0", of("r2_without_slope", digits(3))),
    ]  # fmt: skip
    note = f"All seven sizes, compute axis. {window_sentence(rows)}"
    return Table("windows", "Kmax and N0 by window and objective", pd.DataFrame(rows), columns, note)


def window_sentence(rows: list[dict[str, Any]]) -> str:
    """How far N0 moves with the choice, and how little of that R2 shows."""
    n0, r2 = ([row[name] for row in rows] for name in ("n0", "r2"))
    return (
        f"N0 is {min(n0):.3g}e9 to {max(n0):.3g}e9 by window and objective, a factor of {max(n0) / min(n0):.2g}, while "
        f"pooled R2 stays between {min(r2):.4f} and {max(r2):.4f}."
    )


def late_table(study: Study) -> Table:
    early, late = (study.fit(law="per_size", x="prompts_seen", steps=s) for s in ("11:50", "50:"))
    rows = [
        {"num_params": a["num_params"], "early": a["efficiency"], "late": b["efficiency"]}
        for a, b in zip(early.per_size, late.per_size, strict=True)
    ]
    columns = [
        Column("N", of("num_params", size)), Column("k, steps 11–50", of("early", digits(3))),
        Column("k, steps 50 to the end", of("late", digits(3))),
    ]  # fmt: skip
    note = "Prompts axis, each size's own line. A power law has one slope."
    return Table("late", "Slopes of the early and the late part", pd.DataFrame(rows), columns, note)


def odd_table(study: Study) -> Table:
    """Each oddity of the data as it is found in them."""
    base, rows = study.curves["base"].table, []
    one = study.curves["replicates"].where("run_id == '7B-run1'").table
    same = [
        name
        for name, part in (("reuse", "reuse_factor == 1"), ("group_size", "group_size == 8"))
        if already_there(one, evaluations(study.curves[name].where(part)))
    ]
    rows.append(("one run under several names", f"7B run 1 is also in: {', '.join(same) or 'nothing'}; counted once"))
    changes = []
    for n, curve in base.groupby("num_params"):
        known = curve["n_runs"].to_numpy(float)
        moved = np.flatnonzero((known[1:] != known[:-1]) & np.isfinite(known[1:]) & np.isfinite(known[:-1]))
        changes += [
            f"{size(n)} {known[i]:.0f} to {known[i + 1]:.0f} at step {curve['step'].iloc[i + 1]}" for i in moved
        ]
    rows.append(("runs behind a mean change", "; ".join(changes) or "not in these data"))
    falls = [
        f"{size(n)} at step {curve['step'].iloc[i + 1]}"
        for n, curve in base.groupby("num_params")
        for i in np.flatnonzero(np.diff(curve["train_flops"]) < 0)
    ]
    rows.append(("mean cumulative compute falls", "; ".join(falls) or "nowhere"))
    cost = base.assign(tokens=base["tokens_seen"] / base["prompts_seen"])
    drift = []
    for n, curve in cost.groupby("num_params"):
        per_step = np.diff(curve["tokens_seen"]) / np.diff(curve["prompts_seen"])
        tenth = max(len(per_step) // 10, 1)
        early, late = (np.median(part) / 1e3 for part in (per_step[:tenth], per_step[-tenth:]))
        drift.append(f"{size(n)} {early:.1f}k to {late:.1f}k")
    rows.append(("tokens per prompt change", "; ".join(drift)))
    ends = study.curves["replicates"].runs()
    ends = ends[ends["num_params"] != 3e9].groupby("num_params")["last_step"].max()
    short = [f"{size(n)} at step {step:.0f}" for n, step in ends.items() if step < 100]
    rows.append(("repeats that end early", "; ".join(short) or "none"))
    frame = pd.DataFrame(rows, columns=["what", "where"])
    columns = [Column("what", of("what")), Column("where", of("where"), left=True)]
    return Table("odd", "Oddities, as found in the shipped curves", frame, columns)


def findings_table(study: Study) -> Table:
    main = study.fit(steps="11:")
    sizes = frontier(study.curves["base"], steps="11:")["sizes"]
    rows = []
    best = [row for row in sizes["segments"] if row["compared"]]
    told = "; ".join(
        f"{size(row['best'])} up to {row['to']:.1e}"
        + (f" (not told from {', '.join(size(v) for v in row['not_rejected'])})" if row["not_rejected"] else "")
        for row in best
    )
    largest = max(row["num_params"] for row in main.per_size)
    always = all(row["best"] == largest for row in best)
    at_end = bool(best) and best[-1]["best"] == largest
    verdict = "supported" if always else "at large budgets only" if at_end else "not established"
    rows.append(("larger models are better at a fixed budget", f"lowest line by budget: {told}", verdict))
    k = {row["num_params"]: (row["efficiency"], row["efficiency_ci95"]) for row in main.per_size}
    first, last = min(k), max(k)
    apart = k[first][1][1] < k[last][1][0]
    rows.append((
        "larger models learn faster",
        f"k of {size(first)} {k[first][0]:.3f} {interval(k[first][1], lambda v: f'{v:.3f}')}, of {size(last)} "
        f"{k[last][0]:.3f} {interval(k[last][1], lambda v: f'{v:.3f}')}",
        "supported" if apart else "not established",
    ))  # fmt: skip
    n0 = main.values["n0"]
    rows.append((
        "and the gain saturates",
        f"N0 {n0['value'] / 1e9:.3g}e9 {billions(n0['ci95'])} at steps ≥ 11; it moves with the window",
        "identified in this window" if n0["identified"] else "not identified",
    ))  # fmt: skip
    reuse = reuse_threshold(study.curves["reuse"], study.curves["replicates"])
    last_tau = reuse["rows"][-1]
    ends = interval(last_tau["ci95"], digits(3, sign=True))
    within = sum(row["ci95"][0] is None or row["ci95"][0] <= 0 <= row["ci95"][1] for row in reuse["rows"])
    rows.append((
        "loss follows steps, not distinct prompts, up to tau about 25",
        f"tau = {last_tau['reuse_factor']:.0f} minus tau = 1: {last_tau['difference']:+.3f} {ends}; {within} of "
        f"{len(reuse['rows'])} values of tau lie within the repeats",
        f"worse from tau = {reuse['threshold']:.0f}" if reuse["identified"] else "not established",
    ))  # fmt: skip
    rows.append(("base and instruct models follow one form", "the shipped curves are of base models", "not here"))
    frame = pd.DataFrame(rows, columns=["finding", "evidence", "verdict"])
    columns = [Column("finding", of("finding")), Column("these curves", of("evidence"), left=True),
               Column("so", of("verdict"), left=True)]  # fmt: skip
    return Table("findings", "What the study concludes, and what its curves carry", frame, columns)


# ---------------------------------------------------------------- figures and page


def figure_makers(study: Study) -> dict[str, Callable[..., Any]]:
    """The figures by name, in the order of the page; each takes `layout`."""
    base = study.curves["base"]

    def curve(x: str, split: str) -> Callable[..., Any]:
        found = study.fit(x=x, objective="linear", split=split)
        return lambda **o: figures.loss_curves(base, found, x=x, **o)

    windows = study.fit(steps="11:")
    return {
        "windows": lambda **o: figures.sensitivity(base, windows, **o),
        "inter_compute": curve("train_flops", "inter"),
        "inter_prompts": curve("prompts_seen", "inter"),
        "intra_compute": curve("train_flops", "intra:0.239"),
        "intra_prompts": curve("prompts_seen", "intra:0.239"),
        "efficiency_compute": lambda **o: figures.efficiency(base, study.fit(x="train_flops"), **o),
        "efficiency_prompts": lambda **o: figures.efficiency(base, study.fit(x="prompts_seen"), **o),
        "decomposition": lambda **o: decomposition_figure(study, **o),
        "reuse": lambda **o: figures.reuse(study.curves["reuse"], replicates=study.curves["replicates"], **o),
        "group_size": lambda **o: figures.group_size(study.curves["group_size"], **o),
        "frontier": lambda **o: figures.frontier(base, windows, **o),
    }


PLACES = {
    "fits": (["fits", "windows"], ["windows"]),
    "inter": (["inter"], ["inter_compute", "inter_prompts"]),
    "intra": (["intra"], ["intra_compute", "intra_prompts"]),
    "efficiency": (["efficiency"], ["efficiency_compute", "efficiency_prompts"]),
    "decomposition": (["decomposition"], ["decomposition"]),
    "final": (["final"], []),
    "reuse": (["reuse"], ["reuse"]),
    "group-size": (["group_size"], ["group_size"]),
    "frontier": ([], ["frontier"]),
    "odd": (["odd", "late"], []),
    "findings": (["findings"], []),
    "missing": ([], []),
}


def fits_sentence(frame: Frame) -> str:
    """Whether the published values come out to the digits printed."""
    worst, digits_off = frame["k_max_difference"].abs().max(), frame["n0_difference"].abs().max()
    if worst <= 0.0005 and digits_off <= 0.0501:
        return (
            f"With the study's own objective all {len(frame)} come out to the digits printed: Kmax differs by at most "
            f"{worst:.4f}, N0 by {digits_off:.2f}e9."
        )
    return f"They do not come out: Kmax differs by up to {worst:.4f}, N0 by up to {digits_off:.2f}e9."


def inter_sentence(frame: Frame) -> str:
    """What the level costs that the published inter-model figure takes from the curve it predicts."""
    here = frame[frame["axis"] == "C"]
    error = {rule: here.loc[here["rule"].str.startswith(rule), "rmse"].iloc[0] for rule in ("published", "slope")}
    return (
        f"The published inter-model figure fits the level of 72B on 72B (rmse of ln L {error['published']:.3f}); with "
        f"nothing tuned on 72B it is {error['slope']:.3f}."
    )


def render(study: Study, drawings: Mapping[str, Drawing], tables: Mapping[str, Table]) -> str:
    return (
        environment()
        .get_template("reproduce.html.j2")
        .render(
            css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8").strip()),
            title="Scaling of RL post-training: the reference study from its own curves",
            subtitle="Tan et al., arXiv 2509.25300 · Qwen2.5 base models, 0.5B–72B · curves read off the figures",
            contents=CONTENTS,
            places=PLACES,
            figures=drawings,
            tables=tables,
            missing=list(MISSING.items()),
            summary=[
                ("The published fits", fits_sentence(tables["fits"].frame)),
                ("Predicting 72B", inter_sentence(tables["inter"].frame)),
                ("How well N0 is known", window_sentence(tables["windows"].frame.to_dict("records"))),
            ],
            hashes=[(name, curves.source, curves.data_hash) for name, curves in study.curves.items()],
        )
        + "\n"
    )


def perturbed(study: Mapping[str, Curves], factor: float) -> dict[str, Curves]:
    """The curves with every test loss moved towards 1 by a share: for a check that ours moves and the published not."""
    return {
        name: replace(c, table=c.table.assign(test_loss=1 - (1 - c.table["test_loss"]) * factor))
        for name, c in study.items()
    }


def table_frame(table: Table) -> Frame:
    """The table as shown, for a notebook."""
    return pd.DataFrame(table.text(), columns=[column.heading for column in table.columns])
