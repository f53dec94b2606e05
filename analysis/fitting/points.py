"""The points of a fit: arrays of sizes, runs, ln X and losses, and how they are selected from curves."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from analysis.curves.frame import Curves
from analysis.fitting.choices import Choices, choose_size_column, legal_x, parse_window
from analysis.fitting.copies import copies, refuse_copies
from scaling.schema import InputError, did_you_mean

# ---------------------------------------------------------------- points


@dataclass(frozen=True)
class Points:
    """The points of a fit; arrays of n points, ordered by run and step.

    Fields:
        sizes: (n_sizes,) distinct N, ascending; size: (n,) index into it.
        runs: names of the runs; run: (n,) index into it.
        x: (n,) ln X; loss: (n,) L; trials: (n,) Q = eval_problems x eval_samples, or None where not known.
        step: (n,).
        columns: what else the law asks of a point (`reuse`: D / U there), (n,) each.
    """

    sizes: np.ndarray
    size: np.ndarray
    runs: list[str]
    run: np.ndarray
    x: np.ndarray
    loss: np.ndarray
    trials: np.ndarray | None
    step: np.ndarray
    columns: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.x)

    def take(self, mask: np.ndarray) -> Points:
        """The points of the mask; sizes and runs without points drop out."""
        sizes, size = np.unique(self.size[mask], return_inverse=True)
        runs, run = np.unique(self.run[mask], return_inverse=True)
        return Points(
            self.sizes[sizes], size, [self.runs[i] for i in runs], run, self.x[mask], self.loss[mask],
            None if self.trials is None else self.trials[mask], self.step[mask],
            {name: values[mask] for name, values in self.columns.items()},
        )  # fmt: skip

    def draw(self, runs: list[np.ndarray]) -> Points:
        """Points at these indices, a list for each run; a run that stands twice counts as two."""
        at, run = np.concatenate(runs), np.repeat(np.arange(len(runs)), [len(r) for r in runs])
        sizes, size = np.unique(self.size[at], return_inverse=True)
        return Points(
            self.sizes[sizes], size, [str(i) for i in range(len(runs))], run, self.x[at], self.loss[at],
            None if self.trials is None else self.trials[at], self.step[at],
            {name: values[at] for name, values in self.columns.items()},
        )  # fmt: skip

    def sum_by_size(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self.size, values, minlength=len(self.sizes))

    def run_sizes(self) -> np.ndarray:
        """(n_runs,) index of the size of each run."""
        sizes = np.zeros(len(self.runs), int)
        sizes[self.run] = self.size
        return sizes

    def ln_loss(self) -> np.ndarray:
        """ln L with the floor of half an error where no error was counted; -inf only where counts are unknown."""
        loss = self.loss if self.trials is None else np.maximum(self.loss, 0.5 / self.trials)
        with np.errstate(divide="ignore"):
            return np.log(loss)

    def hash(self) -> str:
        digest = hashlib.sha256()
        for part in (
            self.sizes,
            self.size,
            self.run,
            self.x,
            self.loss,
            self.trials,
            self.step,
            *self.columns.values(),
        ):
            digest.update(b"none" if part is None else np.ascontiguousarray(part, float).tobytes())
        return digest.hexdigest()[:12]


def select_points(
    curves: Curves,
    choices: Choices,
) -> tuple[Points, list[str]]:
    """The points that a fit uses, and what was left out of the evaluations and why; `where` is applied before.

    Step 0 (before training, X = 0) is always left out; then `steps` "A:B" keeps the steps A to B, both included; then
    `points` "A:B" slices the points of each curve as Python does (":-80" drops the last 80). A law may ask for another
    column in the place of N, for `reuse` (D / U at the point), or tie two axes together; see `Law`.
    """
    table, law, x, steps, points = curves.table, choices.formula, choices.axis(curves), choices.steps, choices.points
    response = "test_loss"
    if "test_loss" not in table:
        if not law.cross_entropy:
            raise InputError(
                f"{curves.source}: it has no test_loss (its loss is a cross-entropy in nats); this law needs one. "
                "Laws for a cross-entropy: chinchilla, data_constrained, power_plateau."
            )
        response = "loss"
    size_column = choose_size_column(curves, choices.size_column, law)
    legal = legal_x(table)
    if x not in legal:
        raise InputError(
            f"{curves.source}: x {x!r} is not a column of it; there are: {', '.join(legal)}.{did_you_mean(x, legal)}"
        )
    notes = []
    used = table[table[response].notna()]
    blank = len(table) - len(used)
    if blank and curves.folder is None:  # a trainer evaluates at some of its steps; a table has lost something
        notes.append(f"{blank} of {len(table)} rows have no {response} and are left out")
    keep = (used["step"] > 0).to_numpy()
    if not keep.all():
        notes.append(f"step 0 is left out ({int((~keep).sum())} evaluations before training, where X = 0)")
    used = used[keep]
    for axis in law.axes or [x]:
        if axis not in legal:
            raise InputError(f"{curves.source}: law {law.name} ties {x} to {axis}, which is not a column of it.")
        _check_axis(used, axis, curves.source)
    low, high = parse_window(steps, "steps")
    if steps is not None:
        step = used["step"].to_numpy()
        keep = (step >= (low or 0)) & (step <= (np.inf if high is None else high))
        notes.append(f"steps {steps} (both included) leaves out {int((~keep).sum())} evaluations")
        used = used[keep]
    low, high = parse_window(points, "points")
    if points is not None and len(used):
        order = used.groupby("run_id").cumcount().to_numpy()
        count = used.groupby("run_id")["step"].transform("size").to_numpy()
        start, stop = (np.array([slice(low, high).indices(n)[i] for n in count]) for i in (0, 1))
        keep = (order >= start) & (order < stop)
        notes.append(f"points {points} of each curve leaves out {int((~keep).sum())} evaluations")
        used = used[keep]
    if used.empty:
        raise InputError(
            f"{curves.source}: no evaluated point is left after --where, --steps and --points; widen them."
        )
    sizes, size = np.unique(used[size_column].to_numpy(float), return_inverse=True)
    run, runs = pd.factorize(used["run_id"])
    loss, names = used[response].to_numpy(float), [str(name) for name in runs]
    trials = _trials(used, notes) if response == "test_loss" else None
    if trials is None and "loss_error" in used:
        notes.append("loss_error is not used: of a cross-entropy every point weighs the same")
    refuse_copies(curves.source, copies(names, run, size, loss, trials), curves.names)
    ln_x = np.log(used[x].to_numpy(float)) if not law.axes else _tie_axes(used, law.axes, size, sizes)
    return (
        Points(
            sizes, size, names, run, ln_x, loss, trials, used["step"].to_numpy(),
            {name: reuse_at(used, curves) for name in law.columns},
        ),
        notes,
    )  # fmt: skip


def _check_axis(used: pd.DataFrame, x: str, source: str) -> None:
    missing = used[x].isna().to_numpy()
    if missing.any():
        first = used[missing].iloc[0]
        raise InputError(
            f"{source}: x {x} is blank in {missing.sum()} evaluated rows, first in run {first['run_id']} at "
            f"step {first['step']}; choose another x, or leave such runs out with --where."
        )
    bad = (used[x] <= 0).to_numpy()
    if bad.any():
        first = used[bad].iloc[0]
        raise InputError(
            f"{source}: x {x} is {first[x]:g} in run {first['run_id']} at step {first['step']}; "
            "after step 0 it must be above 0, its log is taken."
        )


def reuse_at(used: pd.DataFrame, curves: Curves) -> np.ndarray:
    """D / U at each point: row by row where the source has it, else from the run's tau and its last D."""
    if "prompts_unique" in used and "prompts_seen" in used and used["prompts_unique"].notna().all():
        reuse = used["prompts_seen"] / used["prompts_unique"]
    elif "reuse_factor_so_far" in used:
        reuse = used["reuse_factor_so_far"]
    elif "reuse_factor" in used and "prompts_seen" in used:
        last = used["run_id"].map(curves.table.groupby("run_id")["prompts_seen"].max())
        reuse = used["prompts_seen"] * used["reuse_factor"] / last
    else:
        raise InputError(
            f"{curves.source}: law data_constrained needs how often data repeat: columns prompts_seen and "
            "prompts_unique, or reuse_factor; without repeats use law chinchilla."
        )
    if reuse.isna().any():
        raise InputError(f"{curves.source}: reuse is blank at step {used['step'][reuse.isna()].iloc[0]}; fill it.")
    return np.maximum(reuse.to_numpy(float), 1.0)


