"""Curves made by the learning-efficiency law itself, for tests of the analysis."""

import json

import numpy as np
import pandas as pd

from scaling import files, record

SIZES = [0.5e9, 1.5e9, 3e9, 7e9, 14e9, 32e9, 72e9]


def synthetic(sizes=SIZES, k_max=0.13, n0=12e9, runs=1, steps=60, noise=0.0, trials=500, seed_sd=0.0, seed=0):
    """A table with the schema's columns. noise 0: exact, else binomial counts of errors; seed_sd: relative."""
    rng = np.random.default_rng(seed)
    frames = []
    for i, size in enumerate(sizes):
        for run in range(runs):
            step = np.arange(0, steps + 1)
            x = 512.0 * step
            k = k_max / (1 + n0 / size) * (1 + seed_sd * rng.standard_normal())
            with np.errstate(divide="ignore"):
                loss = 0.9 * np.exp(-0.07 * i - k * (np.log(np.maximum(x, 1)) - 6.0)) * (1 + 1e-12 * run)  # no copies
            if noise:
                loss = rng.binomial(trials, np.minimum(loss, 1)) / trials
            frames.append(pd.DataFrame({
                "run_id": f"n{i}r{run}", "num_params": size, "seed": run, "algorithm": "grpo", "group_size": 8,
                "reuse_factor": 1.0, "step": step, "prompts_seen": x, "train_flops": 6 * size * 1000 * x,
                "test_loss": np.minimum(loss, 1.0), "eval_problems": trials, "eval_samples": 1,
            }))  # fmt: skip
    return pd.concat(frames, ignore_index=True)


LADDER = {"us": 5_296, "xs": 20_832, "s": 55_824, "m": 151_552}
STEPS = [0, 1, 2, 3, 4, 6, 8, 12, 18, 26, 39, 60]


def study_table(k_max=0.9, n0=6e4, seeds=(0, 1), trials=512, ladder=LADDER, papo="s", reuse="xs", groups="s", seed=0):
    """A study as the trainer records it: sizes; PAPO, data reuse and group size at one size each (None: not run).

    Losses fall by the law from step 3 on and are counts of errors; a run of a reused or otherwise changed setting is
    shifted by a known factor: PAPO .95, tau 32 1.25, group size 4 1.1.
    """
    rng = np.random.default_rng(seed)
    settings = [(name, "grpo", 1.0, 16) for name in ladder]
    settings += [(papo, "papo", 1.0, 16)] * (papo in ladder) + [(reuse, "grpo", 32.0, 16)] * (reuse in ladder)
    settings += [(groups, "grpo", 1.0, 4)] * (groups in ladder)
    frames = []
    for model, algorithm, tau, group in settings:
        size, changed = ladder[model], {"papo": 0.95}.get(algorithm, 1.0) * {32.0: 1.25}.get(tau, 1.0)
        changed *= {4: 1.1}.get(group, 1.0)
        for run in seeds:
            step = np.array(STEPS)
            prompts = 16.0 * step
            k = k_max / (1 + n0 / size) * (1 + 0.04 * np.sin(7 * run + len(model)))
            level = (0.85 - 0.03 * list(ladder).index(model)) * np.exp(-k * np.log(np.maximum(step, 2) / 2))
            loss = rng.binomial(trials, np.minimum(level * changed ** (step > 5), 0.98)) / trials
            flops = 6.0 * size * 25 * group * prompts
            frames.append(pd.DataFrame({
                "run_id": f"{model}-{algorithm}-{tau:.0f}-{group}-seed{run}", "model": model, "num_params": size + 512,
                "num_params_non_embedding": size, "seed": run, "algorithm": algorithm, "group_size": group,
                "task": "hex_chain", "reuse_factor": tau, "step": step, "prompts_seen": prompts,
                "prompts_unique": prompts / tau, "train_flops": flops, "rollout_flops": 0.5 * flops,
                "update_flops": 0.9 * flops, "logprob_flops": 0.0 * flops, "judge_flops": 0.0 * flops,
                "eval_flops": 0.3 * flops, "total_flops": 1.7 * flops, "test_loss": loss, "eval_problems": trials,
                "eval_samples": 1, "response_length_mean": 18.0 + step / 30, "cpu_seconds": 1.5,
            }))  # fmt: skip
    return pd.concat(frames, ignore_index=True)


def write_run(folder, run_id, *, steps, size, model="us", seed=0, unique=None, settings=None, done=True, k=0.1):
    """A run folder as the trainer writes it: 16 prompts a step, an evaluation at every second step."""
    run = folder / "runs" / run_id
    attempt = record.start_attempt(run, parent=None, first_step=0)
    rows = []
    for step in range(steps + 1):
        seen = 16 * step
        distinct = seen if unique is None else min(seen, unique)
        row = {
            "step": step, "prompts_seen": seen, "prompts_unique": distinct,
            "reuse_factor": seen / distinct if distinct else 1.0, "train_flops": 6.0 * size * 300 * seen,
            "timing": {"time_ms": 1000 * step, "wall_seconds": 1.0},
        }  # fmt: skip
        if step % 2 == 0:
            loss = min(0.9 * np.exp(-k * np.log(max(seen, 16) / 16)) + 0.003 * ((7 * step + seed) % 5 - 2), 1.0)
            row |= {"test_loss": loss, "pass_at_1": 1 - loss, "eval_problems": 512, "eval_samples": 1}
        rows.append(row)
    attempt.append("curve.jsonl", rows)
    config = {
        "seed": seed, "algorithm": {"type": "grpo"}, "rollout": {"group_size": 16}, "task": {"name": "hex_chain"},
        "model": {"size": model, "path": None}, "data": {"prompts_per_step": 16, "prompts_unique": unique},
        "optimizer": {"learning_rate": 5e-4}, "stop": {"steps": steps},
    }  # fmt: skip
    for part, values in (settings or {}).items():
        config[part] = {**config[part], **values}
    files.write_json(run / "config.json", {
        "schema_version": 1, "run_id": run_id, "name": f"{model}-s{seed}", "config": config,
        "model": {"name": model, "num_params": int(size * 1.1), "num_params_non_embedding": int(size)},
    })  # fmt: skip
    if done:
        record.finish(attempt, steps, {"steps": steps})
    return run


def write_cells(folder, cells, analysis=None):
    """cells: (run_id, stop steps) pairs."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text("study: tiny\n")
    (folder / "cells.json").write_text(json.dumps({
        "schema_version": 1, "study": "tiny", "analysis": analysis or {},
        "cells": [
            {"cell": f"c{i}", "block": "main", "axes": {}, "stop": {"steps": stop}, "run_id": run_id}
            for i, (run_id, stop) in enumerate(cells)
        ],
    }))  # fmt: skip
