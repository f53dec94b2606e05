"""Policies far from their start, prompts of every level and engines, for tests of sampler and trainer."""

import dataclasses

import torch

from scaling import rollouts
from scaling.config import HexChainConfig
from scaling.ladder import LADDER
from scaling.policy import build_policy
from scaling.rollout_types import SamplingParams, generator
from scaling.tasks import load_task

TASK = load_task(HexChainConfig())
SAMPLING = SamplingParams(1.0, 24, seed=3, purpose="rollout", step=5)


def prompts(count=6):
    """Problems of all levels, so of all lengths."""
    rng = generator(0, "prompts", 1)
    return [TASK.prompt(TASK.draw(rng, TASK.levels[i % len(TASK.levels)]), 10 + i) for i in range(count)]


def policy_of(rung, seed=0, end_bias=0.0, **changes):
    """A fresh policy whose weights are far from their start, so that layers and positions matter."""
    model = build_policy(dataclasses.replace(LADDER[rung], **changes), seed, pad_id=TASK.pad_id, end_id=TASK.end_id)
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=draws) * parameter.abs().mean().clamp(min=0.05)
        model.lm_head.weight[TASK.end_id] += end_bias  # some sequences end early, some never
    return model


def engine_with(name, model, version=7):
    engine = rollouts.load_engine(name, allowed_V=TASK.allowed_V, end_ids=TASK.end_ids)
    engine.load_weights(model, version)
    return engine
