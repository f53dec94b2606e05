"""Rollout engines: `scaling/rollouts/<name>.py` provides `Engine`, which keeps to rollout_types.RolloutEngine.

The class says what it can: EXACT_DRAWS, whether each token is drawn by inverse CDF of the uniforms that it is given, so
that a response is a function of weights and seed; ANY_MODEL, whether it samples from any causal LM of transformers.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scaling.fields import defined
from scaling.rollout_types import RolloutEngine
from scaling.schema import check_name


@functools.cache
def engine_names() -> list[str]:
    """Names of the engines: the files of this folder that define `Engine`."""
    return [path.stem for path in sorted(Path(__file__).parent.glob("*.py")) if defined(path, r"class Engine\b")]


def engine_class(name: str) -> Any:
    """The class `Engine` of that name. Raises InputError naming the engines there are."""
    check_name(name, engine_names(), "rollout engine")
    return importlib.import_module(f"{__name__}.{name}").Engine


def load_engine(
    name: str,
    *,
    allowed_V: np.ndarray,
    end_ids: Sequence[int],
    dtype: str = "float32",
    device: str | None = None,
) -> RolloutEngine:
    """The engine of that name, without weights yet.

    allowed_V: ids that may be sampled; end_ids end a response; dtype, device: of the sampler's copy of the weights
    (null: the device of the policy that it copies).
    """
    return engine_class(name)(allowed_V=allowed_V, end_ids=end_ids, dtype=dtype, device=device)
