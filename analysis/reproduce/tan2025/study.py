"""The reference study: its shipped curves, the fits that tables share, and what the publication prints.

Each published number stands in `PUBLISHED` and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Unpack

from analysis.curves.frame import Curves
from analysis.curves.load import load
from analysis.fitting.choices import Choices, Given, choose
from analysis.fitting.record import Fit
from analysis.intervals.fitted import fit_with_intervals
from analysis.reproduce.tan2025.decomposition import Decomposition, decompose

SOURCES = {
    "base": "reference:qwen2.5_base",
    "replicates": "reference:qwen2.5_base_replicates",
    "reuse": "reference:qwen2.5_base_reuse",
    "group_size": "reference:qwen2.5_base_group_size",
}
# What the study prints: (Kmax, N0 in 1e9, R2) by axis and protocol; final test loss by size in 1e9; the range of the
# standard deviation over repeats; the reuse up to which the final loss is flat.
PUBLISHED = {
    "fits": {
        ("train_flops", "intra"): (0.135, 13.1, 0.996),
        ("train_flops", "inter"): (0.152, 17.4, 0.994),
        ("prompts_seen", "intra"): (0.135, 11.5, 0.995),
        ("prompts_seen", "inter"): (0.163, 17.0, 0.995),
    },
    "final": {0.5: 0.942, 1.5: 0.913, 3: 0.858, 7: 0.715, 14: 0.605, 32: 0.494, 72: 0.436},
    "sd": (0.006, 0.015),
    "flat_reuse": 25,
}
PROTOCOLS = {
    "intra": ("first part of every curve (last 80 points dropped)", Choices(objective="linear", points=":-80")),
    "inter": ("0.5B-32B, all points", Choices(objective="linear", where="num_params <= 32e9")),
}
AXES = {"train_flops": "C", "prompts_seen": "D"}
WINDOWS = ("1:", "5:", "11:", "25:", "1:50", "11:50", "40:60")


class Study:
    """The curves of the study and the fits that several tables share, each made once."""

    def __init__(self, curves: Mapping[str, Curves] | None = None):
        given = curves or {}
        self.curves = {name: given.get(name) or load(source) for name, source in SOURCES.items()}
        self._fits: dict[Choices, Fit] = {}

    @cached_property
    def decomposition(self) -> Decomposition:
        return decompose(self.curves["base"])

    def fit(self, **given: Unpack[Given]) -> Fit:
        return self.fit_choices(choose(given))

    def fit_choices(self, choices: Choices) -> Fit:
        if choices not in self._fits:
            self._fits[choices] = fit_with_intervals(self.curves["base"], choices)
        return self._fits[choices]


def perturbed(study: Mapping[str, Curves], factor: float) -> dict[str, Curves]:
    """The curves with every test loss moved towards 1 by a share: for a check that ours moves and the published not."""
    return {
        name: replace(c, table=c.table.assign(test_loss=1 - (1 - c.table["test_loss"]) * factor))
        for name, c in study.items()
    }
