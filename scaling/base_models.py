"""Base models: artefacts made once per recipe (task, size, base seed), shared by the runs that start from them.

A base is trained on demonstrations, Muon for matrices and AdamW for the rest, the same number for every size. Its
folder `artifacts/<hash of the recipe>/` is an ordinary transformers folder plus `base.json`; it appears by one rename,
so it is whole or absent.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from scaling import files
from scaling.config.identity import base_id, base_recipe
from scaling.config.run import RunConfig
from scaling.ladder import LADDER
from scaling.optim import base_optimizers
from scaling.policy import build_policy, count_parameters, load_policy, save_policy
from scaling.rollout_types import Task
from scaling.schema import InputError
from scaling.tasks import load_task

BASE = "base.json"
WEIGHTS = "model.safetensors"
GRADIENT_CLIP = 1.0
SAID_EVERY = 50  # iterations


def ensure_base(config: RunConfig, artifacts: Path) -> Path:
    """The folder of the run's base model; makes it if it is not there. Two processes make it once."""
    folder = artifacts / base_id(config)
    with files.exclusive(artifacts / f"{folder.name}.lock"):
        if not folder.exists():
            make_base(config, folder)
    return folder


def make_base(config: RunConfig, folder: Path) -> None:
    """Train the base model from scratch and put its folder in place atomically."""
    assert config.model.size is not None
    started, started_cpu = time.monotonic(), time.process_time()
    task = load_task(config.task)
    model = build_policy(
        LADDER[config.model.size], config.base_seed,
        pad_id=task.pad_id, end_id=task.end_ids[0], vocabulary=config.task.VOCABULARY,
    )  # fmt: skip
    losses = train_on_demonstrations(model, task, config)

    for stale in folder.parent.glob(f".{folder.name}.*"):  # of makers that died; the lock is ours
        shutil.rmtree(stale)
    aside = files.beside(folder)
    save_policy(model, aside)
    num_params, non_embedding = count_parameters(model)
    files.write_json(
        aside / BASE,
        {
            "recipe": base_recipe(config),
            "name": f"{config.model.size}-seed{config.base_seed}",
            "num_params": num_params,
            "num_params_non_embedding": non_embedding,
            "weights_sha256": files.sha256(aside / WEIGHTS),
            "loss_first": losses[0] if losses else None,
            "loss_last": losses[-1] if losses else None,
            "timing": {
                "wall_seconds": time.monotonic() - started,
                "cpu_seconds": time.process_time() - started_cpu,
            },
        },
    )
    files.fsync_tree(aside)
    os.rename(aside, folder)
    files.fsync_folder(folder.parent)


def load_base(config: RunConfig, artifacts: Path, device: str = "cpu") -> PreTrainedModel:
    """The model that the run starts from: its base, made if need be and checked, or the folder at model.path."""
    if config.model.folder is not None:
        return load_policy(Path(config.model.folder), device=device)
    folder = ensure_base(config, artifacts)
    expected = (files.read_json(folder / BASE) or {}).get("weights_sha256")
    if expected != files.sha256(folder / WEIGHTS):
        raise InputError(f"{folder}: the weights are not the ones that were made (hash differs); delete the folder.")
    return load_policy(folder, device=device)


def train_on_demonstrations(model: PreTrainedModel, task: Task, config: RunConfig) -> list[float]:
    """Next-token cross-entropy on the response tokens of demonstrations; returns the loss of each iteration."""
    recipe = config.model.base
    iterations = recipe.iterations + recipe.leaping_iterations
    optimizer = base_optimizers(model, recipe)
    losses = []
    model.train()
    for iteration in range(iterations):
        pairs = task.demonstrations(config.base_seed, iteration, recipe)
        width = max(len(prompt) + len(response) for prompt, response in pairs)
        tokens_BT = np.zeros((len(pairs), width), dtype=np.int64)
        target_BT = np.zeros((len(pairs), width), dtype=bool)
        for b, (prompt, response) in enumerate(pairs):
            tokens_BT[b, : len(prompt) + len(response)] = prompt + response
            target_BT[b, len(prompt) : len(prompt) + len(response)] = True
        tokens = torch.from_numpy(tokens_BT)
        # The padding is on the right: a causal model cannot see it from a target.
        logits_BTV = model(input_ids=tokens[:, :-1]).logits
        wanted = torch.from_numpy(target_BT[:, 1:])
        loss = torch.nn.functional.cross_entropy(logits_BTV[wanted], tokens[:, 1:][wanted])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_CLIP)
        optimizer.step(iteration)
        losses.append(loss.item())
        if (iteration + 1) % SAID_EVERY == 0:
            print(f"iteration {iteration + 1} of {iterations}, loss {losses[-1]:.3f}", file=sys.stderr, flush=True)
    model.eval()
    return losses
