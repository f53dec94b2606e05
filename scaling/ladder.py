"""The ladder of small policies that the shipped studies train: Qwen2 architecture, one token per symbol."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rung:
    """One size: multi-head attention, tied embeddings, rope_theta 100 (10,000 learns far worse on short sequences)."""

    name: str
    width: int
    layers: int
    heads: int
    feed_forward: int

    @property
    def init_std(self) -> float:
        return 0.05 if self.width < 128 else 0.02


ROPE_THETA = 100.0
VOCABULARY = 32  # the task's symbols, padded

LADDER: dict[str, Rung] = {
    rung.name: rung
    for rung in [
        Rung("us", 16, 2, 2, 32),
        Rung("xs", 32, 2, 2, 64),
        Rung("s", 48, 2, 3, 128),
        Rung("m", 64, 3, 4, 176),
        Rung("l", 96, 3, 4, 256),
        Rung("xl", 128, 4, 4, 352),
    ]
}
