"""Rollout engines: `scaling/rollouts/<name>.py` provides `Engine`, which keeps to rollout_types.RolloutEngine."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence

import numpy as np

from scaling.rollout_types import RolloutEngine
from scaling.schema import check_name


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
    check_name(name, sorted(module.name for module in pkgutil.iter_modules(__path__)), "rollout engine")
    module = importlib.import_module(f"{__name__}.{name}")
    return module.Engine(allowed_V=allowed_V, end_ids=end_ids, dtype=dtype, device=device)
