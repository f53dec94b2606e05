"""Ten updates on the same rollouts, for tests/test_parallel.py: alone, or as one of several processes of torchrun.

Prints one JSON line from process 0 for each kind of update: losses, gradient norms and the sum of the final weights;
the share of all weights that this process holds, how many gradients there are to each piece of memory that holds
them, and in what dtype a layer has its weights in a pass.
"""

import json
import os
import sys

import numpy as np
import torch
from tiny_policies import SAMPLING, TASK, engine_with, policy_of, prompts

from scaling import logprobs
from scaling.algorithm.update import update_policy
from scaling.config.run import RunConfig
from scaling.optim import policy_optimizer
from scaling.parallel import Team
from scaling.policy import checkpoint_activations

WHOLE = logprobs.LOGITS_AT_A_TIME


def train(team: Team, mode: str, kind: str) -> None:
    limits = {"groups": {"micro_batch": 4}, "tokens": {"micro_batch_tokens": 150}}
    # Of groups the head is computed in pieces, and again in the backward pass.
    logprobs.LOGITS_AT_A_TIME = 20 * len(TASK.allowed_V) if kind == "groups" else WHOLE
    config = RunConfig.model_validate(
        {
            "model": {"size": "m", "dtype": "bfloat16" if kind == "half" else "float32"},
            "data": {"prompts_per_step": 6},
            # Of groups the trainer's own log-probs stand below the ratio: a pass of their own for later mini-batches.
            "loss": {"updates_per_batch": 3, "old_logprobs": "trainer"} if kind == "groups" else {},
            "rollout": {"group_size": 4},
            "resources": {
                "engine": "hf",
                "forward": "packed" if kind == "groups" else "plain",
                "parallel": mode,
                "gradient_checkpointing": kind == "groups",
                **limits.get(kind, {}),
            },
        }
    )
    policy = policy_of("m", end_bias=0.3)
    rollouts = engine_with("hf", policy).generate(prompts(), 4, SAMPLING)
    advantage_PG = np.random.default_rng(0).standard_normal((6, 4))
    advantage_PG[1] = 0  # a group that is left out
    advantage_PG[3:] *= 1 if kind != "whole" else np.array([[0], [0], [1]])  # some mini-batches are nearly empty
    policy = team.model(lambda _: policy)
    if kind == "groups":
        checkpoint_activations(policy)
    policy.register_buffer("kept", torch.full((3,), float(team.is_main or not team.sharded)))
    team.shard(policy)
    assert policy.kept.tolist() == [1.0] * 3, "a persistent buffer is that of process 0"
    del policy.kept
    optimizer = policy_optimizer(policy, config.optimizer)
    losses, norms, seen = [], [], set()
    policy.model.layers[0].register_forward_pre_hook(lambda layer, _: seen.add(str(layer.mlp.up_proj.weight.dtype)))
    for _ in range(10):
        update = update_policy(
            policy,
            optimizer,
            rollouts,
            advantage_PG,
            config,
            config.optimizer.learning_rate,
            TASK.allowed_V,
            None,
            team,
        )
        losses.append(update.loss)
        norms.append(update.row["gradient_norm"])
    counts = [(getattr(p, "_local_tensor", p).numel(), p.numel()) for p in policy.parameters()]
    held, every = map(sum, zip(*counts, strict=True))
    grads = [getattr(p.grad, "_local_tensor", p.grad).untyped_storage().data_ptr() for p in policy.parameters()]
    about = {"held": held / every, "grads_a_piece": len(grads) / len(set(grads)), "dtypes": sorted(seen)}
    whole = team.whole(policy)
    if whole is not None and team.is_main:
        weights = sum(float(value.double().abs().sum()) for value in whole.state_dict().values())
        of_all = {"losses": losses, "norms": norms, "weights": weights, "world": team.world}
        print(json.dumps({"kind": kind, **of_all, **about}))


def main(mode: str, kinds: list[str]) -> None:
    team = Team(mode, "cpu", "bfloat16" if kinds == ["half"] else "float32")
    for kind in kinds:
        train(team, mode, kind)
    team.close()
    sys.stdout.flush()
    os._exit(0)  # as scaling/__main__.py: torch's own threads may abort the interpreter's shutdown


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
