"""The evaluated rows of each run, the condition it was run in, its final loss, and the spread between repeats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t as student

from analysis.curves.frame import Frame
from analysis.words import counted
from scaling.schema import InputError


def evaluations(curves: Any, size_column: str | None = None) -> Frame:
    """The rows with a test loss, with `size` (what the fit calls N), `condition` and what else runs are grouped by."""
    frame = curves.frame()
    if "test_loss" not in frame:
        raise InputError(f"{curves.source}: learning curves need the column test_loss.")
    frame = frame[frame["test_loss"].notna()]
    column = size_column or ("num_params_non_embedding" if "num_params_non_embedding" in frame else "num_params")
    missing = {name: np.nan for name in ("seed", "group_size", "reuse_factor", "eval_problems") if name not in frame}
    missing |= {name: None for name in ("model", "algorithm") if name not in frame}
    condition = frame["run_id"].map(conditions(curves))
    return frame.assign(size=frame[column], condition=condition, **missing).reset_index(drop=True)


def conditions(curves: Any, apart: Sequence[str] = ("reuse_factor", "group_size")) -> dict[str, str]:
    """In what a run's settings differ from those of most runs, in words (`modulus 10, noise 0.3`), by run id.

    The estimator and the settings `apart` are left out: what is compared. A comparison must not mix two conditions.
    """
    runs = curves.runs().set_index("run_id")
    differing: dict[str, list[str]] = {run: [] for run in runs.index}
    names = [name for name in curves.settings if name in runs and name not in apart]
    for name in (name for name in names if not name.startswith("algorithm")):
        values = runs[name].map(lambda value: f"{value:.6g}" if isinstance(value, float) else str(value))
        shares = values.value_counts(normalize=True)
        usual = shares.index[0] if shares.iloc[0] > 0.5 else None  # without a majority each value is named
        for run, value in values.items():
            if value != usual:
                differing[str(run)].append(f"{name.split('.')[-1].replace('_', ' ')} {value}")
    return {run: ", ".join(words) for run, words in differing.items()}


class Finals(NamedTuple):
    """The final loss of each run: mean over the evaluations in the last tenth of the steps that all runs reached."""

    runs: Frame  # one row per run, column `final`
    first: int
    last: int

    def window(self) -> str:
        return f"step {self.last}" if self.first == self.last else f"steps {self.first}–{self.last}"


def final_losses(frame: Frame, last: float = np.inf) -> Finals:
    """The final losses at the last step that all runs reached, or at `last` if that is earlier."""
    last = min(last, frame.groupby("run_id")["step"].max().min())
    rows = frame[(frame["step"] > 0.9 * last) & (frame["step"] <= last)]
    columns = ["size", "model", "algorithm", "group_size", "reuse_factor", "seed", "eval_problems"]
    runs = rows.groupby("run_id", sort=False)[columns].first()
    runs["final"] = rows.groupby("run_id")["test_loss"].mean()
    runs["final_evaluations"] = rows.groupby("run_id")["test_loss"].size()
    return Finals(runs.reset_index(), int(rows["step"].min()), int(last))


class Spread(NamedTuple):
    """Relative standard deviation between repeats of one setting, pooled, and what it rests on."""

    sd: float
    degrees: int
    words: str

    def half_width(self, runs: int) -> float:
        """Half of the 95 % interval of ln(mean over `runs` runs); infinite where nothing was repeated."""
        return float(student.ppf(0.975, self.degrees)) * self.sd / np.sqrt(runs) if self.degrees else np.inf


def pooled_spread(finals: Frame, keys: Sequence[str], words: str) -> Spread:
    """Spread of ln(final loss) between the runs that share `keys`."""
    logs = np.log(finals["final"].clip(lower=1e-4))
    groups = logs.groupby([finals[key] for key in keys], dropna=False)
    degrees = int((groups.size() - 1).sum())
    squares = float(((logs - groups.transform("mean")) ** 2).sum())
    runs = int(groups.size()[groups.size() > 1].sum())
    sd = np.sqrt(squares / degrees) if degrees else np.nan
    return Spread(sd, degrees, f"{counted(runs, 'repeated run')} {words}")


def already_there(run: Frame, frame: Frame) -> bool:
    """Whether a run stands in the frame under another name: the same losses at the same steps are the same run."""
    both = frame.merge(run[["step", "test_loss"]], on="step", suffixes=("", "_of_run"))
    same = np.isclose(both["test_loss"], both["test_loss_of_run"], rtol=0, atol=1e-9)
    return bool((pd.Series(same).groupby(both["run_id"].to_numpy()).mean() > 0.9).any())