def _tie_axes(used: pd.DataFrame, axes: tuple[str, str], size: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(n,) ln X of a law that ties two axes: the mean of ln D and ln(C / (N phi)); phi see `axis_ratio`."""
    data, cost = (used[name].to_numpy(float) for name in axes)
    phi, _ = axis_ratio(cost / data / sizes[size], size)
    return 0.5 * (np.log(data) + np.log(cost / (sizes[size] * phi)))


def axis_ratio(ratio: np.ndarray, size: np.ndarray) -> tuple[float, np.ndarray]:
    """phi = the median over sizes of the median of C / (N D) over the later half of the points, and those medians."""
    each = np.array([np.median(r[len(r) // 2 :]) for r in (ratio[size == i] for i in range(size.max() + 1))])
    return float(np.median(each)), each


def _trials(used: pd.DataFrame, notes: list[str]) -> np.ndarray | None:
    """Q per point: from the counts, or from a standard error of the loss, which goes before them; None, with a note,
    where the data carry neither."""
    if "loss_error" in used:
        return _trials_of_errors(used, notes)
    missing = len(used) if "eval_problems" not in used else int(used["eval_problems"].isna().sum())
    if missing:
        notes.append(f"eval_problems is unknown for {missing} of {len(used)} points: every point weighs the same")
        return None
    samples = used["eval_samples"].fillna(1.0) if "eval_samples" in used else 1.0
    return (used["eval_problems"] * samples).to_numpy(float)


def _trials_of_errors(used: pd.DataFrame, notes: list[str]) -> np.ndarray:
    """Q per point that gives an error rate this standard error: L (1 - L) / error^2.

    Where L or 1 - L is below the error, as where no error was counted, the error stands in its place.
    """
    loss, error = used["test_loss"].to_numpy(float), used["loss_error"].to_numpy(float)
    bad = ~(error > 0)
    if bad.any():
        first = used[bad].iloc[0]
        raise InputError(
            f"loss_error is {first['loss_error']:g} in run {first['run_id']} at step {first['step']}; a standard error "
            "is above 0 in every evaluated row: fill it, or remove the column."
        )
    notes.append("weights and noise by loss_error, the standard error of each loss")
    return np.maximum(loss * (1 - loss), np.minimum(error, 0.25)) / error**2
