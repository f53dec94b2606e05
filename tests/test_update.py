"""Several optimizer steps per rollout batch, end to end, against a loop in float64 that knows nothing of ours."""

import copy
import math

import numpy as np
import pytest
import torch

from scaling import files, schema, trainer
from scaling.config.run import RunConfig
from scaling.tasks import load_task

CONFIG = {
    "model": {"size": "us", "base": {"iterations": 60, "leaping_iterations": 10, "batch_size": 32}},
    "data": {"prompts_per_step": 4},
    "rollout": {"group_size": 6, "temperature": 0.9},
    "evaluation": {"problems": 4},
    "optimizer": {"learning_rate": 0.005, "warmup_steps": 0, "weight_decay": 0.1, "beta2": 0.999},
    "stop": {"steps": 2},
    "seed": 3,
}


def loop(model, reference, moments, rollouts, advantage_PG, config, rate):
    """One rollout batch: every sequence alone, token by token; returns (gradient norms, clipped, k3 sum, tokens)."""
    task, loss, group = load_task(config.task), config.loss, rollouts.group_size
    allowed = np.flatnonzero(task.allowed_V)
    norms, clipped, kl_sum, tokens = [], 0, 0.0, 0

    def logprobs(of, b):
        prompt, response = rollouts.prompts[b // group].tokens, rollouts.responses[b]
        logits_TV = of(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
        logprobs_TA = torch.log_softmax(logits_TV[:, allowed] / config.rollout.temperature, -1)
        return logprobs_TA[range(len(response)), np.searchsorted(allowed, response)]

    for chunk in np.split(np.arange(len(rollouts.prompts)), loss.updates_per_batch):
        rows = [p * group + g for p in chunk for g in range(group)]
        total = sum(int(rollouts.lengths_B[b]) for b in rows)
        model.zero_grad()
        for b in rows:
            advantage, objective = float(advantage_PG.ravel()[b]), 0.0
            with torch.no_grad():
                base_T = logprobs(reference, b)
            for new, old, base in zip(logprobs(model, b), rollouts.logprobs_BT[b], base_T, strict=False):
                ratio = torch.exp(new - float(old))
                bound = min(max(ratio.item(), 1 - loss.clip_low), 1 + loss.clip_high)
                cut = bound * advantage < ratio.item() * advantage
                value = ratio.new_tensor(bound * advantage) if cut else ratio * advantage
                if advantage < 0 and value.item() < loss.dual_clip * advantage:
                    value, cut = ratio.new_tensor(loss.dual_clip * advantage), True
                away = base - new
                objective = objective + value - loss.kl_weight * (torch.exp(away) - away - 1)
                clipped, tokens = clipped + cut, tokens + 1
                kl_sum += ratio.item() - 1 - math.log(ratio.item())
            (-objective / total).backward()
        parameters = list(model.parameters())
        norm = math.sqrt(sum(float((p.grad**2).sum()) for p in parameters))
        norms.append(norm)
        settings, scale = config.optimizer, min(1.0, config.optimizer.gradient_clip / (norm + 1e-6))
        moments["t"] = t = moments.get("t", 0) + 1
        with torch.no_grad():
            for i, p in enumerate(parameters):  # AdamW (Loshchilov and Hutter 2019)
                gradient = p.grad * scale
                first, second = moments.get(i, (torch.zeros_like(p), torch.zeros_like(p)))
                first = settings.beta1 * first + (1 - settings.beta1) * gradient
                second = settings.beta2 * second + (1 - settings.beta2) * gradient**2
                moments[i] = first, second
                p *= 1 - rate * settings.weight_decay
                step = first / (1 - settings.beta1**t)
                p -= rate * step / ((second / (1 - settings.beta2**t)).sqrt() + 1e-8)
    return norms, clipped, kl_sum, tokens


def test_updates_with_the_clip_active_are_those_of_a_float64_loop(tmp_path, monkeypatch):
    loss = {"updates_per_batch": 4, "clip_high": 0.28, "dual_clip": 1.5, "kl_weight": 0.05}
    config = RunConfig.model_validate({**CONFIG, "loss": loss})
    calls, original = [], trainer.update_policy

    def watched(policy, optimizer, rollouts, advantage_PG, config, rate, allowed_V, *rest):
        # Made up, so that each mini-batch has a gradient: Adam would make steps of the rounding of a zero one.
        advantage_PG = np.random.default_rng(len(calls)).standard_normal(advantage_PG.shape)
        before = copy.deepcopy(policy.state_dict())
        result = original(policy, optimizer, rollouts, advantage_PG, config, rate, allowed_V, *rest)
        after = copy.deepcopy(policy.state_dict())
        calls.append((policy, rest[0], before, after, rollouts, advantage_PG, rate))
        return result

    monkeypatch.setattr(trainer, "update_policy", watched)
    trainer.train_run(config, tmp_path / "run", tmp_path)
    rows = files.read_rows(tmp_path / "run" / schema.CURVE)[1:]
    policy, reference, before = calls[0][:3]
    model = copy.deepcopy(policy).double()
    model.load_state_dict(before)
    reference, moments = copy.deepcopy(reference).double(), {}
    for row, (_, _, before, after, rollouts, advantage_PG, rate) in zip(rows, calls, strict=True):
        norms, clipped, kl_sum, tokens = loop(model, reference, moments, rollouts, advantage_PG, config, rate)
        assert row["clip_share"] == pytest.approx(clipped / tokens, abs=2.5 / tokens)  # a ratio may lie on the edge
        assert row["kl"] == pytest.approx(kl_sum / tokens, rel=1e-4)
        assert row["gradient_norm"] == pytest.approx(np.mean(norms), rel=1e-4)
        moved = sum(float((after[name] - before[name]).norm() ** 2) for name in after) ** 0.5
        apart = sum(float((value - after[name]).norm() ** 2) for name, value in model.state_dict().items()) ** 0.5
        assert apart < 1e-3 * moved, (apart, moved)
    assert max(row["clip_share"] for row in rows) > 0.03  # active, or this would test nothing
