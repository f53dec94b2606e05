"""Section: the same problems before and after training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.missing import Missing
from analysis.reporting.runs import run_names
from analysis.reporting.study import Study
from analysis.words import counted
from scaling import record, schema

GREW, MATTERS = 2.0, 0.005  # times what the first steps had; nats: in bfloat16 some .002 are rounding
LEAST_STEPS = 8


def rollouts(study: Study) -> dict[str, Any] | Missing:
    """The same problems before and after training, chosen by a rule that nobody can bend."""
    folder = study.curves.folder
    if folder is None:
        return Missing("the source has curves only, no texts.")
    runs = study.fitted().runs().sort_values([study.size_column, "seed", "run_id"])
    sizes = sorted(runs[study.size_column].unique())
    middle = sizes[(len(sizes) - 1) // 2]
    run_id = runs.loc[runs[study.size_column] == middle, "run_id"].iloc[0]
    rows = record.read_record(folder / schema.RUNS / run_id, schema.ROLLOUTS)
    rows = [row for row in rows if row.get("sample", 0) == 0]
    if not rows:
        return Missing(f"run {run_id} recorded no texts.")
    first, last = min(row["step"] for row in rows), max(row["step"] for row in rows)
    problems = []
    for problem in dict.fromkeys(row["problem"] for row in rows):
        pair = {row["step"]: row for row in rows if row["problem"] == problem}
        if first in pair and last in pair and first != last:
            samples = [("Before, step " + str(first), sample(pair[first])), (f"After, step {last}", sample(pair[last]))]
            problems.append({"prompt": pair[first]["prompt"], "samples": samples})
    if not problems:
        return Missing(f"run {run_id} recorded texts at one step only.")
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


def drift_sentence(study: Study) -> str:
    """Which runs had sampler and trainer drift apart as they trained; empty where none did.

    Compared are the mean |d| of their log-probs in the first and the last quarter of a run's steps.
    """
    table = study.curves.table
    if "logprob_difference_mean" not in table:
        return ""
    grown = {}
    for run_id, rows in table.dropna(subset="logprob_difference_mean").sort_values("step").groupby("run_id"):
        quarter, apart = len(rows) // 4, rows["logprob_difference_mean"].to_numpy()
        if len(rows) < LEAST_STEPS:
            continue
        first, last = float(apart[:quarter].mean()), float(apart[-quarter:].mean())
        if last > max(MATTERS, GREW * first):
            grown[str(run_id)] = (first, last, float(rows["effective_sample_share"].to_numpy()[-quarter:].mean()))
    if not grown:
        return ""
    worst = max(grown, key=lambda run_id: grown[run_id][1])
    first, last, share = grown[worst]
    return (
        f"In {counted(len(grown), 'run')} sampler and trainer drifted apart: in {run_names(study)[worst]} the mean "
        f"difference of their log-probs grew from {first:.2g} to {last:.2g} nats, and a batch weighs as "
        f"{100 * share:.0f} % of its tokens. Such a batch is off-policy; loss.old_logprobs and loss.mismatch correct "
        "for it, and a sampler in float32 does not have it."
    )
