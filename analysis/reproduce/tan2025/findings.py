"""Tables of what is odd in the shipped data, and of what they support of the study's conclusions."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.questions.envelope import envelope, segments
from analysis.questions.finals import already_there, evaluations
from analysis.questions.reuse import reuse_threshold
from analysis.reporting.tables import Column, Table, of
from analysis.reproduce.tan2025.cells import billions, digits, size
from analysis.reproduce.tan2025.study import Study
from analysis.words import interval


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
    rows = []
    best = [row for row in segments(envelope(main)) if row["compared"]]
    told = "; ".join(
        f"{size(row['best'])} up to {row['to']:.1e}"
        + (
            f" (indistinguishable from {', '.join(size(v) for v in row['not_rejected'])})"
            if row["not_rejected"]
            else ""
        )
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
