"""Optimizers: Muon and AdamW for making base models, AdamW for the policy, and their learning rates.

Dimension suffixes: see `scaling.rollout_types`.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from scaling.config.parts import OptimizerConfig
from scaling.ladder import BaseRecipe

# Muon for the matrices of a base model; the learning rates are in BaseRecipe.
MOMENTUM = 0.95
WARMUP_STEPS = 30
FINAL_SHARE = 0.05  # of the learning rate, where the linear decay ends
# Keller Jordan, "Muon: an optimizer for hidden layers in neural networks" (2024): a quintic whose five iterations
# bring every singular value near 1 (to about .7-1.2) as fast as possible.
NEWTON_SCHULZ_STEPS = 5
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrices_SIJ: torch.Tensor) -> torch.Tensor:
    """Replace the singular values of each matrix (S, I, J), I <= J, by values near 1, in float32."""
    a, b, c = NEWTON_SCHULZ
    x_SIJ = matrices_SIJ / matrices_SIJ.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram_SII = x_SIJ @ x_SIJ.mT
        polynomial_SII = torch.baddbmm(gram_SII, gram_SII, gram_SII, beta=b, alpha=c)
        x_SIJ = torch.baddbmm(x_SIJ, polynomial_SII, x_SIJ, beta=a)
    return x_SIJ


class Muon(torch.optim.Optimizer):
    """Muon (Jordan 2024): nesterov momentum, orthogonalised; update scaled by sqrt(max(1, rows / columns)).

    torch.optim.Muon (torch 2.9) does the same matrix by matrix in bfloat16, which costs 8 to 17 times the CPU time on
    the small models of the ladder: here in float32, and matrices of equal shape (or of its transpose) go together.
    """

    def __init__(self, params, lr: float, momentum: float = MOMENTUM):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        assert closure is None, "Muon takes no closure"
        for group in self.param_groups:
            stacks: dict[tuple[int, int], list[nn.Parameter]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    stacks.setdefault((min(p.shape), max(p.shape)), []).append(p)
            for stack in stacks.values():
                self._step_stack(stack, group["lr"], group["momentum"])

    def _step_stack(self, params_S: list[nn.Parameter], lr: float, momentum: float) -> None:
        updates_S = []
        for p in params_S:
            assert p.grad is not None
            state = self.state[p]
            if not state:
                state["momentum"] = torch.zeros_like(p)
            state["momentum"].lerp_(p.grad, 1 - momentum)
            update_IJ = p.grad.lerp(state["momentum"], momentum)
            updates_S.append(update_IJ if p.shape[0] <= p.shape[1] else update_IJ.T)
        for p, update_IJ in zip(params_S, orthogonalize(torch.stack(updates_S).float()), strict=True):
            rows, columns = p.shape
            scale = math.sqrt(max(1.0, rows / columns))
            p.add_(update_IJ if rows <= columns else update_IJ.T, alpha=-lr * scale)


class BaseOptimizers:
    """Muon for the matrices, AdamW for embeddings, norms and biases; `step(iteration)` sets both learning rates."""

    def __init__(self, model: nn.Module, recipe: BaseRecipe):
        tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
        matrices = [p for p in model.parameters() if p.ndim == 2 and id(p) not in tables]
        others = [p for p in model.parameters() if p.ndim != 2 or id(p) in tables]
        self.iterations = recipe.iterations + recipe.leaping_iterations
        self.peaks = [recipe.matrix_learning_rate, recipe.other_learning_rate]
        self.optimizers = [
            Muon(matrices, lr=recipe.matrix_learning_rate),
            torch.optim.AdamW(others, lr=recipe.other_learning_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
        ]

    def step(self, iteration: int) -> None:
        """One update; `iteration` counts from 0 over both phases of the recipe."""
        for optimizer, peak in zip(self.optimizers, self.peaks, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * base_schedule(iteration, self.iterations)
            optimizer.step()

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()


def base_schedule(iteration: int, iterations: int) -> float:
    """Share of the peak learning rate: linear warm-up, then linear decay to FINAL_SHARE at the last iteration."""
    warmup = min(1.0, (iteration + 1) / WARMUP_STEPS)
    return warmup * (1 - (1 - FINAL_SHARE) * iteration / max(1, iterations - 1))


def base_optimizers(model: nn.Module, recipe: BaseRecipe) -> BaseOptimizers:
    return BaseOptimizers(model, recipe)


def policy_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over every parameter; the trainer sets its learning rate at each step."""
    return torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
        fused=True,
    )


def learning_rate(config: OptimizerConfig, step: int, horizon: int | None) -> float:
    """Learning rate of `step` (1 = the first update): warm-up step / warmup_steps, then the schedule.

    linear and cosine fall from the end of the warm-up to 0 at `horizon`, the stop in steps.
    """
    peak, warmup = config.learning_rate, config.warmup_steps
    if step < warmup:
        return peak * step / warmup
    if config.schedule == "constant":
        return peak
    assert horizon is not None, "a schedule with an end needs stop.steps"
    share = min(1.0, (step - warmup) / max(1, horizon - warmup))
    return peak * (1 - share) if config.schedule == "linear" else peak * 0.5 * (1 + math.cos(math.pi * share))
