"""Section: the same problems before and after training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.missing import Missing
from analysis.reporting.runs import run_names
from analysis.reporting.study import Study
from scaling import record, schema


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
