"""Hold points out before anything is fitted, and score their prediction: no fit uses a value of a held-out point.

- `intra:F`: fit the first fraction F of each curve's points, predict the rest of the same curves.
- `inter`: fit every size but the largest, predict the largest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from scaling.schema import InputError, did_you_mean


@dataclass(frozen=True)
class Split:
    """How points are held out: kind `none`, `inter` or `intra`; `fraction` of each curve that is fitted (intra)."""

    kind: str = "none"
    fraction: float = 1.0

    @property
    def text(self) -> str:
        return f"intra:{self.fraction:g}" if self.kind == "intra" else self.kind


def parse_split(text: str) -> Split:
    """A Split from `none`, `inter` or `intra:FRACTION`. Raises InputError."""
    if text in ("none", "inter"):
        return Split(text)
    kind, _, fraction = text.partition(":")
    legal = "none, inter, intra:FRACTION with a fraction between 0 and 1 (intra:0.3)"
    if kind != "intra":
        raise InputError(
            f"split: {text!r} is not a split; there are {legal}.{did_you_mean(kind, ['none', 'inter', 'intra'])}"
        )
    try:
        value = float(fraction)
    except ValueError:
        value = float("nan")
    if not 0 < value < 1:
        raise InputError(f"split: {text!r} has no legal fraction; there are {legal}.")
    return Split("intra", value)


def held_out(split: Split, run: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Mask of the held-out points; points stand in order of step within their run.

    Args:
        run: index of the run of each point, (n,).
        size: index of the size of each point, ascending with size, (n,).
    """
    if split.kind == "none":
        return np.zeros(len(run), bool)
    if split.kind == "inter":
        if size.max() < 2:
            raise InputError(
                f"split: inter needs three sizes or more, the data have {size.max() + 1}; use intra:FRACTION."
            )
        return size == size.max()
    count = np.bincount(run)
    order = np.arange(len(run)) - np.concatenate([[0], np.cumsum(count)])[run]  # 0, 1, 2, ... in each run
    fitted = np.floor(split.fraction * count + 1e-9)
    if (fitted < 2).any():
        raise InputError(
            f"split: intra:{split.fraction:g} leaves {int(fitted.min())} of {count[fitted.argmin()]} points to fit "
            "in a curve, a line needs two; raise the fraction."
        )
    return order >= fitted[run]


def rmse(residual: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(residual))))


def score(
    ln_loss: np.ndarray,
    predictions: dict[str, np.ndarray | None],
    x: np.ndarray,
    x_fitted: np.ndarray,
) -> dict[str, Any]:
    """Held-out errors of a law beside the baselines that know no law.

    Args:
        ln_loss: ln of the observed test loss of the held-out points, (n,).
        predictions: ln of the predicted loss by name, (n,) each, or None where a rule cannot predict.
        x: X of the held-out points, (n,); x_fitted: the largest fitted X of the curve of each, (n,).

    Returns:
        `n_points`, `rmse_ln_loss` and `bias_ln_loss` by name, `x_factor`: how far X is extrapolated at most.
    """
    known = {name: None if p is None else p - ln_loss for name, p in predictions.items()}
    return {
        "n_points": len(ln_loss),
        "rmse_ln_loss": {name: None if r is None else rmse(r) for name, r in known.items()},
        "bias_ln_loss": {name: None if r is None else float(np.mean(r)) for name, r in known.items()},
        "x_factor": float(np.max(x / x_fitted)),
    }
