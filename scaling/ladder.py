"""The ladder of small policies that the shipped studies train, and the recipe by which their bases are made.

Qwen2 architecture, one token per symbol of the task.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from scaling.fields import Float, Int, Part


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
MAX_POSITIONS = 512  # told to other tools by the exported config; RoPE itself has no table of positions
VOCABULARY = 32  # rows of the embedding table, where a task's config declares no other number

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


class BaseRecipe(Part):
    """How a base model is made: demonstrations first with every step written, then with the habit of leaping.

    What a leap is, the task says; a task without leaps has the same demonstrations throughout.
    """

    iterations: Int = Field(default=600, ge=0)
    leaping_iterations: Int = Field(default=100, ge=0)
    batch_size: Int = Field(default=64, ge=1)
    value_share: Float = Field(default=0.65, ge=0, le=1)
    """Probability that a value is written after an operation in the leaping phase."""
    matrix_learning_rate: Float = Field(default=0.02, gt=0)
    """Muon, for matrices."""
    other_learning_rate: Float = Field(default=5e-3, gt=0)
    """AdamW, for embeddings, norms and biases."""
